"""The transformations of sub-networks' inputs that come with GradAug; every module here is imported by itself."""
from ...registry import import_modules
from .resize import Resize
from .rotation import Rotation

__all__ = ['Resize', 'Rotation']

import_modules(__name__, __path__)
