"""How this process was started; imported before torch."""
import os
import sys
from pathlib import Path

COMMANDS = 'gradaug-'  # prefix of all commands that pip installs
SCRIPTS = ('train.py', 'validate.py')  # beside the package


def installed_command() -> str | None:
    """Return the name of the installed command that runs; None if a script or module was started directly."""
    name = os.path.basename(sys.argv[0]).removesuffix('.exe') if sys.argv else ''
    return name if name.startswith(COMMANDS) else None


def is_command() -> bool:
    """Return whether this process runs a command of the package, not a program that imports it."""
    if installed_command():
        return True
    package = Path(__file__).parent
    if sys.argv[:1] == ['-m']:  # python -m gradaug_timm.NAME imports the package first
        module = sys.orig_argv[sys.orig_argv.index('-m') + 1:][:1]
        return module != [] and module[0].partition('.')[0] == package.name
    script = getattr(sys.modules.get('__main__'), '__file__', None)
    return script is not None and Path(script).resolve() in {package.parent / name for name in SCRIPTS}
