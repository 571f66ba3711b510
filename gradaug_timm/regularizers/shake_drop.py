"""ShakeDrop (Yamada et al., arXiv 1802.02375): residual branches are scaled at random in some steps.

With b ~ Bernoulli(p_l) for each block and batch, the branch is multiplied by b + alpha - b * alpha in the forward pass,
and the gradient by b + beta - b * beta. In evaluation the branch is multiplied by the expected value
p_l + (1 - p_l) * E[alpha]. The paper found the level "pixel" best; the authors' code uses it.
"""
import torch
from torch import nn

from .places import linear_decay, residual_places
from .registry import register_regularizer

LEVELS = ('batch', 'image', 'channel', 'pixel')


class _ScaleBothWays(torch.autograd.Function):
    """Product of `x` and a factor, with another factor for the gradient."""

    @staticmethod
    def forward(x, forward_factor, backward_factor):
        return x * forward_factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx, grad_output):
        backward_factor, = ctx.saved_tensors
        return grad_output * backward_factor, None, None


def shake(x: torch.Tensor, gate: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """Apply ShakeDrop with given draws; `gate` (0 or 1), `alpha` and `beta` broadcast to `x`."""
    closed = 1 - gate  # an open gate then gives exactly 1, also in low precision
    return _ScaleBothWays.apply(x, gate + closed * alpha, gate + closed * beta)


class ShakeDrop(nn.Module):
    """ShakeDrop at the end of a residual branch.

    Args:
        survival: Probability p_l that the branch is not scaled in a batch.
        alpha: Range of the uniform forward factors.
        beta: Range of the uniform backward factors.
        level: Entries that share a factor: "batch", "image", "channel" (of an image), or "pixel" for a factor of each
            entry. Channels are the last dimension of [N, tokens, C] and the second of [N, C, H, W]; the level
            "channel" is wrong for blocks that pass [N, H, W, C], such as Swin's.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
            self,
            survival: float,
            *,
            alpha: tuple[float, float] = (-1., 1.),
            beta: tuple[float, float] = (0., 1.),
            level: str = 'pixel',
    ):
        super().__init__()
        if not 0 < survival <= 1:
            raise ValueError(f'ShakeDrop survival={survival!r} must be above 0 and at most 1.')
        for name, (low, high) in (('alpha', alpha), ('beta', beta)):
            if low > high:
                raise ValueError(f'ShakeDrop {name}=({low}, {high}) must be a range, from low to high.')
        if level not in LEVELS:
            raise ValueError(f'ShakeDrop level={level!r} must be one of {", ".join(LEVELS)}.')
        self.survival = survival
        self.alpha = tuple(alpha)
        self.beta = tuple(beta)
        self.level = level

    @property
    def expected_factor(self) -> float:
        return self.survival + (1 - self.survival) * sum(self.alpha) / 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x * self.expected_factor
        gate = x.new_empty(()).bernoulli_(self.survival)
        return shake(x, gate, self._draw(x, self.alpha), self._draw(x, self.beta))

    def _draw(self, x: torch.Tensor, bounds: tuple[float, ...]) -> torch.Tensor:
        if self.level == 'pixel':
            return torch.empty_like(x).uniform_(*bounds)
        shape = [1] * x.dim()
        if self.level != 'batch':
            shape[0] = x.shape[0]
        if self.level == 'channel':
            dim = 1 if x.dim() == 4 else -1
            shape[dim] = x.shape[dim]
        return x.new_empty(shape).uniform_(*bounds)

    def extra_repr(self) -> str:
        return f'survival={self.survival:.4g}, alpha={self.alpha}, beta={self.beta}, level={self.level!r}'


@register_regularizer('shake_drop', in_evaluation=True, has_flags=True)
def add_shake_drop(
        model: nn.Module,
        survival: float = 0.5,
        *,
        alpha: tuple[float, float] = (-1., 1.),
        beta: tuple[float, float] = (0., 1.),
        level: str = 'pixel',
) -> nn.Module:
    """Add ShakeDrop at the end of every residual branch of a network, in place; it replaces DropPath.

    The residual branches of the paper's networks end with a norm. For other branches (as in wide ResNets), training may
    become unstable.

    Args:
        model: A network of timm with places for DropPath, or one of our CIFAR networks.
        survival: Probability p_L that the last branch is not scaled; it decreases linearly from the first branch on.
        alpha: Range of the forward factors.
        beta: Range of the backward factors.
        level: Entries that share a factor: batch, image, channel or pixel.

    Returns:
        `model`.

    Raises:
        ValueError: `model` has no such place, or an argument is out of range.
    """
    places = residual_places(model)
    for (block, name), p in zip(places, linear_decay(len(places), survival)):
        setattr(block, name, ShakeDrop(p, alpha=alpha, beta=beta, level=level).train(block.training))
    return model
