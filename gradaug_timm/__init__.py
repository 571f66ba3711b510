"""GradAug for timm: networks regularised by training their own random sub-networks."""
from . import models

__all__ = ['models']
