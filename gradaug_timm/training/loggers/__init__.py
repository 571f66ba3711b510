"""Where a run's figures and pictures go: its folder, and what is asked for beside it."""
from .folder_logger import FolderLogger, drop_lines
from .logger import Logger
from .many import Loggers
from .opening import open_loggers

__all__ = ['FolderLogger', 'Logger', 'Loggers', 'drop_lines', 'open_loggers']
