"""What the file of an extracted network says besides its tensors."""
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

import timm
import torch

KEY = 'gradaug_timm'  # of the file's metadata
NAMES = 'class_names'  # the same
VERSION = 1
DATA = ('input_size', 'mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')

Number = int | tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """How an extracted network differs from the one that timm creates.

    Args:
        architecture: timm's name.
        model_kwargs: Further arguments of `timm.create_model`.
        num_classes: Number of classes.
        width: Share of the channels that was kept.
        divisor: Its rounding.
        skipped: Names of the blocks that were left out.
        scales: Factors of residual branches, by the place of their DropPath.
        numbers: Integers that count channels, by 'module.attribute'.
        features: Channels of each entry of `feature_info`.
        data: How the network sees images, by the names in DATA.
        versions: Versions of the packages that wrote the file.
    """
    architecture: str
    model_kwargs: dict
    num_classes: int
    width: float
    divisor: int
    skipped: tuple
    scales: dict
    numbers: dict
    features: tuple
    data: dict
    versions: dict

    @staticmethod
    def current_versions() -> dict[str, str]:
        return {'timm': timm.__version__, 'torch': torch.__version__}

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of the file.

        Raises:
            ValueError: `model_kwargs` hold more than numbers, strings, sequences and mappings.
        """
        try:
            return {'format': 'pt', KEY: json.dumps({'version': VERSION, **asdict(self)})}
        except TypeError as error:
            raise ValueError(f'model_kwargs={self.model_kwargs!r} must be plain values: {error}') from None

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> 'Description':
        """Read what `to_metadata` returned.

        Raises:
            ValueError: It was written by another program or a newer version, or is broken.
        """
        if KEY not in metadata:
            raise ValueError('it is not a network extracted by gradaug_timm')
        try:
            values = _with_tuples(json.loads(metadata[KEY]))
        except (RecursionError, ValueError) as error:
            raise ValueError(f'its description is broken: {error}') from None
        version = values.get('version') if isinstance(values, dict) else None
        if type(version) is not int or version < 1:
            raise ValueError('its description is broken: it has no version')
        if version > VERSION:
            raise ValueError(f'it has format {version}; this version of gradaug_timm reads formats up to {VERSION}')
        kinds = get_type_hints(cls)
        wrong = [name for name, kind in kinds.items() if type(values.get(name)) is not kind]
        if wrong:
            raise ValueError(f'its description is broken: it has no usable {", ".join(wrong)}')
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def _with_tuples(value: Any) -> Any:
    """Turn JSON's lists into tuples, which timm's arguments are."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
