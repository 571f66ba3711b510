"""Evaluation leaves out unreadable images: counted, named and without effect on the results, for every reader."""
import io
import json
import logging
import tarfile

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_loader
from train_helpers import make_image_folder, read_summary, train

from gradaug_timm import EvaluationSettings, evaluate
from gradaug_timm.data import ReadableDataset, ReadRows, create_dataset, leave_out_unreadable
from gradaug_timm.data.guarded import ReadingError, TransformError
from gradaug_timm.data.images import read_image
from gradaug_timm.evaluation.metrics import Metrics

NETWORK = dict(num_classes=2, depth=8)


def coloured_folder(root, images=6):
    """Images of random pixels, so that each has its own loss."""
    make_image_folder(root, images=images)
    draw = np.random.default_rng(0)
    for path in sorted(root.rglob('*.png')):
        Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    return root


def network():
    torch.manual_seed(0)
    return timm.create_model('resnet20_cifar', **NETWORK).eval()


def results(folder, **settings):
    values = {'img_size': 16, 'workers': 0, 'device': 'cpu', 'batch_size': 3, **settings}
    return evaluate(EvaluationSettings(data_dir=str(folder), **values), network())[0]


def spoil(folder, names=('a/0', 'a/1', 'a/5', 'b/2')):
    for name in names:
        (folder / 'validation' / f'{name}.png').write_text('no image')


@pytest.fixture
def spoilt(tmp_path):
    """A folder with four unreadable images, and one without these images."""
    whole, left = coloured_folder(tmp_path / 'whole'), coloured_folder(tmp_path / 'left')
    spoil(whole)
    for name in ('a/0', 'a/1', 'a/5', 'b/2'):
        (left / 'validation' / f'{name}.png').unlink()
    return whole, left


@pytest.mark.parametrize('settings', [
    {}, {'no_prefetcher': True}, pytest.param({'workers': 2, 'metrics_avg': 'macro'}, marks=pytest.mark.slow)])
def test_results_are_those_of_the_images_that_can_be_read(spoilt, caplog, settings):
    whole, left = spoilt
    expected = results(left, **settings)
    with caplog.at_level(logging.WARNING):
        assert results(whole, **settings) == expected
    if not settings.get('workers'):  # workers log on their own
        named = [text for text in caplog.messages if 'it is left out' in text]
        assert len(named) == 3 and str(whole / 'validation' / 'a' / '0.png') in named[0]
        assert 'More images cannot be read; they are only counted.' in caplog.messages
    assert caplog.messages[-1] == 'Split validation: 4 images could not be read and are left out of the results.'


def test_real_labels_are_those_of_the_images_that_can_be_read(tmp_path):
    folder, truth = tmp_path / 'data' / 'validation', [[0], [1], [2, 3], [4], [], [5]]
    folder.mkdir(parents=True)
    draw, images, net = np.random.default_rng(0), [], timm.create_model('resnet20_cifar', num_classes=6, depth=8).eval()
    for number in range(1, 7):
        images.append(Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)))
        (folder / 'abcdef'[-number]).mkdir()  # in another order than that of the numbers
        images[-1].save(folder / 'abcdef'[-number] / f'ILSVRC2012_val_{number:08d}.JPEG', 'png')
    (folder / 'd' / 'ILSVRC2012_val_00000003.JPEG').write_text('no image')
    (tmp_path / 'real.json').write_text(json.dumps(truth))
    settings = EvaluationSettings(
        data_dir=str(tmp_path / 'data'), img_size=16, crop_pct=1., workers=0, device='cpu', batch_size=4,
        real_labels=str(tmp_path / 'real.json'), mean=(0.,) * 3, std=(1.,) * 3)
    pixels = torch.stack([torch.as_tensor(np.array(image)).permute(2, 0, 1) / 255 for image in images])
    with torch.no_grad():
        ranks = net(pixels).argsort(1, descending=True).tolist()
    seen = [number for number in range(6) if truth[number] and number != 2]
    found = evaluate(settings, net)[0]
    for name, most in (('top1', 1), ('top5', 5)):
        expected = np.mean([bool({*ranks[number][:most]} & {*truth[number]}) for number in seen])
        assert found[name] == pytest.approx(100 * expected)
    (folder / 'a' / 'ILSVRC2012_val_00000006.JPEG').rename(folder / 'a' / 'other.JPEG')
    with pytest.raises(ValueError, match='it must have one entry for each evaluated image, named as in ImageNet'):
        evaluate(settings, net)
    with pytest.raises(ValueError, match='--real-labels needs a data set whose images are numbered, not a stream'):
        Metrics(settings, timm.data.IterableImageDataset(None, reader=[]), device=torch.device('cpu'))


def test_errors_on_adversarial_images_are_those_of_the_images_that_can_be_read(spoilt):
    whole, left = spoilt
    assert results(whole, fgsm_eps=(0.1,))['errors'] == results(left, fgsm_eps=(0.1,))['errors']


def test_the_validation_of_a_run_leaves_unreadable_images_out(spoilt, tmp_path, caplog):
    whole, left = spoilt
    expected = read_summary(train(left, tmp_path / 'left_run'))[0]
    with caplog.at_level(logging.WARNING):
        row = read_summary(train(whole, tmp_path / 'run'))[0]
    for name in ('train_loss', 'eval_loss', 'eval_top1'):
        assert float(row[name]) == pytest.approx(float(expected[name]), abs=1e-6)
    assert 'Validation: 4 images could not be read and are left out of the results.' in caplog.messages


def test_images_held_on_the_device_leave_unreadable_images_out(spoilt, tmp_path, caplog):
    whole, left = spoilt
    flags = dict(device_augment=True)
    expected = read_summary(train(left, tmp_path / 'left_run', **flags))[0]
    with caplog.at_level(logging.WARNING):
        row = read_summary(train(whole, tmp_path / 'run', **flags))[0]
    assert float(row['eval_loss']) == pytest.approx(float(expected['eval_loss']), abs=1e-6)
    assert '4 images could not be read and are left out.' in caplog.messages


def test_padding_of_a_distributed_sampler_and_unreadable_images_are_left_out_together():
    class Loader:
        dataset = ReadableDataset(timm.data.ImageDataset.__new__(timm.data.ImageDataset), leave_out=True)
    rows = ReadRows(Loader, limit=5)
    Loader.dataset.unreadable.add('one')
    assert rows.mask(torch.tensor([0, -100, 1])).tolist() == [True, False, True]
    assert rows.mask(torch.tensor([0, 1, -100])).tolist() == [True, True, False]
    assert rows.left_out() == 1, 'the last row is padding'


def test_a_split_without_any_readable_image_ends_in_one_line(tmp_path):
    folder = coloured_folder(tmp_path / 'data', images=3)
    spoil(folder, [f'{name}/{index}' for name in 'ab' for index in range(3)])
    for workers in (0, 1):
        with pytest.raises(ValueError, match=r'^50 images in a row can\'t be read; the first is .*a/0\.png') as error:
            results(folder, workers=workers)
        assert '\n' not in str(error.value)


def png(label: int) -> bytes:
    file = io.BytesIO()
    Image.new('RGB', (16, 16), (label * 15, 30, 30)).save(file, 'png')
    return file.getvalue()


def write_shards(root, contents: list[dict[str, bytes]]):
    """A web data set with two shards in each split, which hold the parts of each sample."""
    root.mkdir()
    splits = {}
    for split in ('train', 'validation'):
        names = [f'{split}-{shard}.tar' for shard in range(2)]
        for shard, name in enumerate(names):
            with tarfile.open(root / name, 'w') as tar:
                for number, parts in list(enumerate(contents))[shard::2]:
                    for ending, content in parts.items():
                        info = tarfile.TarInfo(f'{number:03d}.{ending}')
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
        splits[split] = dict(name=split, num_samples=len(contents), filenames=names,
                             shard_lengths=[len(contents) // 2] * 2)
    (root / '_info.json').write_text(json.dumps({'splits': splits}))
    return root


def test_samples_of_a_web_data_set_that_cannot_be_read_are_named_and_left_out(tmp_path, caplog):
    pytest.importorskip('webdataset')
    contents = [{'png': png(number), 'cls': b'%d' % (number % 2)} for number in range(8)]
    left = write_shards(tmp_path / 'left', contents[:3] + contents[4:7])
    contents[3]['png'] = contents[7]['png'] = b'no image'
    whole = write_shards(tmp_path / 'whole', contents)
    expected = results(left, dataset='wds/any')
    with caplog.at_level(logging.WARNING):
        assert results(whole, dataset='wds/any')['loss'] == pytest.approx(expected['loss'], abs=1e-4)
    named = [text for text in caplog.messages if 'it is left out' in text]
    assert [text.split(' can\'t')[0] for text in named] == [
        f'sample {number} of {whole}/validation-1.tar' for number in ('003', '007')]
    assert caplog.messages[-1] == 'Split validation: 2 images could not be read and are left out of the results.'


def test_a_transform_that_fails_is_no_unreadable_image(tmp_path):
    folder = make_image_folder(tmp_path / 'data')
    dataset = create_dataset('', str(folder), 'train')
    dataset.transform = lambda image: 1 / 0
    with pytest.raises(TransformError, match=r'a/0\.png: the transforms .* of mode RGB and 16x16 pixels: ZeroDiv'):
        ReadableDataset(dataset)[0]
    dataset.transform, dataset.target_transform = None, int
    assert ReadableDataset(dataset)[0][1] == 0
    dataset.target_transform = lambda label: [][label]
    with pytest.raises(ReadingError, match='its label 0 does not fit: IndexError'):
        ReadableDataset(dataset)[0]


def test_an_error_from_a_worker_is_one_line(tmp_path):
    folder = make_image_folder(tmp_path / 'data')
    loader = create_loader(create_dataset('', str(folder), 'train'), (3, 16, 16), 2, num_workers=1,
                           use_prefetcher=False)
    loader.dataset.transform = lambda image: 1 / 0
    leave_out_unreadable(loader)
    with pytest.raises(TransformError) as error:
        next(iter(loader))
    assert str(error.value).startswith(str(folder)) and '\n' not in str(error.value)


GREY = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)


@pytest.mark.parametrize('ending', ['png', 'tif', 'pgm'])
@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_grey_images_of_16_bits_are_scaled_to_8(tmp_path, ending, mode):
    Image.fromarray(GREY).save(tmp_path / f'grey.{ending}')
    pixels = np.asarray(read_image(str(tmp_path / f'grey.{ending}'), mode))
    expected = np.rint(GREY / 65535 * 255).astype(np.uint8)
    assert (pixels == (expected if mode == 'L' else expected[..., None])).all()


def test_every_reader_scales_16_bits(tmp_path):
    pytest.importorskip('webdataset')
    Image.fromarray(GREY).save(tmp_path / 'grey.png')
    content = (tmp_path / 'grey.png').read_bytes()
    folder = make_image_folder(tmp_path / 'folder', classes='a', images=1)
    for path in folder.rglob('*.png'):
        path.write_bytes(content)
    for split in ('train', 'validation'):
        with tarfile.open(tmp_path / f'{split}.tar', 'w') as tar:
            tar.add(folder / split / 'a', 'a')
    shards = write_shards(tmp_path / 'shards', [{'png': content, 'cls': b'0'}] * 2)
    expected = np.rint(GREY / 65535 * 255).astype(np.uint8)
    for name, root in (('', folder), ('', tmp_path / 'validation.tar'), ('torch/image_folder', folder),
                       ('wds/any', shards)):
        image, _ = next(iter(create_dataset(name, str(root), 'validation', input_img_mode='L')))
        assert (np.asarray(image) == expected).all(), name


@pytest.mark.parametrize('mode', ['P', 'LA', 'CMYK', '1', 'RGBA'])
def test_other_modes_are_converted_as_timm_does(tmp_path, mode):
    draw = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    path = str(tmp_path / ('image.jpg' if mode == 'CMYK' else 'image.png'))
    Image.fromarray(draw).convert(mode).save(path)
    for target in ('RGB', 'L'):
        with Image.open(path) as image:
            expected = np.asarray(image.convert(target))
        assert (np.asarray(read_image(path, target)) == expected).all()


def test_pixels_of_32_bits_are_not_clipped_but_refused(tmp_path):
    for number, kind in enumerate((np.float32, np.int32)):
        path = tmp_path / f'{number}.tif'
        Image.fromarray(GREY.astype(kind)).save(path)
        with pytest.raises(ValueError, match=r'32 bits .mode [FI]. of unknown range'):
            read_image(str(path), 'L')
