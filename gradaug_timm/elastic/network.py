"""Making a network elastic, and running it as one of its sub-networks."""
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from .cache import cached_plan
from .plan import Plan
from .planning.registry import planner_of
from .planning.replica import one_line, replica_of
from .planning.validation import validated
from .slicing import Elastic
from .state import ElasticState
from .subnet import Subnet
from .swap import CACHES, restore_classes

ATTRIBUTE = '_elastic'

_logger = logging.getLogger(__name__)


def unwrap(model: nn.Module) -> nn.Module:
    """The network below the wrappers of DDP, torch.compile and averages of weights."""
    if isinstance(model, DistributedDataParallel | DataParallel | ModelEmaV2 | ModelEmaV3 | AveragedModel):
        return unwrap(model.module)
    if isinstance(model, ModelEma):
        return unwrap(model.ema)
    return unwrap(model._orig_mod) if hasattr(model, '_orig_mod') else model


@torch.inference_mode(False)
@torch.enable_grad()
def _plan(network: nn.Module) -> Plan:
    """The network's plan, whatever the caller's modes and default device; the caller's random numbers stay."""
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
            raise ValueError(f'{name} can\'t run as sub-networks: planning fails ({one_line(error)}).') from error

    with torch.device('cpu'), torch.random.fork_rng(devices=[]):
        plan = cached_plan(network, planner, make, ignored=CACHES | {ATTRIBUTE})
    whole = [name.removesuffix('.weight') for name, sides in plan.tensors.items()
             if len(sides) > 1 and any(side is not None and side.groups & plan.frozen for side in sides)]
    if whole:
        _logger.warning(f'{name}: channels of {", ".join(whole)} stay whole in sub-networks, since what is between '
                        'them mixes channels.')
    return plan


def mark_elastic(model: nn.Module) -> nn.Module:
    """Marks a network, in place, to be planned when one of its sub-networks is first needed."""
    vars(model).setdefault(ATTRIBUTE, ElasticState())
    return model


def is_elastic(model: nn.Module) -> bool:
    """Whether `model`, under DDP's or torch.compile's wrapper or not, can run as sub-networks."""
    return ATTRIBUTE in vars(unwrap(model))


def make_elastic(model: nn.Module) -> nn.Module:
    """Makes a network able to run as its own sub-networks, in place.

    Parameters, buffers, state-dict keys and outputs at full width stay what they are.

    Args:
        model: A network that takes images [N, C, H, W] and returns a tensor or several.

    Returns:
        `model`.

    Raises:
        ValueError: It can't be carried; the message says why. `model` is unchanged then.
    """
    network = unwrap(model)
    state = vars(network).get(ATTRIBUTE) or ElasticState()
    if not state.is_current():
        state.install(network, _plan(network))
    vars(network)[ATTRIBUTE] = state
    return model


def install(model: nn.Module, plan: Plan) -> nn.Module:
    """Makes a network elastic by a plan that is known, in place.

    Args:
        model: The network, of plain modules.
        plan: Its plan.
    """
    state = ElasticState()
    state.install(model, plan)
    vars(model)[ATTRIBUTE] = state
    return model


def elastic_state(model: nn.Module) -> tuple[nn.Module, ElasticState]:
    """The network below any wrapper and its state, planned; planned anew where modules were replaced.

    Raises:
        ValueError: `model` isn't elastic, or can't be carried (any more).
    """
    network = unwrap(model)
    if ATTRIBUTE not in vars(network):
        raise ValueError(
            f'{type(network).__name__} is not elastic: call make_elastic(model), or create a gradaug_* model.')
    make_elastic(network)
    return network, vars(network)[ATTRIBUTE]


@contextmanager
def activate(model: nn.Module, subnet: Subnet) -> Iterator[nn.Module]:
    """Runs `model` as a sub-network for the time of the context, whose end always restores what was before.

    In training mode BatchNorm takes the batch's statistics and leaves the running ones alone; in evaluation mode it
    takes those recalibrated for `subnet` where there are some, else the kept entries of the running ones. Other layers'
    buffers stay what they are, too. With activation checkpointing backward, which runs layers again, belongs into the
    context.

    Args:
        model: An elastic network, under DDP's or torch.compile's wrapper or not.
        subnet: The sub-network.

    Raises:
        ValueError: `model` isn't elastic, or `subnet` skips a block that it doesn't have.
    """
    network, state = elastic_state(model)
    previous = state.active
    state.activate(network, subnet)
    try:
        yield model
    finally:
        state.activate(network, previous)


def num_blocks(model: nn.Module) -> int:
    """How many residual blocks of an elastic network can be skipped."""
    return len(elastic_state(model)[1].plan.blocks)


def statistics(model: nn.Module, subnet: Subnet) -> dict[str, tuple[Tensor, Tensor]] | None:
    """The statistics recalibrated for `subnet`: by BatchNorm's name mean and variance [kept channels]."""
    return elastic_state(model)[1].statistics.get(subnet)


def set_statistics(model: nn.Module, subnet: Subnet, statistics: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Gives `subnet` BatchNorm statistics of its own for evaluation.

    Args:
        model: An elastic network.
        subnet: The sub-network.
        statistics: By BatchNorm's name (in the network below any wrapper) mean and variance [kept channels].

    Raises:
        ValueError: `model` isn't elastic, or `statistics` don't fit it.
    """
    network, state = elastic_state(model)
    state.set_statistics(network, subnet, statistics)
