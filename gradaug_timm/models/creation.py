"""Model name and model arguments from the settings of a command."""
from collections.abc import Mapping
from typing import Any, Protocol

import timm
from timm.models import get_deprecated_models, resolve_model_input_args

from ..hints import nearest


def name_problem(name: str, flag: str = '--model') -> str | None:
    """Return why the model `name` of a flag is unknown; None if timm's registry has it, or it has a source prefix."""
    if ':' in name or timm.is_model(name):
        return None
    close = _on_the_hub(name) if '/' in name else nearest(name, timm.list_models())
    return f'{flag} {name} is unknown{f", did you mean {close}?" if close else ""}'


def _on_the_hub(name: str) -> str | None:
    """Return how a name such as `timm/resnet18.a1_in1k` is written; None if it is no OWNER/NAME."""
    if name.count('/') != 1 or not all(name.split('/')):
        return None
    bare = name.removeprefix('timm/')
    return f'{bare} or hf-hub:{name}' if timm.is_model(bare) else f'hf-hub:{name}'


def current_name(name: str) -> str:
    """Return today's name of a model that timm has renamed; other names unchanged."""
    return get_deprecated_models().get(name) or name


class ModelSettings(Protocol):
    """Settings that name a model."""

    @property
    def model(self) -> str: ...

    @property
    def model_kwargs(self) -> Mapping[str, Any]: ...


def model_arguments(args: ModelSettings) -> dict:
    """Return the arguments of the model: --model-kwargs, and the image size if the model is built for one size.

    Raises:
        ValueError: The given arguments contradict the image size.
    """
    resolved = resolve_model_input_args(current_name(args.model), vars(args), **args.model_kwargs)
    size = dict(img_size=resolved['img_size']) if 'img_size' in resolved else {}
    return {**args.model_kwargs, **size}
