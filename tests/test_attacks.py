"""Adversarial images, against foolbox."""
import pytest
import torch
from torch import nn

from gradaug_timm.evaluation.attacks import Normalised, fgsm, pgd


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(6, 3, 8, 8, generator=generator), torch.arange(6) % 5


@pytest.mark.parametrize('steps', [None, 3])
def test_images_are_those_of_foolbox(steps):
    foolbox = pytest.importorskip('foolbox', reason='needs foolbox')
    mean, std, eps = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), 0.05
    images, target = batch()
    inner = network()
    whole = Normalised(inner, mean, std)
    reference = foolbox.PyTorchModel(
        inner, bounds=(0, 1), device='cpu', preprocessing=dict(mean=list(mean), std=list(std), axis=-3))
    if steps is None:
        ours, attack = fgsm(whole, images, target, eps), foolbox.attacks.FGSM()
    else:
        ours = pgd(whole, images, target, eps, steps=steps, step_size=0.03)
        attack = foolbox.attacks.LinfPGD(steps=steps, abs_stepsize=0.03, random_start=False)
    _, theirs, _ = attack(reference, images, target, epsilons=eps)
    torch.testing.assert_close(ours, theirs)


def test_a_random_start_stays_within_the_distance_and_follows_from_the_seed():
    images, target = batch()
    model = network()
    first, second = (
        pgd(model, images, target, 0.1, steps=2, step_size=0.08, generator=torch.Generator().manual_seed(3))
        for _ in range(2))
    assert torch.equal(first, second)
    assert 0.05 < (first - images).abs().max() <= 0.1 + 1e-6
    assert first.min() >= 0 and first.max() <= 1
