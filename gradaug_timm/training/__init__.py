"""Training: the command train.py and the function `gradaug_timm.train`."""
