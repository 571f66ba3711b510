"""The logger of Weights & Biases."""
from typing import Any

from PIL import Image

from ....cli import one_line
from ...arguments.settings import LoopSettings
from .guarded import RefusedError
from .logger import Logger


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


def start_wandb(args: LoopSettings, name: str) -> WandbLogger:
    """Start a run called `name` with all settings as the configuration.

    Raises:
        RefusedError: wandb rejects the flags, or no user is logged in.
    """
    import wandb
    try:
        return WandbLogger(wandb.init(
            project=args.wandb_project,
            name=name,
            config=args.values(),
            tags=args.wandb_tags,
            resume='must' if args.wandb_resume_id else None,
            id=args.wandb_resume_id or None,
        ))
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError, ValueError) as error:
        raise RefusedError(f'--log-wandb: {one_line(error, None)}') from error
