#!/usr/bin/env python3
"""Train a timm network with or without GradAug: python train.py --help."""
from gradaug_timm.training.main import main

if __name__ == '__main__':
    main()
