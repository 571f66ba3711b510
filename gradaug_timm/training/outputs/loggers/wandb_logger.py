"""The logger of Weights & Biases."""
from typing import Any

from PIL import Image

from ....cli import one_line
from .guarded import RefusedError
from .logger import Logger
from .registry import LoggedRun, register_logger


class WandbLogger(Logger):
    """A logger to a run of wandb.

    Args:
        run: The run.
    """

    def __init__(self, run: Any):
        self._run = run

    def log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        import wandb
        self._run.log({name: wandb.Image(picture)}, step=step)

    def close(self, *, failed: bool = False) -> None:
        self._run.finish(exit_code=int(failed))


@register_logger('wandb', may_refuse=True)
def start_wandb(run: LoggedRun) -> WandbLogger:
    """Start a run with the folder's name and all settings as the configuration.

    Raises:
        RefusedError: wandb rejects the flags, or no user is logged in.
    """
    import wandb
    try:
        return WandbLogger(wandb.init(
            project=run.flags['wandb_project'],
            name=run.name,
            config=dict(run.flags),
            tags=run.flags['wandb_tags'],
            resume='must' if run.flags['wandb_resume_id'] else None,
            id=run.flags['wandb_resume_id'] or None,
        ))
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError, ValueError) as error:
        raise RefusedError(f'--log-wandb: {one_line(error, None)}') from error
