"""Loggers of the figures and pictures of a run: the log in the folder, and services that the settings name.

All modules in this folder are imported automatically: a new logger needs no line elsewhere.
"""
from ....registry import import_modules
from .folder_logger import FolderLogger, continue_log
from .guarded import RefusedError
from .logger import Logger
from .many import Loggers
from .opening import open_loggers
from .registry import LoggedRun, register_logger

__all__ = [
    'FolderLogger', 'LoggedRun', 'Logger', 'Loggers', 'RefusedError', 'continue_log', 'open_loggers', 'register_logger',
]

import_modules(__name__, __path__)
