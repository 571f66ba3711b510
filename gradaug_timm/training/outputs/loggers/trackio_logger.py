"""The logger of trackio."""
from typing import Any

from PIL import Image

from .logger import Logger
from .registry import LoggedRun, register_logger

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


@register_logger('trackio')
def start_trackio(run: LoggedRun) -> TrackioLogger:
    """Start a run with the folder's name and all settings as the configuration, or resume it with our run."""
    import trackio
    return TrackioLogger(trackio.init(
        project=run.flags['trackio_project'] or PROJECT,
        name=run.name,
        config=dict(run.flags),
        resume='never' if run.continued_at is None else 'allow',
        embed=False,
    ))
