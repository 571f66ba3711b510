#!/usr/bin/env python3
"""Evaluate a model, a checkpoint of train.py, or sub-networks of it: python validate.py --help."""
from gradaug_timm.evaluation.main import main

if __name__ == '__main__':
    main()
