"""The search for the checkpoint to resume."""
import glob
import logging
import os

from ...files import read_checkpoint
from ..position import Position
from .state import CheckpointState

_logger = logging.getLogger(__name__)

ENDING = '.pth.tar'
LAST = f'last{ENDING}'


def find_newest_checkpoint(folder: str) -> str | None:
    """Return `last` if it is intact, else the most advanced intact checkpoint; None if there are no checkpoints.

    Raises:
        ValueError: All checkpoints are damaged.
    """
    last = os.path.join(folder, LAST)
    others = sorted({*glob.glob(os.path.join(glob.escape(folder), f'*{ENDING}'))} - {last})
    if not others and not os.path.lexists(last):
        return None
    faults = []
    if _position(last, faults) is not None:
        return last
    positions = {path: position for path in others if (position := _position(path, faults)) is not None}
    if not positions:
        raise ValueError(f'--resume auto: {faults[0]}; {folder} has no other intact checkpoint')
    newest = max(positions, key=lambda path: (positions[path].epoch, positions[path].batch))
    _logger.warning(f'--resume auto: {"; ".join(faults)}. Resuming from {newest}.')
    return newest


def _position(path: str, faults: list[str]) -> Position | None:
    """Return the position of a checkpoint; if it is damaged, add a line to `faults` and return None."""
    try:
        state = read_checkpoint(path)
        if isinstance(state, dict) and 'epoch' in state:
            return CheckpointState.from_state(state).position
        faults.append(f'{path} is not a checkpoint of a run')
    except OSError as error:
        faults.append(f'{path} cannot be read: {error.strerror}')
    except ValueError as error:
        faults.append(f'{path} cannot be read: {error}')
    return None
