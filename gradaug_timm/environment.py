"""Settings of GradAug from environment variables, for scripts without flags for them."""
from collections.abc import Mapping

from .cli import StrictParser
from .elastic.cache import VARIABLE
from .flags import add_flags
from .training.arguments.gradaug import SubnetSettings

PREFIX = 'GRADAUG_'
NOT_HERE = ('GRADAUG_OFF_EPOCH', 'GRADAUG_SIZE_EPOCHS')  # timm's script does not pass the epoch to the task


def flags_in(environment: Mapping[str, str]) -> SubnetSettings:
    """Return the settings that the GRADAUG_* variables give.

    Args:
        environment: Environment variables; several values are separated by commas or spaces.

    Raises:
        SystemExit: A variable is unknown or a value is not allowed; one line on stderr names it.
    """
    parser = StrictParser(prog=f'gradaug_timm.hook ({PREFIX}* environment variables, written here as flags)', usage='')
    add_flags(parser, SubnetSettings)
    arguments = []
    for name in sorted(name for name in environment if name.startswith(PREFIX) and name != VARIABLE):
        if name in NOT_HERE:
            parser.error(f'{name} is not supported: timm\'s script does not pass the epoch to the task')
        text = environment[name] if '=' in environment[name] else environment[name].replace(',', ' ')
        arguments += [f'--{name.lower().replace("_", "-")}', *text.split()]
    return SubnetSettings.of(vars(parser.parse_args(arguments)))
