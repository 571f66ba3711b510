"""`gradaug_<name>`: timm's architectures and the CIFAR networks, marked as elastic.

Keys, arguments and weights are the same as for `<name>`. timm's registry groups models by the name of their file, so
this file must not have the same name as a module of timm.
"""
import sys
from collections.abc import Callable
from copy import copy

from timm.models import (
    DefaultCfg,
    PretrainedCfg,
    get_deprecated_models,
    list_models,
    model_entrypoint,
    register_model,
    register_model_deprecations,
)
from torch import nn

from ..elastic import mark_elastic
from . import cifar_pyramidnet, cifar_resnet, cifar_wide_resnet

PREFIX = 'gradaug_'
CIFAR = tuple(module.__name__ for module in (cifar_resnet, cifar_wide_resnet, cifar_pyramidnet))
NAMES = [name for name in list_models() if model_entrypoint(name).__module__.startswith(('timm.models.', *CIFAR))]


def _with_hub_id(cfg: PretrainedCfg, name_and_tag: str) -> PretrainedCfg:
    """Complete a hub id as timm does at registration, but with timm's name instead of `gradaug_<name>`."""
    if cfg.hf_hub_id == 'timm/':
        cfg = copy(cfg)  # twice as fast as dataclasses.replace, for 1,750 configurations
        cfg.hf_hub_id = f'timm/{name_and_tag}'
    return cfg


def _default_cfg(name: str) -> DefaultCfg:
    default = sys.modules[model_entrypoint(name).__module__].default_cfgs[name]
    cfgs = {tag: _with_hub_id(cfg, f'{name}.{tag}' if tag else name) for tag, cfg in default.cfgs.items()}
    return DefaultCfg(default.tags, cfgs, default.is_pretrained)


default_cfgs = {f'{PREFIX}{name}': _default_cfg(name) for name in NAMES}
# register_model searches __all__ for every model: a list would take 10 ms more
__all__ = default_cfgs.keys()  # type: ignore[misc]


def _make_entrypoint(name: str) -> Callable[..., nn.Module]:
    create = model_entrypoint(name)
    variant = f'{PREFIX}{name}'

    def entrypoint(pretrained: bool = False, **kwargs) -> nn.Module:
        # timm's entry point gets the tag unchanged, because some entry points depend on it.
        model = create(pretrained=pretrained, **kwargs)
        for cfg in (model.pretrained_cfg, model.default_cfg):
            cfg['architecture'] = variant
        return mark_elastic(model)

    entrypoint.__name__ = entrypoint.__qualname__ = variant
    entrypoint.__doc__ = f'Create `{name}` as an elastic network, which can run as its own sub-networks.'
    return entrypoint


for _name in NAMES:
    globals()[f'{PREFIX}{_name}'] = register_model(_make_entrypoint(_name))

__all__ = list(__all__)  # type: ignore[assignment]
# Former names of timm's models lead to today's, with and without the prefix.
register_model_deprecations(__name__, {
    f'{PREFIX}{former}': name and f'{PREFIX}{name}' for former, name in get_deprecated_models().items()
    if name is None or name.split('.')[0] in NAMES})
