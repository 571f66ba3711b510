"""The comparison of runs: what `python -m gradaug_timm.report` does."""
from .main import main

__all__ = ['main']
