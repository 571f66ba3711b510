"""State of an elastic network."""
from torch import Tensor, nn

from ..upstream import own_modules
from .plan import Plan
from .slicing import Elastic, Ranges
from .subnet import Subnet
from .supported import check_whole
from .swap import STATISTICS, View, apply_view, is_batch_norm, make_view, swap_classes

CACHED_VIEWS = 512


class ElasticState:
    """State of an elastic network: the plan, recalibrated statistics, and the active sub-network.

    It is an attribute of the network, so that a deep copy is an independent elastic network. The plan is None until a
    sub-network is first used.
    """

    def __init__(self):
        self.plan: Plan | None = None
        self.statistics: dict[Subnet, dict[str, tuple[Tensor, Tensor]]] = {}
        self.active: Subnet | None = None
        self._views: dict[Subnet, View] = {}
        self._tree: list[tuple[nn.Module, dict[str, nn.Module]]] = []
        self.modules: list[nn.Module] = []

    def __getstate__(self):
        return {**vars(self), '_views': {}, 'active': None}

    def is_current(self) -> bool:
        """Return whether the network still consists of the modules that were planned."""
        return self.plan is not None and all(own_modules(parent) == children for parent, children in self._tree)

    def every_module(self) -> list[nn.Module]:
        """Return the network and all modules in it, each once, as of the planning."""
        return [parent for parent, _ in self._tree]

    def install(self, network: nn.Module, plan: Plan) -> None:
        """Store the plan and swap the classes of the network's layers and blocks."""
        self.plan = plan
        swap_classes(network, plan)
        self._tree = [(parent, dict(own_modules(parent))) for parent in network.modules()]
        self.modules = [module for module in network.modules() if isinstance(module, Elastic)]
        self._views.clear()
        self.statistics = {subnet: values for subnet, values in self.statistics.items()
                           if not self._misfits(network, subnet, values)}

    def activate(self, network: nn.Module, subnet: Subnet | None) -> None:
        """Make `network` run as `subnet`, or as the full network if `subnet` is None."""
        apply_view(self.modules, [] if subnet is None else self.view(network, subnet))
        self.active = subnet

    def view(self, network: nn.Module, subnet: Subnet) -> View:
        """Return the view of a sub-network; the same object until the network is planned again."""
        if subnet not in self._views:
            if len(self._views) >= CACHED_VIEWS:
                self._views.clear()
            if not self._views:
                check_whole(network)
            self._views[subnet] = make_view(network, self.plan, subnet, self.statistics.get(subnet))
        return self._views[subnet]

    def set_statistics(
            self,
            network: nn.Module,
            subnet: Subnet,
            statistics: dict[str, tuple[Tensor, Tensor]],
    ) -> None:
        misfits = self._misfits(network, subnet, statistics)
        if misfits:
            raise ValueError(f'statistics: {", ".join(misfits)} must name BatchNorms of {type(network).__name__}, with '
                             f'mean and variance of the channels that {subnet} keeps.')
        self.statistics[subnet] = statistics
        self._views.pop(subnet, None)

    def _misfits(self, network: nn.Module, subnet: Subnet, statistics: dict) -> list[str]:
        """Return the names that are not those of a BatchNorm, or whose statistics have another size."""
        ranges, modules = self.plan.ranges(subnet), dict(network.named_modules())
        return [name for name, values in statistics.items() if not (
            is_batch_norm(modules.get(name))
            and all(value.shape == (self._channels(modules[name], ranges.get(f'{name}.{kind}')),)
                    for kind, value in zip(STATISTICS, values)))]

    def _channels(self, module: nn.Module, dims: tuple[Ranges | None, ...] | None) -> int:
        return module.num_features if dims is None else sum(length for _, length in dims[0])
