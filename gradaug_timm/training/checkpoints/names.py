"""Names of classes in files of weights with which a run begins."""
import json
import os

from safetensors import SafetensorError, safe_open

from ...data.class_names import read_names
from ...files import read_checkpoint

BESIDE = 'config.json'  # of an exported network


def names_in(path: str) -> tuple[str, ...] | None:
    """Return the names of the classes, in the order of outputs, that a file of weights or its folder tells; else None.

    Args:
        path: A checkpoint, or a file of weights.
    """
    try:
        if path.endswith('.safetensors'):
            with safe_open(path, 'pt') as file:
                found = json.loads((file.metadata() or {}).get('class_names', 'null'))
        else:
            found = dict(read_checkpoint(path, checked=False)).get('class_names')
        if found is None:
            with open(os.path.join(os.path.dirname(path), BESIDE), encoding='utf-8') as described:
                found = json.load(described).get('label_names')
    except (AttributeError, OSError, RecursionError, SafetensorError, TypeError, ValueError):
        return None
    return read_names(found)
