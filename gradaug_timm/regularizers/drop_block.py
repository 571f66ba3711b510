"""DropBlock as in the paper (Ghiasi et al., arXiv 1810.12890), after every convolution and shortcut of two stages.

timm's DropBlock differs: it is applied once in each residual block, drops squares of side 5 and 3, and also draws
seeds at positions where the square would leave the map. On a map as small as the square, it drops nearly everything.
"""
import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from ..models.cifar_pyramidnet import PyramidBasicBlock, PyramidBottleneck
from .registry import register_regularizer

EARLIER_SHARE = 0.25  # share of the rate in the last stage but one
INNER_ACTIVATIONS = {  # class of block -> activations after a convolution and norm, without the one after the sum
    BasicBlock: ('act1',),
    Bottleneck: ('act1', 'act2'),
    PyramidBasicBlock: ('act2',),
    PyramidBottleneck: ('act2', 'act3'),
}


def drop_block(x: torch.Tensor, rate: torch.Tensor | float, size: int = 7) -> torch.Tensor:
    """Drop square blocks, separately in each channel, and rescale the other entries to keep the mean.

    Each position at which a block fits into the map is the corner of a block with probability
    rate * area / size^2 / valid positions. On maps smaller than a block, the block is as large as the map.

    Args:
        x: Features [N, C, H, W].
        rate: Approximate share of dropped entries; a tensor [] must be on the CPU or on the device of `x`.
        size: Side of the blocks.
    """
    images, channels, height, width = x.shape
    tall, wide = min(size, height), min(size, width)
    valid = (height - tall + 1, width - wide + 1)
    gamma = rate * (height * width / (tall * wide) / (valid[0] * valid[1]))
    seeds = (torch.rand(images, channels, *valid, device=x.device) < gamma).to(x.dtype)
    around = (wide - 1, wide - 1, tall - 1, tall - 1)
    kept = 1 - F.max_pool2d(F.pad(seeds, around), (tall, wide), stride=1)
    scale = kept.numel() / kept.sum(dtype=torch.float32).clamp(min=1)
    return x * (kept * scale.to(x.dtype))


class DropBlock(nn.Module):
    """DropBlock as a layer; the current rate can change without a new graph and without waiting for the device.

    Args:
        rate: The final rate.
        size: Side of the blocks.
    """

    def __init__(self, rate: float, size: int = 7):
        super().__init__()
        self.rate = rate
        self.size = size
        self.current = torch.tensor(rate, device='cpu')  # not a buffer, so it stays on the CPU in full precision

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return drop_block(x, self.current, self.size) if self.training else x

    def extra_repr(self) -> str:
        return f'rate={self.rate:.4g}, size={self.size}'


class DropBlockRamp:
    """Schedule that raises the rates of a network linearly from 0 over all updates.

    Args:
        model: A network with DropBlock layers.
        updates: Optimizer steps of the whole training.
    """

    def __init__(self, model: nn.Module, updates: int):
        self.layers = [module for module in model.modules() if isinstance(module, DropBlock)]
        self.updates = updates

    def set(self, done: int) -> None:
        """Set the rates for the state after `done` updates."""
        for layer in self.layers:
            layer.current.fill_(layer.rate * min(1., done / self.updates))


@register_regularizer('paper_drop_block', last=True, has_flags=True)
def add_drop_block(model: nn.Module, rate: float = 0.1, *, size: int = 7) -> nn.Module:
    """Add DropBlock after every convolution (with norm and activation) and shortcut of the last two stages, in place.

    Add DropBlock after all other regularisers.

    Args:
        model: A ResNet of timm or for CIFAR, or a PyramidNet.
        rate: Rate in the last stage; the stage before has a quarter of the rate.
        size: Side of the blocks.

    Returns:
        `model`.

    Raises:
        ValueError: `model` is not supported, or an argument is out of range.
    """
    if not 0 < rate < 1:
        raise ValueError(f'DropBlock rate={rate!r} must be above 0 and below 1.')
    if size < 1:
        raise ValueError(f'DropBlock size={size!r} must be at least 1.')
    stages: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if isinstance(module, tuple(INNER_ACTIVATIONS)):
            stages.setdefault(name.rpartition('.')[0], []).append(module)  # type: ignore[arg-type]
    if not stages:
        names = ', '.join(block.__name__ for block in INNER_ACTIVATIONS)
        raise ValueError(f'{type(model).__name__} has no place for DropBlock; supported blocks: {names}.')
    rates = [*[0.] * (len(stages) - 2), rate * EARLIER_SHARE, rate][-len(stages):]
    for blocks, stage_rate in zip(stages.values(), rates):
        for block in blocks if stage_rate else ():
            _add_to_block(block, stage_rate, size)
    return model


def _add_to_block(block: nn.Module, rate: float, size: int) -> None:
    def layer() -> DropBlock:
        return DropBlock(rate, size).train(block.training)

    inner = next(names for cls, names in INNER_ACTIVATIONS.items() if isinstance(block, cls))
    for name in inner:
        setattr(block, name, _joined(getattr(block, name), layer()))
    block.drop_path = _joined(layer(), block.drop_path)
    block.downsample = _joined(block.downsample, layer())


def _joined(first: nn.Module | None, second: nn.Module | None) -> nn.Module:
    """Return both modules as a sequence; an existing sequence is extended, so that state-dict keys do not change."""
    if first is None or second is None:
        return second if first is None else first  # type: ignore[return-value]
    return first.append(second) if isinstance(first, nn.Sequential) else nn.Sequential(first, second)
