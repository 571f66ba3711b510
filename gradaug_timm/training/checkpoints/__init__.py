"""Checkpoints: writing, finding, comparing and restoring them."""
