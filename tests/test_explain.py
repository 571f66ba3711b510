"""Class activation maps."""
import matplotlib.image
import numpy as np
import pytest
import timm
import torch
from PIL import Image

pytest.importorskip('pytorch_grad_cam', reason='needs the extra explain')

from gradaug_timm.explain.main import main
from gradaug_timm.explain.maps import activation_map, last_map


@pytest.fixture
def files(tmp_path):
    torch.manual_seed(0)
    for name in ('one', 'two'):
        torch.save({'state_dict': timm.create_model('resnet10t', num_classes=3).state_dict()}, tmp_path / f'{name}.pth')
    (tmp_path / 'images' / 'cat').mkdir(parents=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'images' / 'cat' / f'{number}.png')
    return tmp_path


def command(files, *more):
    return [str(files / 'one.pth'), str(files / 'two.pth'), '--model', 'resnet10t', '--num-classes', '3', '--img-size',
            '64', '--images', str(files / 'images'), '--output', str(files / 'grid.png'), *more]


def formula(network, image, label):
    """Grad-CAM, equations 1 and 2."""
    features = network.forward_features(image)
    features.retain_grad()
    network.forward_head(features)[0, label].backward()
    return (features.grad.mean((2, 3), keepdim=True) * features).sum(1).relu()[0].detach()


def test_the_map_is_that_of_the_formula():
    torch.manual_seed(0)
    network = timm.create_model('resnet10t', num_classes=8).eval()
    image = torch.rand(1, 3, 96, 96)
    label, expected = next((label, values) for label in range(8) for values in [formula(network, image, label)]
                           if (values > 0).sum() > 2)
    enlarged = torch.nn.functional.interpolate(scaled(expected)[None, None], (96, 96), mode='bilinear')[0, 0]
    found = activation_map(network, image, label=label, method='gradcam')
    assert np.allclose(found, scaled(enlarged).numpy(), atol=1e-3)


def scaled(values):
    values = values - values.min()
    return values / values.max()


@pytest.mark.parametrize('name, channels', [('resnet10t', 512), ('convnext_atto', 320), ('densenet121', 1024)])
def test_the_last_layer_gives_the_features(name, channels):
    network = timm.create_model(name).eval()
    layer, reshape = last_map(network, torch.rand(1, 3, 64, 64))
    seen = []
    layer.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    network(torch.rand(1, 3, 64, 64))
    assert reshape is None
    assert seen[0].shape[1] == channels


def test_the_grid_has_a_column_for_each_checkpoint_and_sub_network(files, capsys):
    main(command(files, '--width', '0.5'))
    assert '2 images, 4 networks' in capsys.readouterr().out
    wide = matplotlib.image.imread(files / 'grid.png').shape
    main(command(files, '--overwrite', '--limit', '1'))
    narrow = matplotlib.image.imread(files / 'grid.png').shape
    assert wide[1] / narrow[1] == pytest.approx(5 / 3, abs=0.02)
    assert wide[0] / narrow[0] == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize('more, message', [
    (['--class', '3'], '--class 3 must be a number below 3'),
    (['--images', 'nowhere'], '--images nowhere holds no images'),
    (['--model', 'vit_tiny_patch16_224'], 'doesn\'t fit --model'),
    (['--method', 'gradcan'], 'did you mean gradcam?'),
    (['--output', 'x.jpg'], 'must end in .png'),
])
def test_wrong_flags_end_in_one_line(files, capsys, more, message):
    with pytest.raises(SystemExit) as raised:
        main(command(files, *more))
    assert raised.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_damaged_image_and_an_existing_picture_are_named(files, capsys):
    (files / 'images' / 'cat' / '0.png').write_bytes(b'no image')
    with pytest.raises(SystemExit):
        main(command(files))
    assert '0.png can\'t be read as an image' in capsys.readouterr().err
    (files / 'grid.png').write_bytes(b'mine')
    Image.new('RGB', (64, 64)).save(files / 'images' / 'cat' / '0.png')
    with pytest.raises(SystemExit):
        main(command(files))
    assert (files / 'grid.png').read_bytes() == b'mine'
    assert 'grid.png' in capsys.readouterr().err.strip().splitlines()[-1]


def test_networks_of_tokens_are_refused():
    with pytest.raises(ValueError, match='has no last map of features'):
        last_map(timm.create_model('vit_tiny_patch16_224').eval(), torch.rand(1, 3, 224, 224))
