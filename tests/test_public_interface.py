"""Docstrings of exported names describe the actual arguments, and types are only in signatures."""
import inspect
import re

import pytest

import gradaug_timm
from gradaug_timm.flags import Settings, declared


def described():
    """Exported functions and classes, and what the classes themselves define."""
    for name in gradaug_timm.__all__:
        value = getattr(gradaug_timm, name)
        if inspect.ismodule(value):
            continue
        yield name, value
        for method, held in vars(value).items() if inspect.isclass(value) else ():
            held = held.__func__ if isinstance(held, classmethod) else held
            if inspect.isfunction(held) and not method.startswith('_') and held.__doc__:
                yield f'{name}.{method}', held


DESCRIBED = dict(described())


def parameters(value) -> dict[str, inspect.Parameter]:
    found = inspect.signature(value).parameters
    stars = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}
    return {stars.get(each.kind, '') + name: each for name, each in found.items() if name not in ('self', 'cls')}


def arguments(value) -> list[str]:
    """The heads of what stands under Args, such as `name` in `name: What it is.`"""
    section = re.search(r'^Args:\n((?:[ ]{4}.*\n|\n)+)', f'{inspect.getdoc(value)}\n', re.MULTILINE)
    return re.findall(r'^ {4}(\S.*?):\s', section[1], re.MULTILINE) if section else []


def test_what_is_exported_has_a_docstring_of_its_own():
    for name in gradaug_timm.__all__:
        assert (vars(gradaug_timm)[name].__doc__ or '').strip(), name


@pytest.mark.parametrize('name', [name for name, value in DESCRIBED.items() if arguments(value)])
def test_args_name_the_parameters_in_their_order_without_types(name):
    value = DESCRIBED[name]
    assert arguments(value) == list(parameters(value))


@pytest.mark.parametrize('name', [name for name, value in DESCRIBED.items() if len(parameters(value)) > 1])
def test_what_takes_several_arguments_describes_them(name):
    value = DESCRIBED[name]
    if inspect.isclass(value) and issubclass(value, Settings):
        assert all(each.declaration.help for each in declared(value).values())  # as the reference shows them
        return
    bases = value.__mro__[1:] if inspect.isclass(value) else ()
    assert arguments(value) or any(arguments(base) for base in bases if '__init__' in vars(base))


@pytest.mark.parametrize('name', [name for name, value in DESCRIBED.items() if inspect.isfunction(value)])
def test_types_stand_in_the_signature(name):
    value = DESCRIBED[name]
    untyped = [each.name for each in parameters(value).values() if each.annotation is inspect.Parameter.empty
               and each.kind is not inspect.Parameter.VAR_KEYWORD]
    assert untyped == []
    assert inspect.signature(value).return_annotation is not inspect.Signature.empty
