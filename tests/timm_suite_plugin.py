"""pytest plugin for a run of timm's own test_models.py: restricts it to the models named in TIMM_SUITE_MODELS.

With TIMM_SUITE_PLANNED=1 the tests get networks that were made elastic.

timm is imported here, before its tests are, so that they test the installed one and not the sources they came with.
"""
import os

import timm

from gradaug_timm.elastic import make_elastic

MODELS = frozenset(os.environ['TIMM_SUITE_MODELS'].split(','))
LEFT_OUT = ('torchscript', 'pretrained')  # TorchScript isn't ours to support; weights would be downloaded

_list_models, _create_model = timm.list_models, timm.create_model


def is_ours(model_name) -> bool:
    return str(model_name).partition('.')[0] in MODELS


def list_our_models(*args, module='', **kwargs) -> list[str]:
    """`timm.list_models` among ours. Whatever modules are asked for: the tests name timm's."""
    return [name for name in _list_models(*args, **kwargs) if is_ours(name)]


def create_elastic_model(*args, **kwargs):
    return make_elastic(_create_model(*args, **kwargs))


timm.list_models = list_our_models
if os.environ['TIMM_SUITE_PLANNED'] == '1':
    timm.create_model = create_elastic_model


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests of no model, or of other models."""
    wanted = [
        item for item in items
        if hasattr(item, 'callspec') and is_ours(item.callspec.params.get('model_name'))
        and not any(word in item.originalname for word in LEFT_OUT)
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
