"""A plain implementation of GradAug's step, with all passes in one graph: the reference for tests of the task."""
import torch
import torch.nn.functional as F

from gradaug_timm import activate
from gradaug_timm.task.sampling import draw_step
from gradaug_timm.task.transforms import apply_transform


def naive_loss(model, images, target, settings, step, *, num_blocks, criterion=F.cross_entropy, multi_label=False):
    """The sum of the criterion and of all sub-networks' divergences [], the whole graph alive."""
    full = model(images)
    loss = criterion(full, target)
    part = round(settings.batch_fraction * len(images))
    for draw in draw_step(settings, step, num_blocks=num_blocks):
        with activate(model, draw.subnet):
            logits = model(apply_transform(images[:part], draw.transform)).float() / settings.temperature
        soft = full[:part].detach().float() / settings.temperature
        if multi_label:
            q, p = soft.sigmoid(), logits.sigmoid()
            divergence = -(q * p.log() + (1 - q) * (1 - p).log()).mean()
        else:
            q = soft.softmax(-1)
            divergence = (q * (q.log() - logits.log_softmax(-1))).sum(-1).mean()
        loss = loss + settings.weight * settings.temperature ** 2 * divergence
    return loss


def gradient(model) -> torch.Tensor:
    """All gradients [parameters], zeros where there is none."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()])


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())
