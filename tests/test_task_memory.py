"""The memory of a GradAug step is that of one pass."""
import timm
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from gradaug_timm import GradAugSettings, GradAugTask


def peak_allocation(step) -> int:
    """Bytes allocated at the peak of `step()` above those at its start, by torch's profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == '[memory]']
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


def test_the_peak_of_a_step_is_at_most_1_15_times_that_of_plain_training():
    torch.manual_seed(0)
    model = timm.create_model('gradaug_resnet18', num_classes=10, channels=(32, 48, 64, 96))
    images, target = torch.randn(16, 3, 64, 64), torch.randint(0, 10, (16,))
    peaks = {}
    for subnets in (0, 3):
        task = GradAugTask(model, nn.CrossEntropyLoss(), settings=GradAugSettings(subnets=subnets))
        for _ in range(2):
            model.zero_grad(set_to_none=True)
            peaks[subnets] = peak_allocation(lambda task=task: task(images, target)['loss'].backward())
    assert peaks[0] > 16 * 64 * 32 * 32 * 4  # at least the first activations are in it
    assert peaks[3] <= 1.15 * peaks[0]
