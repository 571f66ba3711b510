"""Comparison of methods at equal computation: the command `python -m gradaug_timm.compare`."""
