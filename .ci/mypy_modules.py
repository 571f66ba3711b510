"""Plugin of mypy: what `nn.Module` keeps in its tables can be anything.

torch declares such attributes as `Tensor | Module`; `model.num_classes + 1` and `block.norm(x)` would be errors.
"""
from mypy.plugin import AttributeContext, Plugin
from mypy.types import AnyType, Type, TypeOfAny, UnionType, get_proper_type

MODULE = 'torch.nn.modules.module.Module.'


def any_attribute(context: AttributeContext) -> Type:
    declared = get_proper_type(context.default_attr_type)
    return AnyType(TypeOfAny.explicit) if isinstance(declared, UnionType) else declared


class Modules(Plugin):
    def get_attribute_hook(self, fullname: str):
        return any_attribute if fullname.startswith(MODULE) else None


def plugin(version: str):
    return Modules
