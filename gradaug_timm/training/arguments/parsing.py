"""Parsing of command lines and YAML files into settings."""
import argparse
from dataclasses import replace
from typing import Any

import yaml

from ...cli import OlderFlag, add_refused, flag, import_named
from ...flags import Settings, SettingsParser
from .checks import resolve
from .config import add_config, load_config, origins
from .older_timm import OLDER_FLAGS, apply_older
from .run import REFUSED
from .settings import TrainSettings


def build_parser() -> SettingsParser:
    """Return a new parser of train.py."""
    parser = settings_parser(
        TrainSettings,
        resolve,
        prog='train.py',
        usage='%(prog)s [-c FILE...] [flags]',
        description='Train a timm network with or without GradAug.',
    )
    for name, nargs in OLDER_FLAGS.items():
        parser.add_argument(flag(name), action=OlderFlag, nargs=nargs)
    return parser


def _override_other_spellings(typed: argparse.Namespace, args: argparse.Namespace) -> None:
    """Let a flag of the command line override the other spelling of the same setting in a file."""
    given = {name for name, value in vars(typed).items() if value is not None}
    if 'data' in given and 'data_dir' not in given:
        args.data_dir = None
    if 'data_dir' in given and 'data' not in given and 'data' in args:
        args.data = None
    if 'input_size' in given and 'img_size' not in given:
        args.img_size = None
    if 'img_size' in given and 'input_size' not in given and args.input_size is not None:
        args.in_chans, args.input_size = args.in_chans or args.input_size[0], None


def settings_parser(settings: type[Settings], resolve, **kwargs) -> SettingsParser:
    """Return a parser of a class of settings and of their YAML files; the arguments are those of `SettingsParser`."""
    parser = SettingsParser(settings, resolve, before=add_config, **kwargs)
    add_refused(parser, REFUSED)
    return parser


def parse_arguments(parser: SettingsParser, argv: list[str] | None = None) -> tuple[Any, str]:
    """Return the settings, and the given values as YAML text.

    If there are problems, the program ends with one line that names all wrong flags and keys of YAML files, or all
    flags that exclude each other.

    Args:
        parser: The parser.
        argv: The command line; None: the command line of the program.
    """
    args, wrong = parser.collect(argv)
    typed, defaults = args, parser.parse_args([])
    if args.config:
        parser.set_defaults(**load_config(parser, *args.config, wrong=wrong))
    args = parser.parse_args(argv)
    _override_other_spellings(typed, args)
    apply_older(parser, typed, args)
    try:
        import_named(args.device_modules or ())
        settings: Any = parser.settings.of(vars(args))
        text = yaml.safe_dump(settings.values(), default_flow_style=False)
        settings = replace(settings, origins=origins(parser, typed, defaults, args), notes=tuple(parser.notes))
        settings = parser.resolve(settings)
    except ValueError as error:
        parser.error(str(error))
    return settings, text
