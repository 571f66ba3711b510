"""Command lines that end in settings."""
from dataclasses import replace
from typing import Any

import yaml

from ...cli import import_named
from ...flags import Settings, SettingsParser, add_flags
from .checks import resolve
from .config import add_config, load_config, origins
from .run import add_refused
from .settings import TrainSettings


def build_parser() -> SettingsParser:
    """A fresh parser of train.py."""
    return settings_parser(
        TrainSettings,
        resolve,
        prog='train.py',
        usage='%(prog)s [-c FILE...] [flags]',
        description='Trains a network of timm, with GradAug or without.',
    )


def settings_parser(settings: type[Settings], resolve, **kwargs) -> SettingsParser:
    """A parser of a class of settings and of YAML files of them; arguments as for `SettingsParser`."""
    parser = SettingsParser(settings, resolve, **kwargs)
    add_config(parser)
    add_flags(parser, settings)
    add_refused(parser)
    return parser


def parse_arguments(parser: SettingsParser, argv: list[str] | None = None) -> tuple[Any, str]:
    """The settings, and as YAML text how they were given.

    Ends the program with one line on all wrong flags and keys of YAML files, or on all that don't go together.

    Args:
        parser: The parser.
        argv: The command line; None: that of the program.
    """
    args, wrong = parser.collect(argv)
    typed, defaults = args, parser.parse_args([])
    if args.config:
        parser.set_defaults(**load_config(parser, *args.config, wrong=wrong))
    args = parser.parse_args(argv)
    try:
        import_named(args.device_modules or ())
        settings: Any = parser.settings.of(vars(args))
        text = yaml.safe_dump(settings.values(), default_flow_style=False)
        if args.dry_run:
            settings = replace(settings, origins=origins(parser, typed, defaults, args))
        settings = parser.resolve(settings)
    except ValueError as error:
        parser.error(str(error))
    return settings, text
