"""The version of the package; setup.cfg reads it here."""
__version__ = '0.1.0'
