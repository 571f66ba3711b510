"""The GradAug training task: the losses of the full network and of sub-networks as one loss."""
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from timm.task import ClassificationTask, MultiLabelClassificationTask
from timm.utils import unwrap_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..elastic import PartCache, make_elastic, num_blocks
from ..upstream import is_compiled
from .compile_limit import GraphLimit, most_alike
from .loss_scale import EarlyLossScale
from .losses import subnet_loss_for
from .passes import Pass, run_passes
from .repeats import is_whole, random_states, rng_unchanged
from .sampling import Draw, images_seen, most_sizes, width_grid
from .settings import GradAugSettings
from .steps import SubnetSteps
from .transforms import apply_transform


class GradAugTask(SubnetSteps, ClassificationTask):
    """Training of a network together with random sub-networks (paper, section 3).

    The loss of a step is L0 + weight * sum of L_i. L0 is the criterion on the full network's logits. L_i is the
    divergence between the prediction of sub-network i for a transformed batch and the full network's prediction for
    the batch. Every pass but the last is differentiated as soon as its loss is known, so a step needs the memory of a
    single pass. Call `result['loss'].backward()` once to get the gradient of the sum. In evaluation mode and without
    gradients the result is the same as that of timm's task.

    Args:
        model: The network; it is made elastic if necessary.
        criterion: Loss function of the full network. Created from criterion_kwargs when None.
        criterion_kwargs: Arguments for timm's create_classification_loss() when criterion is None.
        settings: Settings of GradAug.
        loss_scale: For fp16: a function that returns the scale [] of the gradient scaler as a tensor on the device, or
            None before its first use. Without it the task keeps its own scale for the passes that it differentiates.
        device: Device for task tensors/buffers.
        dtype: Dtype for task tensors/buffers.
        verbose: Enable info logging.

    Raises:
        ValueError: `model` is not supported, or has no blocks to skip for random depth; or the criterion is not a mean
            over the batch.

    Example:
        >>> import timm, torch
        >>> from gradaug_timm import GradAugSettings, GradAugTask
        >>> network = timm.create_model('gradaug_resnet20_cifar')
        >>> settings = GradAugSettings.preset(32, subnets=2)
        >>> task = GradAugTask(network, torch.nn.CrossEntropyLoss(), settings=settings, verbose=False)
        >>> result = task(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))
        >>> result['loss'].backward()
        >>> sorted(result)
        ['loss', 'loss_full', 'loss_subnet_0', 'loss_subnet_1', 'output']
    """

    def __init__(
            self,
            model: nn.Module,
            criterion: nn.Module | Callable | None = None,
            criterion_kwargs: dict | None = None,
            *,
            settings: GradAugSettings | None = None,
            loss_scale: Callable[[], torch.Tensor | None] | None = None,
            device: torch.device | None = None,
            dtype: torch.dtype | None = None,
            verbose: bool = True,
    ):
        super().__init__(model, criterion, criterion_kwargs, device=device, dtype=dtype, verbose=verbose)
        self._early_scale, self._parts = EarlyLossScale(loss_scale), PartCache()
        self._graph_limit: GraphLimit | None = None
        self.change_settings(settings or GradAugSettings())
        if is_compiled(model):
            self._prepare_compilation()

    def change_settings(self, settings: GradAugSettings) -> None:
        """Use other settings from the next step on.

        Args:
            settings: The settings.

        Raises:
            ValueError: The network has no blocks to skip for random depth.
        """
        network = unwrap_model(self.trainable_module)
        blocks = num_blocks(make_elastic(network)) if settings.subnets else 0
        if settings.subnets and settings.random_depth and not blocks:
            raise ValueError(f'mode={settings.mode!r} needs residual blocks that can be skipped: '
                             f'{type(network).__name__} has none; use mode=\'width\'.')
        self.settings, self._num_blocks = settings, blocks
        self.subnet_loss = subnet_loss_for(self.criterion, self.multi_label) if settings.subnets else None
        if self._graph_limit is not None:
            self._prepare_compilation()

    def compile(self, backend: str = 'inductor', mode: str | None = None, **compile_kwargs) -> nn.Module:  # type: ignore[override]
        """Compile the network, with one graph for each pair of width and size; no graph falls back to eager mode.

        Args:
            backend: Backend of torch.compile.
            mode: Mode of torch.compile.
            **compile_kwargs: More arguments of torch.compile.

        Raises:
            ValueError: Widths are continuous or depth is random, so that nearly every step would compile a new graph.
        """
        self._prepare_compilation()
        return super().compile(backend=backend, mode=mode, **{'dynamic': False, **compile_kwargs})

    def _prepare_compilation(self) -> None:
        """Raise torch's limit of graphs so that steps can compile a graph for each pair of width and size."""
        widths = width_grid(self.settings)
        if self.settings.subnets and (self.settings.random_depth or not widths):
            raise ValueError(
                f'torch.compile needs few different sub-networks, not those of mode={self.settings.mode!r} and '
                f'width_steps={self.settings.width_steps}: use mode=\'width\' and width_steps of at least 1.')
        batches = 2 + 2  # batches of two sizes in training; two more in evaluation, of the network and the average
        graphs = batches * (1 + len(widths) * most_sizes(self.settings))
        self._graph_limit = GraphLimit(graphs * most_alike(self.trainable_module))

    def prepare_distributed(self, device_ids: list | None = None, **ddp_kwargs) -> 'GradAugTask':
        """Wrap the network in DDP.

        Args:
            device_ids: The device of this process, for DDP.
            **ddp_kwargs: More arguments of DDP.

        Returns:
            The task.

        Raises:
            ValueError: `static_graph` is true; its reduction would start after the first pass.
        """
        if ddp_kwargs.get('static_graph'):
            raise ValueError('static_graph=True must be False: it reduces gradients after GradAug\'s first pass.')
        super().prepare_distributed(device_ids, **ddp_kwargs)
        return self

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss of one training step.

        Args:
            input: Batch [N, C, H, W].
            target: Class indices [N] or soft targets [N, classes].

        Returns:
            A dictionary with 'loss' [], for one call of backward(), and 'output', the full network's logits
            [N, classes], detached. In training also the components 'loss_full', 'loss_subnet_0' (the widest),
            'loss_subnet_1' and so on, [] each and detached.
        """
        with nullcontext() if self._graph_limit is None else self._graph_limit.applied():
            return self._forward(input, target)

    def _forward(self, input: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        training = self.trainable_module.training and torch.is_grad_enabled()
        draws = self._next_draws() if training else []
        states = random_states(input.device) if draws else None
        full = super().forward(input, target)
        loss, output = full['loss'], full['output'].detach()
        if self._graph_limit is not None:
            output = output.clone()  # later replays of CUDA graphs overwrite their outputs
        components = {'loss_full': loss.detach().clone()} if training else {}
        if draws:
            repeats = self._repeats(input, draws) if rng_unchanged(input.device, states) else set()
            loss, losses = self._add_subnets(loss, input, output, draws, repeats)
            components.update((f'loss_subnet_{index}', value) for index, value in enumerate(losses))
        return {'loss': loss, 'output': output, **components}

    def _repeats(self, input: torch.Tensor, draws: list[Draw]) -> set[int]:
        """Return the passes that would repeat the pass of the full network, if this drew no random numbers."""
        if images_seen(len(input), self.settings.batch_fraction) < len(input):
            return set()
        return {index for index, draw in enumerate(draws)
                if not draw.transform.changes(*input.shape[-2:]) and is_whole(self.trainable_module, draw.subnet)}

    def _add_subnets(
            self,
            loss: torch.Tensor,
            input: torch.Tensor,
            output: torch.Tensor,
            draws: list[Draw],
            repeats: set[int],
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the loss of all passes, and the losses of the sub-networks, detached.

        Args:
            loss: The full network's loss.
            input: The batch [N, C, H, W].
            output: The full network's logits [N, classes], detached.
            draws: The sub-networks.
            repeats: Indices of sub-networks that are not run, because their logits are `output`.
        """
        module = self.trainable_module
        network = module.module if isinstance(module, DistributedDataParallel) else module
        seen = images_seen(len(input), self.settings.batch_fraction)
        input, output = input[:seen], output[:seen]

        def loss_of(draw: Draw) -> torch.Tensor:
            return self._subnet_loss(network(apply_transform(input, draw.transform)), output)

        repeated = [self._subnet_loss(output, output) for _ in repeats]
        total, losses = run_passes(
            network,
            loss,
            [Pass(draw.subnet, partial(loss_of, draw)) for index, draw in enumerate(draws) if index not in repeats],
            scale=self._fp16_scale(input.device.type),
            keeps_last=module is not network,
            cache=self._parts,
        )
        run, same = iter(losses), iter(repeated)
        return sum(repeated, start=total), [next(same if index in repeats else run) for index in range(len(draws))]

    def _subnet_loss(self, logits: torch.Tensor, full_logits: torch.Tensor) -> torch.Tensor:
        return self.settings.weight * self.subnet_loss(  # type: ignore[misc]
            logits, full_logits, self.settings.temperature)


class MultiLabelGradAugTask(GradAugTask, MultiLabelClassificationTask):
    """GradAug for independent classes: targets are dense floats [N, classes], and sub-networks learn sigmoid targets.

    Example:
        >>> import timm, torch
        >>> from gradaug_timm import GradAugSettings, MultiLabelGradAugTask
        >>> network = timm.create_model('gradaug_resnet20_cifar', num_classes=5)
        >>> settings = GradAugSettings.preset(32, subnets=1)
        >>> task = MultiLabelGradAugTask(network, torch.nn.BCEWithLogitsLoss(), settings=settings, verbose=False)
        >>> result = task(torch.randn(4, 3, 32, 32), torch.ones(4, 5))
        >>> result['loss'].backward()
        >>> result['output'].shape
        torch.Size([4, 5])
    """
