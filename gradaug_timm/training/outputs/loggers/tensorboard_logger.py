"""The logger of TensorBoard."""
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from ..folder import EVENTS
from .logger import Logger
from .registry import LoggedRun, register_logger


class TensorBoardLogger(Logger):
    """A logger that writes event files for TensorBoard.

    Args:
        path: The folder of the event files.
        continued_at: The number of updates at which a run resumes; TensorBoard hides figures of later updates.

    Raises:
        OSError: The event files cannot be written.
    """

    def __init__(self, path: str, *, continued_at: int | None = None):
        from torch.utils.tensorboard import SummaryWriter
        self._path = path
        with self._named():
            os.makedirs(path, exist_ok=True)
            self._writer = SummaryWriter(path, purge_step=None if continued_at is None else continued_at + 1)

    def log(self, values: dict[str, float], step: int) -> None:
        with self._named():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def image(self, name: str, picture: Image.Image, step: int) -> None:
        with self._named():
            self._writer.add_image(name, np.asarray(picture), step, dataformats='HWC')

    def flush(self) -> None:
        with self._named():
            self._writer.flush()

    def close(self, *, failed: bool = False) -> None:
        with self._named():
            self._writer.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(f'{self._path} cannot be written: {error.strerror or error}') from error


@register_logger('tensorboard', guarded=False)
def open_tensorboard(run: LoggedRun) -> TensorBoardLogger:
    """Open event files in the folder of the run."""
    return TensorBoardLogger(os.path.join(run.folder, EVENTS), continued_at=run.continued_at)
