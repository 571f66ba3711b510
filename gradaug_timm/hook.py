"""GradAug in timm's own, unmodified train.py: `--device-modules gradaug_timm.hook --model gradaug_resnet50`.

Importing this module puts GradAug's task in the place of timm's, in timm and in the script that runs. Settings are
environment variables named like the flags of our train.py: GRADAUG_SUBNETS=2, GRADAUG_SIZES="1.0 6/7"; what isn't set
takes the preset of the batches' size.
"""
import logging
import os
import sys

import timm.task
import timm.task.classification
import torch

from .environment import settings_in
from .settings import GradAugSettings
from .task import GradAugTask, MultiLabelGradAugTask

_logger = logging.getLogger(__name__)


class _Hooked:
    """Takes the preset of the batches' size from the first of them."""

    def __init__(self, model, *args, **kwargs):
        self._given = settings_in(os.environ)
        size = (getattr(model, 'pretrained_cfg', None) or {}).get('input_size', (3, 224, 224))[-1]
        super().__init__(model, *args, settings=GradAugSettings.preset(size, **self._given), **kwargs)
        self._announced = False

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        if not self._announced:
            self.settings = GradAugSettings.preset(max(input.shape[-2:]), **self._given)
            self._announced = True
            if self.verbose:
                _logger.info(f'GradAug is on: {self.settings}')
        return super().forward(input, target)


class HookedTask(_Hooked, GradAugTask):
    """What timm's script gets for ClassificationTask."""


class HookedMultiLabelTask(_Hooked, MultiLabelGradAugTask):
    """What timm's script gets for MultiLabelClassificationTask."""


def install() -> None:
    """Puts GradAug's tasks in the place of timm's, in timm.task and in the script that runs."""
    for plain, hooked in (
            (timm.task.classification.ClassificationTask, HookedTask),
            (timm.task.classification.MultiLabelClassificationTask, HookedMultiLabelTask),
    ):
        for module in (timm.task, sys.modules['__main__']):
            if vars(module).get(plain.__name__) is plain:
                setattr(module, plain.__name__, hooked)


install()
