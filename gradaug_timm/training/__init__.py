"""Training from the command line: what train.py calls."""
from .main import main

__all__ = ['main']
