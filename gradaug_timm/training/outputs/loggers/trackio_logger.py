"""The logger of trackio."""
from typing import Any

from PIL import Image

from ...arguments.settings import LoopSettings
from .logger import Logger

PROJECT = 'gradaug_timm'


class TrackioLogger(Logger):
    """A logger to a run of trackio.

    Args:
        run: The run.
    """

    def __init__(self, run: Any):
        self._run = run

    def log(self, values: dict[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        import trackio
        self._run.log({name: trackio.Image(picture)}, step=step)

    def close(self, *, failed: bool = False) -> None:
        import trackio
        trackio.finish()


def start_trackio(args: LoopSettings, name: str, *, continued: bool) -> TrackioLogger:
    """Start a run called `name` with all settings as the configuration, or resume it if `continued`."""
    import trackio
    return TrackioLogger(trackio.init(
        project=args.trackio_project or PROJECT,
        name=name,
        config=args.values(),
        resume='allow' if continued else 'never',
        embed=False,
    ))
