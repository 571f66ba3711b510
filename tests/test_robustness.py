"""The command that measures errors under corruption and attacks."""
import csv
import json
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from gradaug_timm.evaluation.corruptions import COMMON, EXTRA, Corrupted, corrupted
from gradaug_timm.evaluation.main import main
from gradaug_timm.evaluation.mce import mce, mean_errors, relative_mce

needs_corruptions = pytest.mark.skipif(
    not __import__('importlib.util').util.find_spec('imagecorruptions'), reason='needs the extra robustness')


def test_mce_is_the_mean_of_ratios():
    errors = mean_errors({('fog', 1): 20., ('fog', 5): 40., ('snow', 1): 50., ('snow', 5): 70.})
    assert errors == {'fog': 30., 'snow': 60.}
    assert mce(errors, {'fog': 60., 'snow': 80.}) == pytest.approx(100 * (0.5 + 0.75) / 2)
    assert relative_mce(errors, 10., {'fog': 60., 'snow': 80.}, 20.) == pytest.approx(100 * (20 / 40 + 50 / 60) / 2)
    assert relative_mce(errors, 10., {'fog': 60., 'snow': 20.}, 20.) is None


@needs_corruptions
@pytest.mark.parametrize('name', [*COMMON, *EXTRA])
def test_a_corruption_follows_from_its_seed(name):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    first, again = (np.asarray(corrupted(image, name, 3, seed=5)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, np.asarray(image))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('robust')
    random = np.random.default_rng(0)
    for label in ('a', 'b'):
        (root / 'validation' / label).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                root / 'validation' / label / f'{number}.png')
    torch.manual_seed(0)
    for name in ('one', 'two'):
        torch.save({'state_dict': timm.create_model('resnet10t', num_classes=2).state_dict()}, root / f'{name}.pth')
    return root


def flags(folder, *more):
    return ['--data-dir', str(folder), '--model', 'resnet10t', '--num-classes', '2', '--input-size', '3', '32', '32',
            '--crop-pct', '1', '--checkpoint', str(folder / 'one.pth'), '--batch-size', '4', '--workers', '0', *more]


def results(capsys):
    return json.loads(capsys.readouterr().out.split('--result\n')[1])


@needs_corruptions
def test_two_checkpoints_stand_side_by_side(folder, tmp_path, capsys):
    other = str(folder / 'two.pth')
    main(flags(folder, '--corruptions', 'fog', 'pixelate', '--severities', '1', '5', '--fgsm-eps', '0.1', '--compare',
               other, '--mce-baseline', other, '--robustness-dir', str(tmp_path / 'out'),
               '--results-file', str(tmp_path / 'results.csv')))
    printed = capsys.readouterr().out
    head, *rows = printed.split('\n\n')[0].splitlines()
    assert 'one.pth' in head and 'two.pth' in head
    titles = [row.split('  ')[0].strip() for row in rows if 'relative' not in row]
    assert titles == ['clean', 'fog', 'pixelate', 'mean of corruptions', 'mCE', 'fgsm_0.1']
    found = json.loads(printed.split('--result\n')[1])
    assert found[1]['mce'] == pytest.approx(100)
    with open(tmp_path / 'out' / 'errors.csv') as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (1 + 2 * 2 + 1)
    assert {line['corruptions'] for line in lines} == {'generated with the parameters of ImageNet-C'}
    assert (tmp_path / 'out' / 'errors.png').stat().st_size > 1000
    with open(tmp_path / 'results.csv') as file:
        assert len(list(csv.DictReader(file))) == 2


@needs_corruptions
def test_neither_batches_nor_workers_change_what_is_seen(folder):
    from timm.data import create_dataset, create_loader
    batches = []
    for batch_size, workers in ((6, 0), (2, 2)):
        dataset = Corrupted(create_dataset('', root=str(folder), split='validation'), 'glass_blur', 2, seed=1, side=32)
        loader = create_loader(dataset, (3, 32, 32), batch_size, num_workers=workers, device=torch.device('cpu'),
                               crop_pct=1., persistent_workers=False)
        batches.append(torch.cat([images for images, _ in loader]))
    assert torch.equal(*batches)


@needs_corruptions
def test_a_folder_of_imagenet_c_gives_what_is_made_on_the_fly(folder, tmp_path, capsys):
    from timm.data import create_dataset

    from gradaug_timm.seeding import seed_of
    clean = create_dataset('', root=str(folder), split='validation')
    for index in range(len(clean)):
        image, label = clean[index]
        target = tmp_path / 'frost' / '4' / 'ab'[label]
        target.mkdir(parents=True, exist_ok=True)
        corrupted(image, 'frost', 4, seed_of(42, 'frost', 4, index)).save(target / f'{index}.png')
    common = flags(folder, '--corruptions', 'frost', '--severities', '4')
    main(common)
    made = results(capsys)
    main([*common, '--corruptions-dir', str(tmp_path)])
    read = results(capsys)
    made[0].pop('corruptions')
    assert read[0].pop('corruptions') == str(tmp_path)
    assert made == read
    shutil.rmtree(tmp_path / 'frost' / '4' / 'b')
    with pytest.raises(SystemExit):
        main([*common, '--corruptions-dir', str(tmp_path)])
    assert 'other folders of classes' in capsys.readouterr().err


@pytest.mark.parametrize('more, message', [
    (['--corruptions', 'fogg'], 'did you mean fog?'),
    (['--corruptions', 'fog', '--severities', '6'], '--severities'),
    (['--pgd-steps', '3'], '--pgd-steps needs --fgsm-eps'),
    (['--compare', 'x.pth'], '--compare needs --corruptions or --fgsm-eps'),
    (['--fgsm-eps', '0.1', '--amp'], '--fgsm-eps needs gradients in float32'),
    (['--fgsm-eps', '0.1', '--compare', 'gone.pth'], 'gone.pth does not exist'),
    (['--corruptions', 'fog', '--mce-baseline', 'alexnet'], 'has errors for ImageNet\'s 1000 classes, not for 2'),
    (['--corruptions', 'fog', '--corruptions-dir', '.'], './fog/1 does not exist'),
    (['--corruptions', 'fog', '--width', '0.5'], 'exclude --width'),
])
def test_wrong_flags_end_in_one_line(folder, capsys, more, message):
    pytest.importorskip('imagecorruptions', reason='needs the extra robustness')
    with pytest.raises(SystemExit) as raised:
        main(flags(folder, *more))
    assert raised.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


@needs_corruptions
@pytest.mark.parametrize('mode', ['L', 'LA', 'RGBA', 'CMYK', 'YCbCr', 'HSV'])
def test_corrupted_images_keep_their_mode(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    changed = corrupted(image, 'gaussian_noise', 3, seed=5)
    assert changed.mode == mode and changed.size == image.size
    assert changed.tobytes() != image.tobytes()
    if 'A' in image.getbands():
        assert changed.getchannel('A').tobytes() == image.getchannel('A').tobytes()


@needs_corruptions
def test_noise_of_grey_images_is_as_strong_as_that_of_each_colour():
    noisy = np.asarray(corrupted(Image.new('L', (64, 64), 128), 'gaussian_noise', 1, seed=5)) / 255
    assert noisy.std() == pytest.approx(0.08, rel=0.05)  # as published for severity 1
