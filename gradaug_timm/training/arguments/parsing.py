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

SPELLINGS = (  # flags of which only one counts
    ('data', 'data_dir'), ('img_size', 'input_size'), ('loss', 'bce_loss', 'jsd_loss'), ('drop_path', 'drop_connect'),
    ('loss_pos_weight', 'bce_pos_weight'), ('checkpoint_steps', 'recovery_interval'),
)


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


def _override_other_spellings(
        typed: argparse.Namespace, defaults: argparse.Namespace, args: argparse.Namespace) -> None:
    """Let a flag of the command line override the other spellings of the same setting in a file."""
    given = {name for name, value in vars(typed).items() if value != getattr(defaults, name)}
    if 'img_size' in given and 'input_size' not in given and args.input_size is not None:
        args.in_chans = args.in_chans or args.input_size[0]
    for spellings in SPELLINGS:
        others = {name for name in spellings if name in args} - given
        if given & {*spellings}:
            vars(args).update({name: getattr(defaults, name) for name in others})


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
    _override_other_spellings(typed, defaults, args)
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
