#!/usr/bin/env python3
"""Trains a network of timm, with GradAug or without: python train.py --help."""
from gradaug_timm.training.main import main

if __name__ == '__main__':
    main()
