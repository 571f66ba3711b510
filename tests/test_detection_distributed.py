"""Detectors trained by two processes."""
import pytest
import torch
import torch.distributed as dist
from processes import run_ranks

pytest.importorskip('faster_coco_eval', reason='needs the extra detection')

from gradaug_timm.detection.detectors import create_detector
from gradaug_timm.detection.pyramid import create_backbone
from gradaug_timm.detection.task import GradAugDetectionTask
from gradaug_timm.task.settings import GradAugSettings


def batch_of(rank):
    images = [torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(rank)) for _ in range(2)]
    box = torch.tensor([[8. + 8 * rank, 8., 48., 40.]])
    return images, [{'boxes': box, 'labels': torch.tensor([1 + rank])}] * 2


def gradient_of(rank, *, distributed):
    torch.manual_seed(0)
    model = create_detector('faster_rcnn', create_backbone('resnet10t', channels=8), 2, min_size=64, max_size=96)
    task = GradAugDetectionTask(model, settings=GradAugSettings(subnets=2, sizes=(0.75,)), verbose=False).train()
    if distributed:
        task.prepare_distributed()
    torch.manual_seed(rank + 1)  # the regions that are drawn
    task(*batch_of(rank))['loss'].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def train_one_step(rank, store, results):
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    torch.save(gradient_of(rank, distributed=True), f'{results}/{rank}.pt')
    dist.destroy_process_group()


def test_both_processes_have_the_mean_of_their_gradients(tmp_path):
    run_ranks(train_one_step, str(tmp_path / 'store'), str(tmp_path))
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    own = [gradient_of(rank, distributed=False) for rank in range(2)]
    assert first
    for name, gradient in first.items():
        assert torch.equal(gradient, second[name]), name
        torch.testing.assert_close(gradient, (own[0][name] + own[1][name]) / 2, rtol=1e-3, atol=1e-5)
