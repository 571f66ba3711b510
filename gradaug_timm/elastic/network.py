"""Functions that make a network elastic and run it as one of its sub-networks."""
import itertools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ..cli import one_line
from ..threads import one_thread
from ..upstream import PARAMETER_CACHES, compiled_network, is_compiled, is_sharded, own_parameters
from .cache import cached_plan
from .plan import Plan
from .planning.registry import planner_of
from .planning.replica import replica_of
from .planning.validation import validated
from .slicing import Elastic
from .state import ElasticState
from .subnet import Subnet
from .supported import check_supported, check_whole
from .swap import restore_classes

ATTRIBUTE = '_elastic'

_logger = logging.getLogger(__name__)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network below the wrappers of DDP, torch.compile and weight averages."""
    if isinstance(model, DistributedDataParallel | DataParallel | ModelEmaV2 | ModelEmaV3 | AveragedModel):
        return unwrap(model.module)
    if isinstance(model, ModelEma):
        return unwrap(model.ema)
    return unwrap(compiled_network(model)) if is_compiled(model) else model


@torch.inference_mode(False)
@torch.enable_grad()
def _plan(network: nn.Module) -> Plan:
    """Return the plan of a network, whatever modes and default device are set; the caller's random state is kept."""
    check_supported(network)
    planner = planner_of(network)
    name = (network.plain if isinstance(network, Elastic) else type(network)).__name__

    def make() -> Plan:
        torch.default_generator.manual_seed(0)
        try:
            replica = replica_of(network)
            restore_classes(replica)
            return validated(replica, planner)
        except ValueError:
            raise
        except Exception as error:  # the network's own code may raise anything
            reason = one_line(error, kind=True)
            raise ValueError(f'{name} can\'t run as sub-networks: planning fails ({reason}).') from error

    with torch.device('cpu'), torch.random.fork_rng(devices=[]), one_thread():
        plan = cached_plan(network, planner, make, ignored=PARAMETER_CACHES | {ATTRIBUTE})
    whole = [name.removesuffix('.weight') for name, sides in plan.tensors.items()
             if len(sides) > 1 and any(side is not None and side.groups & plan.frozen for side in sides)]
    if whole:
        _logger.warning(f'{name}: sub-networks keep all channels of {", ".join(whole)}, because the code between '
                        'these layers mixes channels.')
    return plan


def mark_elastic(model: nn.Module) -> nn.Module:
    """Mark a network as elastic, in place; it is planned when a sub-network is first used."""
    vars(model).setdefault(ATTRIBUTE, ElasticState())
    return model


def is_elastic(model: nn.Module) -> bool:
    """Return whether `model` can run as sub-networks; it may be wrapped by DDP or torch.compile."""
    return ATTRIBUTE in vars(unwrap(model))


def make_elastic(model: nn.Module) -> nn.Module:
    """Make a network elastic, in place: it can then run as its own sub-networks.

    Parameters, buffers, state-dict keys and outputs at full width do not change.

    Args:
        model: A network that takes images [N, C, H, W] and returns a tensor or several tensors.

    Returns:
        `model`.

    Raises:
        ValueError: The network is not supported; the message says why, and `model` is unchanged.

    Example:
        >>> import timm, torch
        >>> from gradaug_timm import Subnet, activate, make_elastic
        >>> network = make_elastic(timm.create_model('test_resnet'))
        >>> with activate(network, Subnet(width=0.5)):
        ...     logits = network(torch.randn(2, 3, 32, 32))
        >>> logits.shape
        torch.Size([2, 1000])
    """
    network = unwrap(model)
    state = vars(network).get(ATTRIBUTE) or ElasticState()
    if not state.is_current():
        state.install(network, _plan(network))
    vars(network)[ATTRIBUTE] = state
    return model


def install(model: nn.Module, plan: Plan) -> nn.Module:
    """Make a network elastic with a known plan, in place.

    Args:
        model: The network, of plain modules.
        plan: The plan.
    """
    state = ElasticState()
    state.install(model, plan)
    vars(model)[ATTRIBUTE] = state
    return model


def elastic_state(model: nn.Module) -> tuple[nn.Module, ElasticState]:
    """Return the network below any wrapper and the network's state; plan it first if it has no current plan.

    A network is planned again if modules were replaced.

    Raises:
        ValueError: `model` is not elastic, or is not supported (any more), as when it was sharded since.
    """
    network = unwrap(model)
    if ATTRIBUTE not in vars(network) or is_sharded(next(network.parameters(), None)):
        check_whole(network)
    if ATTRIBUTE not in vars(network):
        raise ValueError(
            f'{type(network).__name__} is not elastic: call make_elastic(model), or create a gradaug_* model.')
    make_elastic(network)
    return network, vars(network)[ATTRIBUTE]


def plan_of(model: nn.Module) -> Plan:
    """Return the plan of an elastic network, which is planned first if it has no current plan.

    Raises:
        ValueError: As `elastic_state`, and if any part of the network is sharded.
    """
    network, state = elastic_state(model)
    check_whole(network)
    return state.plan


def modules_of(network: nn.Module) -> list[nn.Module]:
    """Return what `network.modules()` yields; faster for an elastic network that is planned."""
    state = vars(network).get(ATTRIBUTE)
    return state.every_module() if state is not None and state.is_current() else list(network.modules())


def trained_parameters(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return the parameters of modules that require gradients, each once, in order."""
    own = itertools.chain.from_iterable(own_parameters(module).values() for module in modules)
    return list({id(parameter): parameter for parameter in own
                 if parameter is not None and parameter.requires_grad}.values())


@contextmanager
def activate(model: nn.Module, subnet: Subnet) -> Iterator[nn.Module]:
    """Run `model` as a sub-network inside a `with` block; afterwards the previous state is always restored.

    In training mode BatchNorm uses the statistics of the batch and does not update the running statistics. In
    evaluation mode it uses statistics recalibrated for `subnet`, if there are any, otherwise the kept entries of the
    running statistics. Buffers of other layers do not change either. With activation checkpointing, call `backward()`
    inside the `with` block, because it runs layers again.

    Args:
        model: An elastic network; it may be wrapped by DDP or torch.compile.
        subnet: The sub-network.

    Raises:
        ValueError: `model` is not elastic, or `subnet` skips a block that does not exist.

    Example:
        >>> import timm, torch
        >>> from gradaug_timm import Subnet, activate
        >>> network = timm.create_model('gradaug_resnet20_cifar').eval()
        >>> images = torch.randn(2, 3, 32, 32)
        >>> with activate(network, Subnet(width=0.5)):
        ...     logits = network(images)
        ...     network.conv1.weight.shape
        torch.Size([8, 3, 3, 3])
        >>> network.conv1.weight.shape
        torch.Size([16, 3, 3, 3])
    """
    network, state = elastic_state(model)
    previous = state.active
    state.activate(network, subnet)
    try:
        yield model
    finally:
        state.activate(network, previous)


def num_blocks(model: nn.Module) -> int:
    """Return how many residual blocks of an elastic network can be skipped."""
    return len(plan_of(model).blocks)


def statistics(model: nn.Module, subnet: Subnet) -> dict[str, tuple[Tensor, Tensor]] | None:
    """Return the BatchNorm statistics recalibrated for `subnet`: name -> mean and variance [kept channels]."""
    return elastic_state(model)[1].statistics.get(subnet)


def set_statistics(model: nn.Module, subnet: Subnet, statistics: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Set BatchNorm statistics that evaluation uses for `subnet` alone.

    Args:
        model: An elastic network.
        subnet: The sub-network.
        statistics: Name of a BatchNorm (in the network below any wrapper) -> mean and variance [kept channels].

    Raises:
        ValueError: `model` is not elastic, or `statistics` do not fit it.
    """
    network, state = elastic_state(model)
    state.set_statistics(network, subnet, statistics)
