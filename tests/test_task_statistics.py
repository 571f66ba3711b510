"""BatchNorm's running statistics: of the full network's passes alone, or as in the original code of all."""
import timm
import torch
from torch import nn

from gradaug_timm import GradAugSettings, GradAugTask
from gradaug_timm.task.sampling import draw_step
from gradaug_timm.task.transforms import apply_transform

STEPS = 3


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=4).train()


def trained_buffers(statistics: str) -> dict[str, torch.Tensor]:
    settings = GradAugSettings.preset(
        32, subnets=3, batch_fraction=1., mode='depth', min_survival=0.3, statistics=statistics)
    model = make('gradaug_resnet20_cifar')
    task = GradAugTask(model, nn.CrossEntropyLoss(), settings=settings)
    for images, target in batches():
        task(images, target)['loss'].backward()
    return dict(model.named_buffers())


def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        yield torch.randn(4, 3, 32, 32, generator=generator), torch.randint(0, 4, (4,), generator=generator)


@torch.no_grad()
def run_plain(network: nn.Module, images: torch.Tensor, skipped: tuple[int, ...]) -> None:
    """A network of plain layers in training mode, its skipped blocks cut down to shortcut and activation."""
    blocks = [block for stage in network.stages for block in stage]
    for index in skipped:
        shortcut = blocks[index].downsample or nn.Identity()
        blocks[index].forward = lambda x, shortcut=shortcut: shortcut(x).relu()
    network(images)
    for index in skipped:
        del blocks[index].forward


def expected_buffers(*, all_passes: bool) -> dict[str, torch.Tensor]:
    settings = GradAugSettings.preset(32, subnets=3, batch_fraction=1., mode='depth', min_survival=0.3)
    network = make('resnet20_cifar')
    for step, (images, _) in enumerate(batches()):
        run_plain(network, images, ())
        for draw in draw_step(settings, step, num_blocks=9) if all_passes else ():
            run_plain(network, apply_transform(images, draw.transform), draw.subnet.skipped)
    return dict(network.named_buffers())


def assert_same(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], msg=name)


def test_running_statistics_follow_the_full_network_alone():
    assert_same(trained_buffers('full'), expected_buffers(all_passes=False))


def test_running_statistics_follow_all_passes_where_that_is_set():
    buffers = trained_buffers('all')
    assert_same(buffers, expected_buffers(all_passes=True))
    assert int(buffers['bn1.num_batches_tracked']) == STEPS * 4
