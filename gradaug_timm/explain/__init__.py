"""Class activation maps of checkpoints and of their sub-networks, side by side."""
