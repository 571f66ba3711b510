"""Where a run's figures and pictures go: its folder, and what is asked for beside it."""
from .folder_logger import FolderLogger, continue_log
from .logger import Logger
from .many import Loggers
from .opening import open_loggers

__all__ = ['FolderLogger', 'Logger', 'Loggers', 'continue_log', 'open_loggers']
