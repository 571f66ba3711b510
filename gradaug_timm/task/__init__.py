"""GradAug itself: sub-networks are drawn, see transformed images, and add their losses to the full network's."""
from .gradaug import GradAugTask, MultiLabelGradAugTask
from .settings import GradAugSettings

__all__ = ['GradAugSettings', 'GradAugTask', 'MultiLabelGradAugTask']
