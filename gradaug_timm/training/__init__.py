"""Training from the command line: what train.py calls."""
