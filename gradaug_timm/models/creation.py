"""What a command line says of the network to create."""
from collections.abc import Mapping
from typing import Any, Protocol

import timm
from timm.models import resolve_model_input_args

from ..cli import nearest


def name_problem(name: str) -> str | None:
    """Why timm's registry, with our models, has no model `name`; None if it has, or the name is of another source."""
    if ':' in name or timm.is_model(name):
        return None
    close = nearest(name, timm.list_models())
    return f'--model {name} is unknown{f", did you mean {close}?" if close else ""}'


class ModelSettings(Protocol):
    """Settings that name a model."""

    @property
    def model(self) -> str: ...

    @property
    def model_kwargs(self) -> Mapping[str, Any]: ...


def model_arguments(args: ModelSettings) -> dict:
    """The arguments of the model: those given, and the size of the images where it is built for one.

    Raises:
        ValueError: The given ones contradict the size of the images.
    """
    resolved = resolve_model_input_args(args.model, vars(args), **args.model_kwargs)
    size = dict(img_size=resolved['img_size']) if 'img_size' in resolved else {}
    return {**args.model_kwargs, **size}
