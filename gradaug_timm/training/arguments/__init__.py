"""The settings of a run, and the command line and YAML files that they come from."""
from .checks import resolve
from .gradaug import given_settings
from .parsing import build_parser, parse_arguments
from .settings import LoopSettings, TrainSettings

__all__ = ['LoopSettings', 'TrainSettings', 'build_parser', 'given_settings', 'parse_arguments', 'resolve']
