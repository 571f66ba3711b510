"""Training tasks of detectors: the losses of the full network, and with GradAug of its sub-networks."""
from collections.abc import Callable
from functools import partial

import torch
from timm.task import TrainingTask
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.detection.image_list import ImageList

from ..elastic import PartCache, num_blocks
from ..task.loss_scale import EarlyLossScale
from ..task.passes import Pass, run_passes
from ..task.sampling import Draw, images_seen
from ..task.settings import GradAugSettings
from ..task.steps import SubnetSteps
from ..upstream import AnyBatchNorm
from .regions import Predictions, recorded, region_losses, with_regions
from .rescale import Target, rescale

TARGETS = ('truth', 'predictions')


class DetectionTask(TrainingTask):
    """Plain training of a torchvision detector.

    Args:
        model: The detector.
        freezes_statistics: Normalise by the running statistics and keep them, as is usual in fine-tuning from
            pre-trained weights with few images per batch.
        device: Device for task tensors/buffers.
        dtype: Dtype for task tensors/buffers.
        verbose: Enable info logging.
    """

    def __init__(
            self,
            model: nn.Module,
            *,
            freezes_statistics: bool = False,
            device: torch.device | None = None,
            dtype: torch.dtype | None = None,
            verbose: bool = True,
    ):
        super().__init__(device=device, dtype=dtype, verbose=verbose)
        self.trainable_module = model
        self._norms = [each for each in model.modules()
                       if freezes_statistics and isinstance(each, AnyBatchNorm)]

    def forward(  # type: ignore[override]
            self,
            input: list[torch.Tensor],
            target: list[Target],
    ) -> dict[str, torch.Tensor]:
        """Compute the loss of a training step.

        Args:
            input: Images [3, H, W] of any sizes, in 0 to 1.
            target: As torchvision's detectors take them.

        Returns:
            'loss' [] for one backward(), and its components [], detached.
        """
        return self._full(*self.detector.transform(input, target))

    def prepare_distributed(self, device_ids: list | None = None, **ddp_kwargs) -> 'DetectionTask':
        """Wrap the detector in DDP."""
        self.trainable_module = DistributedDataParallel(self.trainable_module, device_ids=device_ids, **ddp_kwargs)
        return self

    @property
    def detector(self) -> nn.Module:
        """The detector, below DDP's wrapper."""
        module = self.trainable_module
        return module.module if isinstance(module, DistributedDataParallel) else module

    def _full(self, images: ImageList, targets: list[Target]) -> dict[str, torch.Tensor]:
        self._normalise_by_batch(False)
        losses = self.trainable_module(images, targets)
        return {'loss': sum(losses.values()), **{name: value.detach() for name, value in losses.items()}}

    def _normalise_by_batch(self, by_batch: bool) -> None:
        for norm in self._norms:
            norm.training = by_batch


class GradAugDetectionTask(SubnetSteps, DetectionTask):
    """Training of a detector together with narrow or shallow versions of its network (paper, section 4.3).

    In every step sub-networks of the backbone see the batch resized. They learn the same boxes and masks, resized with
    it, or what the full network predicts for its regions, which are resized too. Proposals are always learned from the
    truth, since anchors of two sizes are different boxes. BatchNorm of sub-networks uses the batch's statistics.

    Args:
        model: A detector whose backbone's pyramid is elastic.
        settings: Settings of GradAug.
        targets: What sub-networks learn, one of TARGETS.
        loss_scale: As for GradAugTask.
        **kwargs: As for DetectionTask.

    Raises:
        ValueError: A setting is not supported in detection, or there are no blocks to skip for random depth.
    """

    def __init__(
            self,
            model: nn.Module,
            *,
            settings: GradAugSettings,
            targets: str = 'truth',
            loss_scale: Callable[[], torch.Tensor | None] | None = None,
            **kwargs,
    ):
        super().__init__(model, **kwargs)
        if targets not in TARGETS:
            raise ValueError(f'targets={targets!r} must be one of {", ".join(TARGETS)}')
        for cls, values in (*settings.built_in, *settings.registered):
            if not cls.only_resizes:
                raise ValueError(f'{cls.name}={values} must be empty in detection: boxes are only resized')
        if settings.statistics != 'full':
            raise ValueError(f'statistics={settings.statistics!r} must be \'full\' in detection')
        self.settings, self._targets = settings, targets
        self._early_scale, self._parts = EarlyLossScale(loss_scale), PartCache()
        self._num_blocks = num_blocks(model.backbone.pyramid)
        if settings.subnets and settings.random_depth and not self._num_blocks:
            raise ValueError(f'mode={settings.mode!r} needs residual blocks that can be skipped; mode=\'width\' is '
                             'allowed.')

    def forward(  # type: ignore[override]
            self,
            input: list[torch.Tensor],
            target: list[Target],
    ) -> dict[str, torch.Tensor]:
        """Compute the loss as DetectionTask does, with 'loss_full', 'loss_subnet_0' and so on as components."""
        images, targets = self.detector.transform(input, target)
        draws = self._next_draws()
        if not draws:
            return self._full(images, targets)
        predictions = None
        if self._targets == 'truth':
            result = self._full(images, targets)
        else:
            with recorded(self.detector.roi_heads) as predictions:
                result = self._full(images, targets)
            targets = with_regions(self.detector.roi_heads, targets, predictions)
        self._normalise_by_batch(True)
        seen = images_seen(len(input), self.settings.batch_fraction)
        images, targets = ImageList(images.tensors[:seen], images.image_sizes[:seen]), targets[:seen]
        total, losses = run_passes(
            self.detector,
            result['loss'],
            [Pass(draw.subnet, partial(self._subnet_loss, images, targets, predictions, draw)) for draw in draws],
            elastic=self.detector.backbone.pyramid,
            scale=self._fp16_scale(images.tensors.device.type),
            keeps_last=self.trainable_module is not self.detector,
            cache=self._parts,
        )
        components = {f'loss_subnet_{index}': loss for index, loss in enumerate(losses)}
        return {**result, 'loss': total, 'loss_full': result['loss'].detach(), **components}

    def _subnet_loss(
            self,
            images: ImageList,
            targets: list[Target],
            predictions: Predictions | None,
            draw: Draw,
    ) -> torch.Tensor:
        seen = rescale(images, targets, draw.transform.output_size(*images.tensors.shape[-2:]))
        if predictions is None:
            losses = self.detector(*seen)
        else:
            losses = region_losses(self.detector, *seen, predictions, self.settings.temperature)
        return self.settings.weight * sum(losses.values())
