"""Modules of timm, and the architecture of each module that is checked."""
import os
import warnings

import timm
import torch

from ..cli import one_line
from .checks import Finding, check_model


def check_module(module: str) -> Finding:
    """Check the smallest architecture of a module of timm, on one thread and without the cache of plans."""
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    os.environ['GRADAUG_CACHE_DIR'] = ''  # because planning is timed
    architecture = smallest(module)
    try:
        return check_model(module, architecture)
    except Exception as error:  # so that the others are still listed
        return Finding(module, architecture, reason=one_line(error, None, kind=True))


def timm_modules() -> list[str]:
    """Return the names of the modules whose models timm itself defines."""
    return [module for module in timm.list_modules()
            if any(is_timms(name) for name in timm.list_models(module=module))]


def is_timms(name: str) -> bool:
    """Return whether timm itself defines an architecture."""
    return timm.models.model_entrypoint(name).__module__.startswith('timm.models.')


def smallest(module: str) -> str:
    """Return the architecture of a module with the fewest parameters, except those made for timm's tests."""
    names = [name for name in timm.list_models(module=module) if is_timms(name) and not name.startswith('test_')]
    return min(names, key=_parameters)


def _parameters(name: str) -> int:
    with torch.device('meta'):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())
