"""Adversarial images: each pixel, in 0 to 1 before normalisation, is changed by a given distance at most."""
import torch
import torch.nn.functional as F
from torch import nn


class Normalised(nn.Module):
    """A network behind its normalisation.

    Args:
        network: Takes normalised images [N, C, H, W].
        mean: Of each channel, for pixels in 0 to 1.
        std: The standard deviation.
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network = network
        device = next(network.parameters()).device
        self.register_buffer('mean', torch.tensor(mean, device=device).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, device=device).view(-1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images in 0 to 1."""
        return self.network((images - self.mean) / self.std)

    def pixels(self, normalised: torch.Tensor) -> torch.Tensor:
        """Return images in 0 to 1."""
        return (normalised * self.std + self.mean).clamp(0, 1)


def fgsm(network: nn.Module, images: torch.Tensor, target: torch.Tensor, eps: float) -> torch.Tensor:
    """Apply the fast gradient sign method (Goodfellow et al., ICLR 2015): one step of `eps` that raises cross-entropy.

    Args:
        network: Takes images in 0 to 1.
        images: [N, C, H, W].
        target: Classes [N].
        eps: The distance.

    Returns:
        Images in 0 to 1.
    """
    return (images + eps * _direction(network, images, target)).clamp(0, 1)


def pgd(
        network: nn.Module,
        images: torch.Tensor,
        target: torch.Tensor,
        eps: float,
        *,
        steps: int,
        step_size: float,
        generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Apply projected gradient descent (Madry et al., ICLR 2018): small steps that stay within `eps`.

    Args:
        network: Takes images in 0 to 1.
        images: [N, C, H, W].
        target: Classes [N].
        eps: The distance.
        steps: Number of steps.
        step_size: Length of each.
        generator: Draws where to start, on the CPU; None starts at the images.

    Returns:
        Images in 0 to 1.
    """
    changed = images
    if generator is not None:
        noise = torch.rand(images.shape, generator=generator).to(images)
        changed = (images + eps * (2 * noise - 1)).clamp(0, 1)
    for _ in range(steps):
        changed = changed + step_size * _direction(network, changed, target)
        changed = changed.clamp(images - eps, images + eps).clamp(0, 1)
    return changed


def _direction(network: nn.Module, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        loss = F.cross_entropy(network(images), target, reduction='sum')
        return torch.autograd.grad(loss, images)[0].sign()
