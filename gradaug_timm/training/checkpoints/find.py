"""The checkpoint to go on from, and where it stands."""
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
    """`last` where it is whole, else the checkpoint that had come farthest; None where there is none at all.

    Raises:
        ValueError: There are some, and all are damaged.
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
        raise ValueError(f'--resume auto: {faults[0]}; {folder} holds no other checkpoint that is whole')
    newest = max(positions, key=lambda path: (positions[path].epoch, positions[path].batch))
    _logger.warning(f'--resume auto: {"; ".join(faults)}. Going on from {newest}.')
    return newest


def _position(path: str, faults: list[str]) -> Position | None:
    """Where a checkpoint stands; None, with a line more in `faults`, where it is damaged."""
    try:
        state = read_checkpoint(path)
        if isinstance(state, dict) and 'epoch' in state:
            return CheckpointState.from_state(state).position
        faults.append(f'{path} is no checkpoint of a run')
    except OSError as error:
        faults.append(f'{path} can\'t be read: {error.strerror}')
    except ValueError as error:
        faults.append(f'{path} can\'t be read: {error}')
    return None
