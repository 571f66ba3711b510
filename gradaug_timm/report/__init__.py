"""`python -m gradaug_timm.report` compares runs."""
