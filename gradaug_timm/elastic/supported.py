"""Networks whose weights other tools hold or have replaced: they are rejected by name."""
from collections.abc import Iterator

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from ..upstream import AnyBatchNorm, is_quantized, is_sharded, pruned_parameters, weights_of_hooks
from .slicing import Elastic

FEW = 3  # names in a message
# Modules of timm with classifiers that folding makes of a norm and a linear layer. The bias of the linear layer is then
# a sum over all channels, also over those that a sub-network drops.
FOLDS_HEAD = frozenset(f'timm.models.{name}' for name in ('efficientvit_msra', 'iformer', 'levit', 'repvit', 'shvit'))
FOLDS_BLOCKS = 'timm.models.nextvit'  # likewise, norms and the layers after them inside of blocks


def check_supported(network: nn.Module) -> None:
    """Check that a network which is to become elastic holds its weights itself.

    Args:
        network: The network, below any wrapper.

    Raises:
        ValueError: Another tool holds or has replaced weights; the message names them, and says what to do.
    """
    check_whole(network)
    for names, reason in (
        (_keys(network, pruned_parameters),
         'are pruned by torch.nn.utils.prune: make that permanent with torch.nn.utils.prune.remove(module, name)'),
        (_keys(network, weights_of_hooks),
         'are computed before each pass (spectral_norm or weight_norm of torch.nn.utils): remove that with '
         'remove_spectral_norm or remove_weight_norm, or use those of torch.nn.utils.parametrizations'),
        (_names(network, lambda module: is_parametrized(module) and _made_elastic_before(type(module))),
         'are parametrized since the network is elastic: parametrize them before make_elastic, or use '
         'torch.nn.utils.parametrize.remove_parametrizations(module, name)'),
        (_names(network, is_quantized),
         'are quantized: make the network elastic, or extract the sub-network, before you quantize'),
        (_folded(network),
         'are folded with the norm before them (reparameterize_model), so that all channels are in the bias: make the '
         'network elastic, or extract the sub-network, before you fold'),
    ):
        _reject(network, names, reason)


def check_whole(network: nn.Module) -> None:
    """Check that no parameter of a network is divided among processes.

    Raises:
        ValueError: A parameter is.
    """
    _reject(network, _names(network, lambda module: any(map(is_sharded, [module, *module.parameters(recurse=False)]))),
            'are divided among processes (FSDP, tensor parallelism, DeepSpeed), and sub-networks slice whole '
            'parameters: use DDP')


def _reject(network: nn.Module, names: list[str], reason: str) -> None:
    if names:
        more = f' and {len(names) - FEW} more' if len(names) > FEW else ''
        raise ValueError(f'{_class_name(network)} can\'t run as sub-networks: {", ".join(names[:FEW])}{more} {reason}.')


def _made_elastic_before(cls: type[nn.Module]) -> bool:
    """Return whether a class was derived from an elastic one, as torch does for the class of a parametrized module."""
    return issubclass(cls, Elastic) and 'plain' not in vars(cls)


def _class_name(network: nn.Module) -> str:
    return (network.plain if isinstance(network, Elastic) else type(network)).__name__


def _names(network: nn.Module, holds) -> list[str]:
    """Return the names of the outermost modules for which a function is true."""
    found: list[str] = []
    for name, module in network.named_modules():
        if holds(module) and not (found and name.startswith(f'{found[-1]}.')):
            found.append(name)
    return [name or _class_name(network) for name in found]


def _keys(network: nn.Module, keys_of) -> list[str]:
    return [f'{name}.{key}'.lstrip('.') for name, module in network.named_modules() for key in keys_of(module)]


def _folded(network: nn.Module) -> list[str]:
    """Return the names of folded blocks and classifiers.

    A linear layer next to BatchNorms is a classifier of the user's own.
    """
    has_norms = any(isinstance(module, AnyBatchNorm) for module in network.modules())

    def folded(module: nn.Module) -> Iterator[str]:
        home = (module.plain if isinstance(module, Elastic) else type(module)).__module__
        if home == FOLDS_BLOCKS and vars(module).get('is_fused'):
            yield 'mlp'
        if home in FOLDS_HEAD and not has_norms:
            yield from (key for key, child in module.named_children()
                        if key in ('head', 'head_dist') and isinstance(child, nn.Linear))

    return _keys(network, folded)
