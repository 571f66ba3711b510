"""Private parts of timm's networks, training and checkpoints in `gradaug_timm.upstream` still behave as needed."""
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import timm.layers
import torch
from timm.models.efficientformer import Attention
from timm.scheduler import PlateauLRScheduler
from timm.task import FeatureDistillationTask, LogitDistillationTask, TokenDistillationTask
from timm.utils import CheckpointSaver
from torch import nn

from gradaug_timm import upstream

CPU = torch.device('cpu')


# timm's networks

def test_features_are_taken_by_number_or_by_index():
    assert upstream.feature_take_indices(4, 2) == ([2, 3], 3)
    assert upstream.feature_take_indices(4, [0, -2]) == ([0, 2], 2)
    assert upstream.feature_take_indices(4, None) == ([0, 1, 2, 3], 3)


def test_what_modules_compute_from_parameters_is_where_we_look_for_it():
    attention, images = Attention(8, key_dim=4, num_heads=2, resolution=2), torch.zeros(1, 4, 8)
    with torch.no_grad():
        attention.eval()
        attention(images)
    filled = {name for name, value in vars(attention).items() if isinstance(value, dict) and any(
        isinstance(each, torch.Tensor) and not isinstance(each, nn.Parameter) for each in value.values())}
    assert filled - upstream.MODULE_ATTRIBUTES == upstream.PARAMETER_CACHES
    attention.train()
    assert not any(vars(attention)[name] for name in upstream.PARAMETER_CACHES)


def test_activation_checkpointing_is_seen_and_switched_off():
    network, calls = timm.create_model('test_vit', num_classes=2), []
    network.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))

    def count() -> int:
        calls.clear()
        network(torch.zeros(1, 3, 160, 160)).sum().backward()
        return len(calls)

    assert not any(map(upstream.recomputes, network.modules())) and count() == 1
    network.set_grad_checkpointing(True)
    assert any(map(upstream.recomputes, network.modules())) and count() == 2
    for module in network.modules():
        upstream.stop_recomputing(module)
    assert not any(map(upstream.recomputes, network.modules())) and count() == 1


# timm's training

def test_one_process_is_described_by_its_device_and_place(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    found = upstream.init_distributed_device_so('cpu')
    assert (found['device'], found['global_rank'], found['world_size'], found['distributed']) == ('cpu', 0, 1, False)


@pytest.mark.parametrize('kind', [LogitDistillationTask, FeatureDistillationTask, TokenDistillationTask])
def test_a_distillation_task_shows_its_teacher_and_how_the_students_images_are_normalised(kind):
    name = 'deit_tiny_distilled_patch16_224' if kind is TokenDistillationTask else 'test_vit'
    student = timm.create_model(name, num_classes=2, **({} if name == 'test_vit' else {'depth': 1}))
    teacher = timm.create_model('test_vit', num_classes=2)
    task = kind(student, teacher, criterion=nn.CrossEntropyLoss(), device=CPU, verbose=False)
    assert upstream.teacher_of(task) is teacher
    seen = []
    monitored = task.teacher
    normalize = monitored.normalize_input
    monitored.normalize_input = lambda *args: seen.append(normalize(*args)) or seen[-1]
    size = student.pretrained_cfg['input_size'][-1]
    for values in ((0.5,) * 3, (0.25,) * 3):
        upstream.set_student_normalization(task, mean=values, std=values)
        if kind is not TokenDistillationTask:  # whose teacher takes images of another size
            task(torch.zeros(2, 3, size, size), torch.tensor([0, 1]))
    assert torch.equal(task.student_mean, torch.full((1, 3, 1, 1), 0.25))
    if seen:  # a black image has the value `mean` where the student sees 0
        torch.testing.assert_close(seen[0] - seen[1], (0.25 / monitored.std_kd).expand_as(seen[0]))


@pytest.mark.filterwarnings('ignore:PlateauLRScheduler:FutureWarning')
def test_a_schedule_that_follows_the_metric_is_continued():
    def schedule() -> PlateauLRScheduler:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.)
        return PlateauLRScheduler(optimizer, patience_t=1, cooldown_t=1, decay_rate=0.5, noise_range_t=2)

    def rates(scheduler: PlateauLRScheduler, epochs: range) -> Iterator[float]:
        for epoch in epochs:
            scheduler.step(epoch, [0., 3., 2., 2., 2., 2., 2., 2., 2., 1., 1.][epoch])
            yield scheduler.optimizer.param_groups[0]['lr']

    whole = list(rates(schedule(), range(1, 11)))
    assert len({*whole}) > 4
    for cut in range(2, 11):
        first, second = schedule(), schedule()
        begun = list(rates(first, range(1, cut)))
        upstream.load_plateau_state(second, upstream.plateau_state(first))
        assert [*begun, *rates(second, range(cut, 11))] == whole


# timm's checkpoints

@pytest.mark.parametrize('decreasing', [False, True])
def test_ranked_checkpoints_are_named_sorted_and_the_worst_makes_room(tmp_path, decreasing):
    saver = CheckpointSaver(nn.Identity(), None, checkpoint_dir=str(tmp_path), max_history=2, decreasing=decreasing)
    paths = [upstream.ranked_path(saver, epoch) for epoch in range(3)]
    assert paths == [str(tmp_path / f'checkpoint-{epoch}.pth.tar') for epoch in range(3)]
    metrics = [1., 2., 3.] if not decreasing else [3., 2., 1.]
    for epoch, (path, metric) in enumerate(zip(paths, metrics)):
        upstream.make_room(saver)
        Path(path).write_text('weights')
        upstream.rank_checkpoint(saver, path, epoch, metric)
        assert (saver.best_epoch, saver.best_metric) == (epoch, metric)
    assert saver.checkpoint_files == [(paths[2], metrics[2]), (paths[1], metrics[1])]
    assert [Path(path).exists() for path in paths] == [False, True, True], 'nothing else is deleted or written'
    assert len(list(tmp_path.iterdir())) == 2
