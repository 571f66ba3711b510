"""Two processes with DDP against one process on the whole batch."""
import torch
import torch.distributed as dist
from naive import gradient, relative_error
from processes import run_ranks
from timm.layers import GroupNorm
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from gradaug_timm import GradAugSettings, GradAugTask

SETTINGS = GradAugSettings.preset(32, subnets=3, batch_fraction=1., mode='both', min_survival=0.5)


def _make_task() -> GradAugTask:
    """A task whose network treats images independently of each other, so that halves of a batch add up to it."""
    torch.manual_seed(0)
    network = ResNet(
        BasicBlock, [1, 2, 1, 1], num_classes=5, channels=(32, 64, 64, 96),
        norm_layer=lambda channels, **kwargs: GroupNorm(channels, 8, **kwargs))
    return GradAugTask(network, nn.CrossEntropyLoss(), settings=SETTINGS)


def _batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 48, 48, generator=generator), torch.randint(0, 5, (8,), generator=generator)


def _run_rank(rank: int, init_file: str, out_file: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init_file}', rank=rank, world_size=2)
    task = _make_task()
    task.prepare_distributed()
    with task.no_sync():  # accumulation: the first step isn't reduced
        _backward(task, 0, rank)
    losses = _backward(task, 1, rank)
    counts = [0]
    for parameter in task.trainable_module.parameters():
        parameter.register_post_accumulate_grad_hook(lambda _: counts.append(1))
    total = gradient(task.trainable_module)
    task.trainable_module.zero_grad()
    _backward(task, 2, rank)
    torch.save({'total': total, 'losses': losses, 'hooks': sum(counts)}, f'{out_file}.{rank}')
    dist.destroy_process_group()


def _backward(task: GradAugTask, step: int, rank: int) -> list[str]:
    images, target = _batch(step)
    half = slice(4 * rank, 4 * rank + 4)
    result = task(images[half], target[half])
    result['loss'].backward()
    return sorted(result)


def test_two_processes_give_the_gradients_of_one_on_the_whole_batch(tmp_path):
    run_ranks(_run_rank, str(tmp_path / 'init'), str(tmp_path / 'out'))
    ranks = [torch.load(tmp_path / f'out.{rank}') for rank in range(2)]
    task = _make_task()
    for step in range(2):
        task(*_batch(step))['loss'].backward()
    assert relative_error(ranks[0]['total'], gradient(task.trainable_module)) < 1e-5
    assert torch.equal(ranks[0]['total'], ranks[1]['total'])
    parameters = len([*task.trainable_module.parameters()])
    assert [rank['hooks'] for rank in ranks] == [parameters] * 2, 'a hook fires once a backward'
