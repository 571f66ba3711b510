"""Where a run's figures and pictures go: its folder, and what is asked for beside it.

Every module here is imported by itself: a new logger needs no other line than its own.
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
