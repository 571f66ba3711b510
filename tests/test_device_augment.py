"""`--device-augment`: crops, flips and normalisation of images that all lie on the device."""
import json

import numpy as np
import pytest
import torch
from timm.data import Mixup
from torchvision.transforms import functional
from train_helpers import arguments, error_line, make_image_folder, read_summary, train

from gradaug_timm.data import held
from gradaug_timm.data.crops import crop_and_flip, draw_epoch
from gradaug_timm.data.device_loader import DeviceLoader
from gradaug_timm.evaluation.main import main as validate
from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.building.loaders import build_loaders
from gradaug_timm.training.loop.epoch import train_epoch
from gradaug_timm.training.prepare import prepare
from gradaug_timm.training.processes import Precision, Process, start_process

CPU = torch.device('cpu')
SINGLE = Process(CPU)
CROPS = dict(no_aug=None, color_jitter=0, reflect_pad=1)


@pytest.fixture
def prepared(image_folder, tmp_path):
    def build(**flags):
        args, text = parse_arguments(build_parser(), arguments(image_folder, tmp_path, **flags))
        return prepare(args, text, start_process('cpu'))
    return build


@pytest.fixture
def prepared_loaders(image_folder, tmp_path):
    def build(process=SINGLE, **flags):
        args, _ = parse_arguments(build_parser(), arguments(image_folder, tmp_path, **flags))
        config = dict(
            input_size=(3, args.img_size, args.img_size), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25),
            interpolation='bicubic', crop_pct=0.7)
        return build_loaders(args, config, 2, process, Precision(CPU))
    return build


def draw(images: int = 30_000, padding: int = 2, **key):
    return draw_epoch(images, padding, {-1: 0.5, -2: 0.2}, **{'seed': 3, 'epoch': 1, 'device': CPU, **key})


def test_every_image_gets_its_own_crop_of_the_padded_image_and_its_own_flips():
    padded = torch.randint(256, (40, 3, 10, 9), dtype=torch.uint8)
    index, draws = torch.randperm(40)[:25], draw(40)
    crops = crop_and_flip(padded, index, (6, 5), draws)
    for crop, image in zip(crops, index.tolist()):
        expected = functional.crop(padded[image], draws.top[image], draws.left[image], 6, 5)
        expected = functional.hflip(expected) if draws.flipped[-1][image] else expected
        assert torch.equal(crop, functional.vflip(expected) if draws.flipped[-2][image] else expected)


def test_all_corners_are_as_frequent_and_independent_of_flips():
    draws = draw()
    cells = torch.stack([draws.top, draws.left, draws.flipped[-1].long()])
    counts = torch.bincount(cells[0] * 10 + cells[1] * 2 + cells[2])
    expected = 30_000 / 50
    assert len(counts) == 50
    assert ((counts - expected) ** 2 / expected).sum() < 86  # 99.9 % quantile of chi-squared with 49 degrees
    assert draws.flipped[-1].float().mean() == pytest.approx(0.5, abs=0.01)
    assert draws.flipped[-2].float().mean() == pytest.approx(0.2, abs=0.01)


def test_draws_depend_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    first = draw()
    torch.manual_seed(2)
    again = draw()
    assert torch.equal(first.top, again.top) and torch.equal(first.flipped[-1], again.flipped[-1])
    for key in (dict(seed=4), dict(epoch=2), dict(seed=1, epoch=3)):
        assert (draw(**key).left == first.left).float().mean() == pytest.approx(1 / 5, abs=0.02)


@pytest.mark.parametrize('padding', [dict(reflect_pad=1), dict(reflect_pad=None, zero_pad=1)], ids=str)
def test_an_image_takes_the_same_shapes_as_in_the_file_path(prepared_loaders, padding):
    seen = []
    for device_augment in (False, True):
        flags = dict(device_augment=device_augment, img_size=8, batch_size=24, labels_per_class=1, keep_last_batch=True)
        loader = prepared_loaders(**{**flags, **CROPS, **padding}).train
        seen.append(set())
        for epoch in range(200):
            if device_augment:
                loader.sampler.set_epoch(epoch)
            seen[-1] |= {image.numpy().tobytes() for images, _ in loader for image in images}
    assert len(seen[0]) == 2 * 9 * 2  # two images, nine windows, two sides
    assert seen[0] == seen[1]


@pytest.mark.parametrize('flags', [dict(img_size=32), dict(img_size=20), dict(img_size=32, validation_batch_size=3)])
def test_without_augmentation_batches_are_bit_for_bit_timms(prepared_loaders, flags):
    timm, ours = (prepared_loaders(device_augment=on, **flags) for on in (False, True))
    assert len(timm.validation) == len(ours.validation) and len(timm.train) == len(ours.train)
    for (images, targets), (own_images, own_targets) in zip(timm.validation, ours.validation):
        assert torch.equal(images, own_images) and torch.equal(targets, own_targets)
    contents = [
        {(image.numpy().tobytes(), int(label)) for batch in loaders.train for image, label in zip(*batch)}
        for loaders in (timm, ours)]
    assert contents[0] == contents[1] and len(contents[1]) == 24


def test_processes_share_the_images_of_an_epoch_and_crop_them_as_one_would(prepared_loaders):
    def images(rank, world_size):
        process = Process(CPU, rank=rank, world_size=world_size, distributed=world_size > 1)
        loader = prepared_loaders(process, device_augment=True, batch_size=4, img_size=32, **CROPS).train
        loader.sampler.set_epoch(5)
        return [image.numpy().tobytes() for batch, _ in loader for image in batch]
    whole, *shards = images(0, 1), images(0, 2), images(1, 2)
    assert [len(shard) for shard in shards] == [12, 12]
    assert len(set(whole)) == 24 and set(shards[0] + shards[1]) == set(whole)


def test_validation_is_divided_among_processes_without_counting_an_image_twice(prepared_loaders):
    loaders = [
        prepared_loaders(Process(CPU, rank=rank, world_size=3, distributed=True), device_augment=True, batch_size=4)
        for rank in range(3)]
    samplers = [loader.validation.sampler for loader in loaders]
    assert [len(sampler) for sampler in samplers] == [4, 4, 4]
    assert [sampler.num_valid_samples for sampler in samplers] == [4, 3, 3]


def test_the_order_is_another_in_every_epoch_and_the_last_batch_is_left_out_unless_asked_for(prepared_loaders):
    flags = dict(device_augment=True, batch_size=9, img_size=8)
    assert [len(images) for images, _ in prepared_loaders(**flags).train] == [9, 9]
    loader = prepared_loaders(**flags, keep_last_batch=True).train
    assert [len(images) for images, _ in loader] == [9, 9, 6] and len(loader) == 3
    first = torch.cat([targets for _, targets in loader])
    loader.sampler.set_epoch(1)
    assert first.tolist() != torch.cat([targets for _, targets in loader]).tolist()
    assert first.bincount().tolist() == [12, 12]


def test_mixing_happens_on_the_batch_and_stops_when_told(prepared):
    run = prepared(device_augment=True, mixup=1., smoothing=0, mixup_off_epoch=1, **CROPS)
    loaders, targets = run.loaders, []
    assert type(loaders.mixup) is Mixup
    run.task.register_forward_pre_hook(lambda _, inputs: targets.append(inputs[1]))
    for epoch in range(2):
        train_epoch(run, epoch)
    mixed = [bool(((target > 0) & (target < 1)).any()) for target in targets]
    assert any(mixed[:3]) and not any(mixed[3:]) and len(mixed) == 6


@pytest.mark.parametrize('flags', [
    dict(**CROPS, gradaug=True),
    dict(**CROPS, cutmix=1., keep_last_batch=True, channels_last=True),
    dict(model_dtype='bfloat16'),
], ids=lambda flags: '-'.join(flags))
def test_training_runs(image_folder, tmp_path, flags):
    folder = train(image_folder, tmp_path, device_augment=True, epochs=2, **flags)
    last, dtype = read_summary(folder)[-1], flags.get('model_dtype', 'float32')
    validate([  # which reads and prepares images by timm's loader
        *'--model resnet20_cifar --model-kwargs depth=8 --num-classes 2 --img-size 16 --device cpu --workers 0'.split(),
        '--data-dir', str(image_folder), '--checkpoint', str(folder / 'last.pth.tar'), '--model-dtype', dtype,
        '--results-file', str(tmp_path / 'found.json'), '--results-format', 'json'])
    found = json.loads((tmp_path / 'found.json').read_text())
    assert float(last['eval_top1']) == pytest.approx(found['top1'], abs=1e-3)
    assert float(last['eval_loss']) == pytest.approx(found['loss'], abs=1e-3)


def test_a_resumed_run_sees_the_images_that_it_would_have_seen(image_folder, tmp_path):
    flags = dict(device_augment=True, epochs=2, momentum=0.5, **CROPS)
    whole = train(image_folder, tmp_path, experiment='whole', **flags)
    half = train(image_folder, tmp_path, experiment='half', stop_epoch=1, **flags)
    train(image_folder, tmp_path, experiment='half', resume='auto', **flags)
    assert [row['train_loss'] for row in read_summary(half)] == [row['train_loss'] for row in read_summary(whole)]


def test_images_of_one_channel_are_held_with_one(tmp_path, prepared_loaders):
    generator = np.random.default_rng(0)
    images = [(torch.from_numpy(generator.integers(0, 256, (1, 6, 6), dtype=np.uint8)), label) for label in (0, 1, 1)]
    kept = held.hold(images, device=CPU, padding=2)
    assert kept.images.shape == (3, 1, 10, 10) and kept.size == (6, 6) and kept.targets.tolist() == [0, 1, 1]
    assert kept.images.sum() == sum(int(image.sum()) for image, _ in images)  # zeros around
    batch, _ = next(iter(DeviceLoader(kept, range(3), 3, mean=(0.5,), std=(0.25,))))
    assert torch.allclose(batch[:, :, 2:-2, 2:-2], (torch.stack([i for i, _ in images]) / 255 - 0.5) / 0.25, atol=1e-6)


@pytest.mark.parametrize(('argv', 'wanted'), [
    (['--reflect-pad', '4', '--aa', 'v0', '--reprob', '0.1', '--pin-mem'],
     'normalisation: leave out --pin-mem, --aa, --reprob, set --color-jitter 0'),
    (['--color-jitter', '0'], 'normalisation: give --reflect-pad N, --zero-pad N or --no-aug'),
    (['--no-aug', '--train-img-sizes', '16', '32'], 'leave out --train-img-sizes'),
    (['--no-aug', '--mixup', '1', '--mixup-mode', 'half'], '--mixup-mode half must be batch, pair or elem'),
    (['--reflect-pad', '4', '--zero-pad', '4'], '--reflect-pad and --zero-pad exclude each other'),
])
def test_flags_without_a_meaning_on_the_device_are_refused_together(capsys, argv, wanted):
    error = error_line(capsys, ['--device-augment', '--model', 'resnet18', *argv])
    assert wanted in error and 'train.py: error: --' in error


def test_without_augmentation_flags_of_the_file_path_are_as_meaningless_as_there(prepared):
    assert len(prepared(device_augment=True, aa='v0').loaders.train) == 3


def test_images_that_would_fill_the_device_are_refused(capsys, tmp_path, monkeypatch):
    data = make_image_folder(tmp_path / 'data')
    monkeypatch.setattr(held, 'LIMIT', 2 ** 20)
    error = error_line(capsys, arguments(data, tmp_path, device_augment=True, img_size=224))
    assert '--device-augment: 8 images of 3x224x224 are 0.00112 GiB, more than the limit of 0.000977 GiB' in error


def test_a_reflection_wider_than_the_image_is_refused(capsys, image_folder, tmp_path):
    argv = arguments(image_folder, tmp_path, device_augment=True, **{**CROPS, 'reflect_pad': 16})
    assert '--reflect-pad 16 must be below 16, the size of the images' in error_line(capsys, argv)


@pytest.mark.gpu
def test_a_gpu_gives_the_images_of_the_cpu_and_waits_for_no_batch(image_folder, tmp_path):
    def batches(device):
        argv = arguments(image_folder, tmp_path, device_augment=True, device=device, mixup=1., batch_size=4, **CROPS)
        args, text = parse_arguments(build_parser(), argv)
        loader = prepare(args, text, start_process(device)).loaders.train
        steps = iter(loader)
        found = [next(steps)]
        torch.cuda.set_sync_debug_mode('error')
        try:
            found += steps
        finally:
            torch.cuda.set_sync_debug_mode('default')
        return found
    for (images, targets), (there, labels) in zip(batches('cpu'), batches('cuda'), strict=True):
        assert torch.equal(images, there.cpu()) and torch.equal(targets, labels.cpu())
