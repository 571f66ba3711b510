"""The checkpoint to go on from, and where it stands."""
import glob
import logging
import os

from ...files import read_checkpoint
from ..position import Position

_logger = logging.getLogger(__name__)

ENDING = '.pth.tar'
LAST = f'last{ENDING}'


def position_of(state: dict) -> Position:
    """How far the run of a checkpoint had come; timm's are written at the end of an epoch."""
    if state.get('position'):
        return Position(**state['position'])
    if 'epoch' not in state:
        return Position()
    return Position(state['epoch'] + (state.get('version', 1) > 1))


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
    positions = {path: _position(path, faults) for path in others}
    whole = [path for path, position in positions.items() if position is not None]
    if not whole:
        raise ValueError(f'--resume auto: {faults[0]}; {folder} holds no other checkpoint that is whole')
    newest = max(whole, key=lambda path: (positions[path].epoch, positions[path].batch))
    _logger.warning(f'--resume auto: {"; ".join(faults)}. Going on from {newest}.')
    return newest


def _position(path: str, faults: list[str]) -> Position | None:
    """Where a checkpoint stands; None, with a line more in `faults`, where it is damaged."""
    try:
        state = read_checkpoint(path)
        if isinstance(state, dict) and 'epoch' in state:
            return position_of(state)
        faults.append(f'{path} is no checkpoint of a run')
    except OSError as error:
        faults.append(f'{path} can\'t be read: {error.strerror}')
    except ValueError as error:
        faults.append(f'{path} can\'t be read: {error}')
    return None
