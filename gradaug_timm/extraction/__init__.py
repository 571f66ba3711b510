"""Sub-networks as files: each holds a dense network that opens without planning."""
from .loading import load_extracted
from .saving import save_extracted

__all__ = ['load_extracted', 'save_extracted']
