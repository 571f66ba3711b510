"""Flags reach network, optimizer, schedule, loader and task."""
import argparse
import sys

import pytest
import timm
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from timm.data import FastCollateMixup, Mixup
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.task import MultiLabelClassificationTask
from torch import nn
from torchvision import transforms
from train_helpers import arguments, make_image_folder, read_summary, train

from gradaug_timm.data import PadCrop, PCALighting
from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.building import loaders
from gradaug_timm.training.building.networks import place_network
from gradaug_timm.training.building.optimizers import scaled_learning_rate
from gradaug_timm.training.loop.meters import LossMeter
from gradaug_timm.training.outputs.folder import append_row, read_rows
from gradaug_timm.training.outputs.progress_bar import Progress
from gradaug_timm.training.position import Position
from gradaug_timm.training.prepare import prepare
from gradaug_timm.training.processes import Precision, Process, start_process


@pytest.fixture
def prepared(image_folder, tmp_path):
    def build(**flags):
        args, text = parse_arguments(build_parser(), arguments(image_folder, tmp_path, **flags))
        return prepare(args, text, start_process('cpu'))
    return build


def train_pipeline(run) -> list:
    keyed = run.loaders.train.dataset
    return keyed.dataset.dataset.transform.transforms


def test_network_flags_reach_the_network(prepared):
    flags = dict(bn_momentum=0.3, bn_eps=0.01, drop=0.2, head_init_bias=-3., gp='max')
    network = prepared(model='test_efficientnet', model_kwargs=None, **flags).task.trainable_module
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.3, 0.01)}
    assert network.drop_rate == 0.2 and network.get_classifier().bias.tolist() == [-3., -3.]
    assert network.global_pool.pool_type == 'max'


def test_optimizer_flags_reach_the_optimizer(prepared):
    optimizer = prepared(opt='adamw', lr=0.003, weight_decay=0.1, opt_betas=[0.8, 0.9], opt_eps=1e-6).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group['betas'] for group in optimizer.param_groups} == {(0.8, 0.9)}
    assert {group['eps'] for group in optimizer.param_groups} == {1e-6}
    assert {group['initial_lr'] for group in optimizer.param_groups} == {0.003}
    assert {group['weight_decay'] for group in optimizer.param_groups} == {0., 0.1}


@pytest.mark.parametrize(('flags', 'foreach', 'fused'), [
    (dict(), None, None),  # torch's choice: multi-tensor kernels on CUDA, one by one on the CPU
    (dict(opt_foreach=True), True, None),
    (dict(no_opt_foreach=True), False, None),
    (dict(opt_kwargs='fused=True'), None, True),
])
def test_how_the_optimizer_computes_is_torchs_choice_unless_it_is_given(prepared, flags, foreach, fused):
    groups = prepared(**flags).optimizer.param_groups
    assert {(group['foreach'], group['fused']) for group in groups} == {(foreach, fused)}


@pytest.mark.gpu
def test_optimizers_change_all_weights_at_once_on_a_gpu(image_folder, tmp_path):
    args, text = parse_arguments(build_parser(), arguments(image_folder, tmp_path, device='cuda', gradaug=True))
    run = prepare(args, text, start_process('cuda'))
    run.task(torch.randn(4, 3, 16, 16, device='cuda'), torch.tensor([0, 1, 0, 1], device='cuda'))['loss'].backward()
    with torch.profiler.profile() as profile:
        run.optimizer.step()
    called = {event.key for event in profile.key_averages()}
    assert 'aten::_foreach_add_' in called and 'aten::add_' not in called


@pytest.mark.parametrize('flags', [dict(decay_all_parameters=True), dict(opt_kwargs='filter_bias_and_bn=False')])
def test_weight_decay_on_all_weights_is_a_flag_away(prepared, flags):
    run = prepared(weight_decay=0.1, **flags)
    groups = run.optimizer.param_groups
    assert {group['weight_decay'] for group in groups} == {0.1}
    decayed = sum(weight.numel() for group in groups for weight in group['params'])
    assert decayed == sum(weight.numel() for weight in run.task.trainable_module.parameters())


@pytest.mark.parametrize(('opt', 'scale', 'images', 'expected'), [
    ('sgd', '', 512, 0.2), ('sgd', 'sqrt', 1024, 0.2), ('adamw', '', 1024, 0.2), ('lamb', 'linear', 512, 0.2),
])
def test_the_base_learning_rate_grows_with_the_batch(opt, scale, images, expected):
    args = argparse.Namespace(opt=opt, lr_base=0.1, lr_base_size=256, lr_base_scale=scale)
    assert scaled_learning_rate(args, images) == pytest.approx(expected)


def test_the_schedule_can_step_at_every_update(prepared):
    assert prepared(lr=0.1).scheduler.t_in_epochs
    assert not prepared(lr=0.1, sched_on_updates=True).scheduler.t_in_epochs
    assert prepared(sched='none').scheduler is None


@pytest.mark.parametrize(('flags', 'expected'), [
    (dict(), LabelSmoothingCrossEntropy),
    (dict(smoothing=0), nn.CrossEntropyLoss),
    (dict(mixup=0.2), SoftTargetCrossEntropy),
    (dict(bce_loss=True, cutmix=1.), BinaryCrossEntropy),
])
def test_the_loss_follows_from_the_flags(prepared, flags, expected):
    assert type(prepared(**flags).task.criterion) is expected


def test_mixing_happens_in_the_loader_or_after_it(prepared):
    fast = prepared(mixup=0.2, mixup_prob=0.3).loaders
    assert fast.mixup is None and isinstance(fast.train.loader.collate_fn, FastCollateMixup)
    assert fast.train.loader.collate_fn.mix_prob == 0.3
    assert type(prepared(mixup=0.2, no_prefetcher=True).loaders.mixup) is Mixup


@pytest.mark.parametrize('flags', [dict(workers=1), dict(workers=1, use_multi_epochs_loader=True), dict()])
def test_mixing_stops_in_the_workers_too(prepared, flags):
    batches = prepared(mixup=1., mixup_off_epoch=1, smoothing=0, no_prefetcher=False, **flags).loaders
    assert any(not is_one_hot(target) for _, target in batches.train)
    batches.end_mixing(Position(0))
    assert any(not is_one_hot(target) for _, target in batches.train)
    batches.end_mixing(Position(1))
    assert all(is_one_hot(target) for _, target in batches.train)


def is_one_hot(target: torch.Tensor) -> bool:
    return bool(((target == 0) | (target == 1)).all())


def test_the_papers_transforms_are_in_the_training_pipeline_only(prepared):
    run = prepared(no_aug=None, reflect_pad=4, pca_lighting=0.1)
    kinds = [type(step) for step in train_pipeline(run)]
    assert kinds[0] is PadCrop and PCALighting in kinds
    assert not {PadCrop, PCALighting} & {
        type(step) for step in run.loaders.validation.dataset.dataset.transform.transforms}
    assert run.loaders.train.dataset[0, 0][0].shape == (3, 16, 16)


def test_a_checkpoint_initialises_the_network(image_folder, tmp_path, prepared):
    checkpoint = train(image_folder, tmp_path, experiment='first') / 'last.pth.tar'
    trained = torch.load(checkpoint, weights_only=False)['state_dict']
    network = prepared(initial_checkpoint=checkpoint).task.trainable_module
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())


def test_synchronized_norms_are_refused_where_torch_has_none():
    args = argparse.Namespace(split_bn=False, channels_last=False, sync_bn=True)
    cpu = torch.device('cpu')
    with pytest.raises(ValueError, match='--sync-bn needs GPUs'):
        place_network(nn.BatchNorm2d(2), args, Process(cpu, distributed=True, world_size=2), Precision(cpu))


@pytest.mark.parametrize(('flags', 'amp_dtype', 'scaled'), [
    ([], None, False),
    (['--amp'], torch.float16, True),
    (['--amp', '--amp-dtype', 'bfloat16'], torch.bfloat16, False),
])
def test_only_float16_has_a_loss_scaler(flags, amp_dtype, scaled):
    args, _ = parse_arguments(build_parser(), flags)
    precision = Precision.from_args(args, torch.device('cpu'))
    assert precision.amp_dtype == amp_dtype
    assert (precision.create_scaler() is not None) == scaled


class ColouredSquares(torch.utils.data.Dataset):
    """Multi-label images: label 0 is red, label 1 is blue."""

    def __init__(self, target_transform):
        self.target_transform = target_transform
        self.transform = None

    def __len__(self):
        return 16

    def __getitem__(self, index):
        labels = [label for label in (0, 1) if index >> label & 1]
        image = Image.new('RGB', (16, 16), (200 * (0 in labels), 60, 200 * (1 in labels)))
        return self.transform(image) if self.transform else image, self.target_transform(labels)


@pytest.mark.parametrize('flags', [
    dict(), dict(gradaug=True), dict(loss='asl'), dict(mixup=0.4, gradaug=True), dict(loss='poly', poly_epsilon=-1),
], ids=lambda flags: '-'.join(flags) or 'plain')
def test_multi_label_training_reports_its_metrics(image_folder, tmp_path, monkeypatch, flags):
    monkeypatch.setattr(loaders, 'create_dataset', lambda *_, target_transform, **__: ColouredSquares(target_transform))
    folder = train(image_folder, tmp_path, task='multilabel', epochs=2, multilabel_threshold=0.4, **flags)
    last = read_summary(folder)[-1]
    network = timm.create_model('resnet20_cifar', depth=8, num_classes=2).eval()
    network.load_state_dict(torch.load(folder / 'last.pth.tar', weights_only=False)['state_dict'])
    data = ColouredSquares(lambda labels: torch.tensor([label in labels for label in (0, 1)]).int())
    data.transform = transforms.Compose([
        transforms.ToTensor(), transforms.Normalize(network.pretrained_cfg['mean'], network.pretrained_cfg['std'])])
    images, targets = map(torch.stack, zip(*(data[index] for index in range(len(data)))))
    with torch.no_grad():
        scores = network(images)
    expected = 100 * average_precision_score(targets, scores, average='macro')
    assert float(last['eval_map']) == pytest.approx(expected, abs=1e-2) and 'eval_top1' not in last


def test_the_threshold_of_multi_label_metrics_reaches_the_evaluator(prepared, monkeypatch):
    monkeypatch.setattr(loaders, 'create_dataset', lambda *_, target_transform, **__: ColouredSquares(target_transform))
    for gradaug in (False, True):
        task = prepared(task='multilabel', multilabel_threshold=0.3, gradaug=gradaug).task
        assert isinstance(task, MultiLabelClassificationTask)
        assert task.create_evaluator().threshold == 0.3


def test_a_meter_weighs_losses_by_images_and_leaves_out_what_is_not_finite():
    meter = LossMeter()
    meter.update({'loss': torch.tensor(1.), 'extra': torch.tensor(4.)}, 2)
    meter.update({'loss': torch.tensor(3.)}, 6)
    meter.update({'loss': torch.tensor(float('inf'))}, 8)
    assert meter.compute() == {'loss': 2.5, 'extra': 4.}


def test_rows_with_new_columns_keep_the_table_rectangular(tmp_path):
    path = str(tmp_path / 'summary.csv')
    append_row(path, {'epoch': 0, 'train_loss': 1.5})
    append_row(path, {'epoch': 1, 'train_loss': 0.5, 'train_kd_loss': 2.})
    append_row(path, {'epoch': 2, 'train_loss': 0.25})
    assert read_rows(path) == [
        {'epoch': '0', 'train_loss': '1.5', 'train_kd_loss': ''},
        {'epoch': '1', 'train_loss': '0.5', 'train_kd_loss': '2.0'},
        {'epoch': '2', 'train_loss': '0.25', 'train_kd_loss': ''},
    ]


@pytest.mark.parametrize('terminal', [True, False])
def test_a_progress_bar_is_shown_on_a_terminal_only(monkeypatch, capsys, terminal):
    pytest.importorskip('tqdm')
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: terminal)
    progress = Progress(shown=True)
    assert list(progress.over(range(3), 3, 'Epoch 7')) == [0, 1, 2]
    assert ('Epoch 7' in capsys.readouterr().err) == terminal


def test_other_processes_show_no_progress_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    assert not Progress(shown=False).active


def test_a_run_without_matplotlib_says_so(image_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    folder = train(image_folder, tmp_path, picture=True)
    assert 'matplotlib is not installed' in capsys.readouterr().out
    assert not (folder / 'learning_curves.png').exists()


@pytest.fixture
def prepared_15(tmp_path):
    """Prepares runs on 15 images of 3 classes."""
    data = make_image_folder(tmp_path / 'data', images=5, classes='abc')

    def build(**flags):
        args, text = parse_arguments(build_parser(), arguments(data, tmp_path, num_classes=3, **flags))
        return prepare(args, text, start_process('cpu'))
    return build


def test_the_last_incomplete_batch_is_kept_where_that_is_asked_for(prepared_15):
    assert [len(images) for images, _ in prepared_15(batch_size=6).loaders.train] == [6, 6]
    run = prepared_15(batch_size=6, keep_last_batch=True, grad_accum_steps=2)
    assert [len(images) for images, _ in run.loaders.train] == [6, 6, 3]
    assert (run.batches, run.updates) == (3, 2)


@pytest.mark.parametrize(('flags', 'wanted'), [
    (dict(batch_size=7), 'the last batch has 1 image, but needs at least 2 images'),
    (dict(batch_size=4, mixup=0.2), 'the last batch has 3 images, but needs an even number'),
])
def test_a_last_batch_that_the_network_or_mixing_cannot_take_is_refused(prepared_15, flags, wanted):
    with pytest.raises(ValueError, match=wanted):
        prepared_15(keep_last_batch=True, **flags)
