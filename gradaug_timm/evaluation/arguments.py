"""The command line of validate.py: timm's flags, and flags for sub-networks and robustness."""
import argparse
import logging

from ..cli import OlderFlag, add_refused, flag
from ..flags import SettingsParser
from ..training.arguments.older_timm import OLDER_VALIDATION_FLAGS, apply_older
from .checks import resolve
from .settings import EvaluationSettings

_logger = logging.getLogger(__name__)

NO_TORCHSCRIPT = 'TorchScript is deprecated in torch; use --torchcompile'
NO_NAFLEX = 'NaFlex models change their input from batch to batch'
NO_COMPILERS = ((('--torchscript', '--aot-autograd'), 0, NO_TORCHSCRIPT), (('--fuser',), None, NO_TORCHSCRIPT))
REFUSED = (
    *NO_COMPILERS,
    (('--naflex-loader',), 0, NO_NAFLEX),
    (('--naflex-max-seq-len',), None, NO_NAFLEX),
)


class EvaluationParser(SettingsParser):
    """The parser of validate.py, which also knows flags of older versions of timm."""

    def complete(self, args: argparse.Namespace) -> None:
        """Set what flags of older versions are today."""
        apply_older(self, args)
        for line in self.notes:
            _logger.info(line)


def build_parser() -> SettingsParser:
    """Return a fresh parser of validate.py."""
    parser = EvaluationParser(
        EvaluationSettings,
        resolve,
        prog='validate.py',
        usage='%(prog)s [flags] [DIR]',
        description='Evaluates a model, a checkpoint or its sub-networks.',
    )
    add_refused(parser, REFUSED)
    for name, nargs in OLDER_VALIDATION_FLAGS.items():
        parser.add_argument(flag(name), action=OlderFlag, nargs=nargs)
    return parser


def parse(argv: list[str] | None = None) -> EvaluationSettings:
    """Return the settings of a command line; end the program with one line where they are wrong."""
    return build_parser().parse_settings(argv)
