"""The comparison of runs: what `python -m gradaug_timm.report` does."""
