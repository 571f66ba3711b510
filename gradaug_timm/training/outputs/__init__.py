"""The outputs of a run, except checkpoints."""
