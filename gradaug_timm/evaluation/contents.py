"""What a file of weights says besides the weights: the one place that knows the keys of such files."""
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safetensors import safe_open

from ..data.class_names import read_names
from ..files import read_checkpoint, unreadable
from ..training.checkpoints.state import CheckpointState

ARRAYS = ('.npz', '.npy')  # NumPy's, of networks of JAX
SAFE = '.safetensors'
EXTRACTED = 'gradaug_timm'  # key of an extracted network's description
OF_CONVERTED = ('num_classes', 'model_kwargs', 'input_size', 'mean', 'std', 'interpolation', 'crop_pct')
OLD_AVERAGES = 'model_ema'  # key of averaged weights in old checkpoints of timm


@dataclass(frozen=True)
class Contents:
    """What a file says of its weights; empty where it says nothing.

    Args:
        settings: The settings of the training by name, those of train.py or of timm's script.
        metadata: The metadata of a safetensors file, decoded where they are JSON.
        metric: The metric when it was written.
        epoch: The epoch when it was written.
        has_averages: Whether it holds averaged weights next to the trained ones.
        only_averages: Whether it holds averaged weights alone.
        class_names: The names of the classes in the order of labels; None if the file does not say.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    metric: float | None = None
    epoch: int | None = None
    has_averages: bool = False
    only_averages: bool = False
    class_names: tuple[str, ...] | None = None

    def averaged(self, use_ema: bool) -> bool:
        """Return whether averaged weights are loaded, with `use_ema` as it was given."""
        return self.only_averages or (use_ema and self.has_averages)


def read_contents(path: str, *, label: str = '') -> Contents:
    """Read what a file of weights says, without running code from it.

    Args:
        path: The file; of none, and of NumPy's files, nothing is known.
        label: What precedes the path in errors, such as the flag.

    Raises:
        ValueError: It is damaged, unsafe or not a checkpoint.
    """
    if not os.path.isfile(path) or path.lower().endswith(ARRAYS):
        return Contents()
    try:
        if path.lower().endswith(SAFE):
            return _of_metadata(_read_metadata(path))
        state = read_checkpoint(path, checked=False)  # `load_weights` compares the checksums
    except ValueError as error:
        raise ValueError(f'{label}{path} can\'t be read: {error}') from error
    if not isinstance(state, dict):
        raise ValueError(f'{label}{path} holds no weights but a {type(state).__name__}')
    return _of_state(state)


def is_extracted(path: str) -> bool:
    """Return whether a file holds an extracted network; False where it can't be read."""
    try:
        return path.endswith(SAFE) and os.path.isfile(path) and EXTRACTED in _read_metadata(path)
    except ValueError:  # whoever opens it says so
        return False


def _of_state(state: dict) -> Contents:
    try:
        content = CheckpointState.from_state(state)
        settings = dict(content.settings)
    except (KeyError, TypeError):  # it is of another program
        return Contents()
    return Contents(
        settings={'model': content.arch, **settings} if content.arch else settings,
        metric=_number(content.metric),
        epoch=_whole(state.get('epoch')),
        has_averages=content.averaged_weights is not None or OLD_AVERAGES in content.task,
        class_names=read_names(content.class_names),
    )


def _of_metadata(metadata: dict[str, str]) -> Contents:
    decoded = {name: _decode(text) for name, text in metadata.items()}
    trained = decoded.get('train_args')
    settings = trained if isinstance(trained, dict) else {}
    if 'source' in metadata and 'architecture' in metadata:  # of gradaug_timm.convert
        settings = {'model': metadata['architecture'], **{name: decoded.get(name) for name in OF_CONVERTED}}
    return Contents(
        settings=settings,
        metadata=decoded,
        metric=_number(decoded.get('metric')),
        epoch=_whole(decoded.get('epoch')),
        only_averages=metadata.get('weights') == 'averaged',
        class_names=read_names(decoded.get('class_names')),
    )


def _read_metadata(path: str) -> dict[str, str]:
    try:
        with safe_open(path, 'pt') as file:
            return file.metadata() or {}
    except Exception as error:  # safetensors has one of its own, and passes on those of Rust
        raise ValueError(unreadable(error)) from error


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text
