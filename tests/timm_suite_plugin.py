"""A pytest plugin for timm's own test_models.py that restricts it to the models in TIMM_SUITE_MODELS.

Models in TIMM_SUITE_PLANNED are made elastic. With TIMM_SUITE_TWINS=1, the names are timm's names, from which the tests
derive what a network supports, and the networks are `gradaug_<name>`. TIMM_SUITE_KWARGS has the arguments of some
models as JSON.

timm is imported here before the tests, so that they test the installed timm and not their own sources.
"""
import json
import os

import timm

import gradaug_timm  # noqa: F401  (registers the models)
from gradaug_timm.elastic import make_elastic

MODELS = frozenset(os.environ['TIMM_SUITE_MODELS'].split(','))
PLANNED, TWINS = frozenset(os.environ['TIMM_SUITE_PLANNED'].split(',')), os.environ['TIMM_SUITE_TWINS'] == '1'
KWARGS = json.loads(os.environ['TIMM_SUITE_KWARGS'])
LEFT_OUT = ('torchscript', 'pretrained', 'inference')  # TorchScript isn't ours to support; weights would be downloaded

_list_models, _create_model = timm.list_models, timm.create_model


def plain_name(model_name) -> str:
    return str(model_name).partition('.')[0]


def is_ours(model_name) -> bool:
    return plain_name(model_name) in MODELS


def list_our_models(*args, module='', **kwargs) -> list[str]:
    """`timm.list_models` among ours. Models of our modules are listed whatever modules of timm the tests ask for."""
    if TWINS:
        kwargs['module'] = module
    return [name for name in _list_models(*args, **kwargs) if is_ours(name)]


def create_our_model(name, *args, **kwargs):
    plain = plain_name(name)
    model = _create_model(f'gradaug_{name}' if TWINS else name, *args, **kwargs, **KWARGS.get(plain, {}))
    return make_elastic(model) if plain in PLANNED else model


timm.list_models, timm.create_model = list_our_models, create_our_model


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests of no model, or of other models."""
    wanted = [
        item for item in items
        if hasattr(item, 'callspec') and is_ours(item.callspec.params.get('model_name'))
        and not any(word in item.originalname for word in LEFT_OUT)
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
