"""The command line of validate.py: timm's flags, and flags for sub-networks and robustness."""
import argparse

from ..cli import Refuse, StrictParser
from ..flags import SettingsParser, add_flags
from .checks import resolve
from .settings import EvaluationSettings

NO_TORCHSCRIPT = 'TorchScript is deprecated in torch; use --torchcompile'
NO_NAFLEX = 'NaFlex models change their input from batch to batch'
REFUSED = (
    (('--torchscript', '--aot-autograd'), 0, NO_TORCHSCRIPT),
    (('--fuser',), None, NO_TORCHSCRIPT),
    (('--naflex-loader',), 0, NO_NAFLEX),
    (('--naflex-max-seq-len',), None, NO_NAFLEX),
)


def build_parser() -> SettingsParser:
    """Return a fresh parser of validate.py."""
    parser = SettingsParser(
        EvaluationSettings,
        resolve,
        prog='validate.py',
        usage='%(prog)s [flags] [DIR]',
        description='Evaluates a model, a checkpoint or its sub-networks.',
    )
    add_flags(parser, EvaluationSettings)
    _add_refused(parser)
    return parser


def parse(argv: list[str] | None = None) -> EvaluationSettings:
    """Return the settings of a command line; end the program with one line where they are wrong."""
    return build_parser().parse_settings(argv)


def _add_refused(parser: StrictParser) -> None:
    for flags, nargs, reason in REFUSED:
        for flag in flags:
            parser.add_argument(flag, action=Refuse, nargs=nargs, reason=reason, default=argparse.SUPPRESS)
