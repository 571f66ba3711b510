"""`gradaug_<name>`: timm's ResNets and the CIFAR networks, marked as elastic.

Keys, arguments and weights are those of `<name>`. timm files the models under this file's name, so it must not be
that of a module of timm.
"""
from collections.abc import Callable

from timm.models import (
    generate_default_cfgs,
    get_arch_pretrained_cfgs,
    list_models,
    model_entrypoint,
    register_model,
    resnet,
    resolve_pretrained_cfg,
)
from torch import nn

from ..elastic import mark_elastic
from . import cifar_pyramidnet, cifar_resnet, cifar_wide_resnet

__all__ = []

PREFIX = 'gradaug_'
MODULES = (resnet, cifar_resnet, cifar_wide_resnet, cifar_pyramidnet)
NAMES = list_models(module=[module.__name__.rpartition('.')[-1] for module in MODULES])

# The resolved configurations: timm would complete the hub ids of raw ones with our names.
default_cfgs = generate_default_cfgs({
    f'{PREFIX}{name_and_tag}': cfg
    for name in NAMES
    for name_and_tag, cfg in get_arch_pretrained_cfgs(name).items()
})


def _make_entrypoint(name: str) -> Callable[..., nn.Module]:
    create = model_entrypoint(name)
    variant = f'{PREFIX}{name}'

    def entrypoint(
            pretrained: bool = False,
            pretrained_cfg=None,
            pretrained_cfg_overlay: dict | None = None,
            **kwargs,
    ) -> nn.Module:
        cfg = resolve_pretrained_cfg(variant, pretrained_cfg, pretrained_cfg_overlay)
        return mark_elastic(create(pretrained=pretrained, pretrained_cfg=cfg, **kwargs))

    entrypoint.__name__ = entrypoint.__qualname__ = variant
    entrypoint.__doc__ = f'`{name}`, elastic: runs as its own sub-networks.'
    return entrypoint


for _name in NAMES:
    globals()[f'{PREFIX}{_name}'] = register_model(_make_entrypoint(_name))
