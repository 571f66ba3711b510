"""The command line of train.py: timm's flags, and those of GradAug."""
import argparse
import importlib
from collections.abc import Callable, Iterable

import yaml

from ...cli import StrictParser
from .augmentation import add_augmentation, add_averaging, add_mixing, add_schedule_of_sizes
from .checks import complete, problems
from .config import add_config, load_config, origins
from .data import add_data, add_input
from .gradaug import add_gradaug, given_settings
from .model import add_distillation, add_model
from .optimization import add_loss, add_optimizer, add_schedule
from .regularizers import add_regularizers
from .run import add_device, add_refused, add_report, add_run

__all__ = ['build_parser', 'given_settings', 'parse_arguments']

GROUPS = (
    add_data, add_input, add_model, add_gradaug, add_regularizers, add_optimizer, add_schedule, add_loss,
    add_augmentation, add_mixing, add_schedule_of_sizes, add_averaging, add_device, add_run, add_report,
    add_distillation, add_refused,
)


def build_parser() -> StrictParser:
    """A fresh parser of train.py."""
    parser = StrictParser(
        prog='train.py', usage='%(prog)s [-c FILE...] [flags]',
        description='Trains a network of timm, with GradAug or without.')
    add_config(parser)
    for add in GROUPS:
        add(parser)
    return parser


def parse_arguments(
        parser: StrictParser,
        argv: list[str] | None = None,
        *,
        complete: Callable[[argparse.Namespace], None] = complete,
        problems: Callable[..., Iterable[str]] = problems,
) -> tuple[argparse.Namespace, str]:
    """The flags, and as YAML text how they were given; `dry_run`, where it is given, tells their origins.

    Ends the program with one line on all wrong flags and keys of YAML files, or on all that don't go together.

    Args:
        parser: The parser.
        argv: The command line; None: that of the program.
        complete: Fills in flags that follow from others.
        problems: Gives a line for each combination of flags that has no meaning.
    """
    args, wrong = parser.collect(argv)
    typed, defaults = args, parser.parse_args([])
    if args.config:
        parser.set_defaults(**load_config(parser, *args.config, wrong=wrong))
    args = parser.parse_args(argv)
    if 'dry_run' in args:
        args.dry_run = origins(parser, typed, defaults, args)
    del args.config
    _import_modules(parser, args.device_modules or ())
    text = yaml.safe_dump(vars(args), default_flow_style=False)
    asked = args.gradaug
    complete(args)
    found = list(problems(args, gradaug_asked=asked))
    if found:
        parser.error('; '.join(found))
    return args, text


def _import_modules(parser: StrictParser, names: Iterable[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            parser.error(f'--device-modules {name} cannot be imported: {error}')
