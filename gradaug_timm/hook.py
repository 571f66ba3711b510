"""GradAug in timm's own, unmodified train.py: `--device-modules gradaug_timm.hook --model gradaug_resnet50`.

Importing this module replaces timm's tasks by GradAug's, in timm and in the running script. Settings are environment
variables named like the flags of our train.py: GRADAUG_SUBNETS=2, GRADAUG_SIZES="1.0 6/7". Settings that are not set
take the preset of the image size, as far as the network supports it. Networks of a fixed input size get resized images
with timm's `--model-kwargs dynamic_img_size=True`, and rotated images otherwise.
"""
import logging
import os
import sys
from collections.abc import Callable

import timm.task
import torch
from timm.utils import unwrap_model

from .environment import flags_in
from .task.budget import choose_preset
from .task.cost import RelativeCost
from .task.fit_inputs import fit_inputs, log_inputs
from .task.gradaug import GradAugTask, MultiLabelGradAugTask
from .task.settings import GradAugSettings
from .training.arguments import given_settings

_logger = logging.getLogger(__name__)


class _Hooked:
    """Common part of the hooked tasks: the first batch determines the preset."""
    trainable_module: torch.nn.Module
    verbose: bool
    change_settings: Callable[[GradAugSettings], None]

    def __init__(self, model, *args, **kwargs):
        flags = flags_in(os.environ)
        self._given, self._budget, self._preset = given_settings(flags), flags.gradaug_budget, flags.gradaug_preset
        size = (getattr(model, 'pretrained_cfg', None) or {}).get('input_size', (3, 224, 224))[-1]
        super().__init__(model, *args, settings=GradAugSettings.preset(size, self._preset, **self._given), **kwargs)
        self._announced = False

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        if not self._announced:
            self._fit(len(input), tuple(input.shape[1:]))  # type: ignore[arg-type]
            self._announced = True
        return super().forward(input, target)  # type: ignore[misc]

    def _fit(self, batch: int, input_size: tuple[int, int, int]) -> None:
        network = unwrap_model(self.trainable_module)

        def unfitted(preset: str | None) -> GradAugSettings:
            return GradAugSettings.preset(max(input_size[1:]), preset, **self._given)

        def settings_of(preset: str) -> GradAugSettings:
            return fit_inputs(network, unfitted(preset), input_size, given=self._given)

        preset, settings = self._preset, unfitted(self._preset)
        if settings.subnets:
            cost = RelativeCost(network, input_size, batch=batch)
            preset, settings = choose_preset(preset, self._budget, settings_of, cost, given=self._given)
        self.change_settings(settings)
        if self.verbose:
            log_inputs(network, unfitted(preset), settings)
            _logger.info(f'GradAug is on: {settings}')


class HookedTask(_Hooked, GradAugTask):
    """The replacement for timm's ClassificationTask."""


class HookedMultiLabelTask(_Hooked, MultiLabelGradAugTask):
    """The replacement for timm's MultiLabelClassificationTask."""


def refuse_distillation(*args, **kwargs):
    """End the program: GradAug does not support timm's distillation tasks."""
    sys.exit('gradaug_timm.hook: error: --kd-model-name is not supported with GradAug, which has soft targets of its '
             'own; leave out one of them')


def install() -> None:
    """Replace timm's tasks by GradAug's, in timm.task and in the running script."""
    hooked = {
        'ClassificationTask': HookedTask, 'MultiLabelClassificationTask': HookedMultiLabelTask,
        'LogitDistillationTask': refuse_distillation, 'FeatureDistillationTask': refuse_distillation,
        'TokenDistillationTask': refuse_distillation,
    }
    plain = {name: getattr(timm.task, name) for name in hooked}
    for module in (timm.task, sys.modules['__main__']):
        for name, replacement in hooked.items():
            if vars(module).get(name) is plain[name]:
                setattr(module, name, replacement)


install()
