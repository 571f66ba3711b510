"""Plans of networks in which every layer keeps its own prefix of channels, whatever neighbouring layers keep."""
from torch import nn

from ..plan import Group, Number, Plan, Side


def prefix_plan(
        model: nn.Module,
        *,
        first: str,
        classifier: str | None,
        blocks: tuple[str, ...],
        counting: dict[type[nn.Module], str],
) -> Plan:
    """Return the plan of a network of convolutions, linear layers and BatchNorms whose additions pad with zeros.

    Args:
        model: The network.
        first: Name of the layer that takes the image.
        classifier: Name of the layer that returns the logits, if there is one.
        blocks: Names of the blocks that can be skipped.
        counting: Other classes of modules -> the attribute that counts output channels.
    """
    groups: dict[int, int] = {}

    def prefix(channels: int) -> Side:
        return Side.of_one_group(groups.setdefault(channels, len(groups)), channels)

    tensors: dict[str, tuple[Side | None, ...]] = {}
    numbers: dict[str, Number] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            out = None if name == classifier else prefix(module.weight.shape[0])
            inp = None if name == first else prefix(module.weight.shape[1])
            tensors[f'{name}.weight'] = (out, inp, *[None] * (module.weight.dim() - 2))
            if module.bias is not None:
                tensors[f'{name}.bias'] = (out,)
            kind = 'channels' if isinstance(module, nn.Conv2d) else 'features'
            numbers.update({f'{name}.in_{kind}': inp, f'{name}.out_{kind}': out})
        elif isinstance(module, nn.BatchNorm2d):
            side = prefix(module.num_features)
            tensors.update({f'{name}.{key}': (side,) for key in ('weight', 'bias', 'running_mean', 'running_var')})
            numbers[f'{name}.num_features'] = side
        elif type(module) in counting:
            attribute = counting[type(module)]
            numbers[f'{name}.{attribute}'] = prefix(getattr(module, attribute))
    return Plan(
        tuple(Group(channels) for channels in groups),
        {name: sides for name, sides in tensors.items() if any(side is not None for side in sides)},
        {name: side for name, side in numbers.items() if side is not None},
        blocks,
    )
