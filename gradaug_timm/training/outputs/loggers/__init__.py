"""Loggers of the figures and pictures of a run: the log in the folder, and services that the settings name."""
from .folder_logger import FolderLogger, continue_log
from .logger import Logger
from .many import Loggers
from .opening import open_loggers

__all__ = ['FolderLogger', 'Logger', 'Loggers', 'continue_log', 'open_loggers']
