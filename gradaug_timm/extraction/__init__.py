"""Sub-networks as files: one file holds a dense network that opens without plan or probing."""
from .loading import load_extracted
from .saving import save_extracted

__all__ = ['load_extracted', 'save_extracted']
