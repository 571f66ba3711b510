"""Hash of everything that the plan of a network depends on: the structure, and the code of network and planner."""
import hashlib
import io
import logging
import pickle
import re
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from types import FunctionType, ModuleType

import timm
import torch
from torch import nn

from ..upstream import MODULE_ATTRIBUTES, own_buffers, own_modules, own_parameters
from .blocks import BLOCKS
from .slicing import Elastic

STARTED = time.time()
KNOWN = sys.stdlib_module_names | {'torch'}  # packages whose version identifies the code
INSTALLED = {'site-packages', 'dist-packages'}  # folders of packages whose files do not change one by one
IMPORT = re.compile(rb'^\s*(?:from|import)\s+([\w.]+)', re.MULTILINE)
# In this package: what its functions import belongs to other parts, and may have been imported yet or not.
TOP_IMPORT = re.compile(rb'^(?:from|import)\s+([\w.]+)', re.MULTILINE)
ADDED = frozenset({'smart_apply'})  # methods that transformers adds to nn.Module, only to initialise weights
PASSING = MODULE_ATTRIBUTES | {'kept', 'full_values'}  # attributes of every module, not described

_logger = logging.getLogger(__name__)


def fingerprint(network: nn.Module, planner: Callable, *, ignored: frozenset[str] = frozenset()) -> str | None:
    """Return a hash of everything that the plan of a network depends on; None if an attribute cannot be hashed.

    Args:
        network: The network, elastic or not, on any device.
        planner: Function that makes the plan.
        ignored: Attributes of modules that do not matter.
    """
    try:
        description = _Description(network, ignored)
        description.dump(planner)
        engine = {name for name in sys.modules if name.startswith(__package__)}
        description.dump((torch.__version__, timm.__version__, _sources(engine | description.modules)))
        return hashlib.sha256(description.stream.getvalue()).hexdigest()
    except Exception as error:  # an attribute's own code may raise anything: lambdas, locks, open files
        _logger.debug(f'{type(network).__name__}: the plan is not cached ({error}).')
        return None


class _Description(pickle.Pickler):
    """Description of a network as bytes; parameters and buffers without values on which no plan depends.

    Pickle's format is used to tell values apart, with classes and functions by name; nothing is ever unpickled.
    """

    def __init__(self, network: nn.Module, ignored: frozenset[str]):
        self.stream = io.BytesIO()
        super().__init__(self.stream, protocol=4)
        self.modules: set[str] = set()  # Python modules of the classes and functions in the description
        tensors = dict([*network.named_parameters(), *network.named_buffers()])
        self.names = {id(tensor): f'tensor {name}' for name, tensor in tensors.items()}
        self.names.update((id(module), f'module {name}') for name, module in network.named_modules())
        for name, tensor in tensors.items():
            has_values = not tensor.is_floating_point() and not name.endswith('num_batches_tracked')
            self.dump((name, isinstance(tensor, nn.Parameter), tuple(tensor.shape), tensor.is_floating_point(),
                       _values(tensor) if has_values else None))
        for module in network.modules():
            attributes = {name: value for name, value in vars(module).items() if name not in PASSING | ignored}
            self.dump((_plain(module), attributes, own_parameters(module), own_buffers(module), own_modules(module)))
        for cls in dict.fromkeys(map(_plain, network.modules())):
            self.dump((BLOCKS.get(cls), _patches(cls)))

    def dump(self, value) -> None:
        self.clear_memo()  # describe each value by itself, not by what it shares with others
        super().dump(value)

    def persistent_id(self, value):
        if id(value) in self.names and isinstance(value, nn.Module | torch.Tensor):
            return self.names[id(value)]
        return ('values', tuple(value.shape), _values(value)) if isinstance(value, torch.Tensor) else None

    def reducer_override(self, value):
        cls = value if isinstance(value, type) else type(value)
        self.modules.update(base.__module__ for base in cls.__mro__)
        self.modules.add(getattr(value, '__module__', None) or 'builtins')
        return NotImplemented


def _plain(module: nn.Module) -> type[nn.Module]:
    return module.plain if isinstance(module, Elastic) else type(module)


def _values(tensor: torch.Tensor) -> tuple[str, bytes | None]:
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8) if tensor.device.type != 'meta' else None
    return str(tensor.dtype), None if raw is None else raw.numpy().tobytes()


def _patches(cls: type[nn.Module]) -> list[tuple[str, FunctionType]]:
    """Return methods that other modules have put into a class or its bases, except those of torch and ADDED."""
    return [(name, method) for base in cls.__mro__ for name, method in vars(base).items()
            if isinstance(method, FunctionType) and method.__module__ != base.__module__ and name not in ADDED
            and method.__module__.partition('.')[0] not in KNOWN]


def _sources(names: set[str]) -> list[tuple[str, str]]:
    """Return hashes of the files of Python modules and of all modules that they use, except installed packages'."""
    found: dict[str, str] = {}
    pending = set(names)
    while pending:
        name = pending.pop()
        if name not in found and name.partition('.')[0] not in KNOWN:
            found[name], used = _source(name)
            pending |= used
    return sorted(found.items())


@cache
def _source(name: str) -> tuple[str, frozenset[str]]:
    """Return the hash of a Python module's file and the names of the modules that it uses.

    Raises:
        ValueError: The module has no file, or the file may have changed since it was imported.
    """
    module = sys.modules[name]
    if getattr(module, '__file__', None) is None:
        if hasattr(module, '__path__'):
            return '', frozenset()
        raise ValueError(f'{name} has no file')
    path = Path(module.__file__)
    if path.stat().st_mtime > STARTED:
        raise ValueError(f'{path} has changed since this process started')
    code = path.read_bytes()
    used = set() if INSTALLED & set(path.parts) else {*map(_home, vars(module).values()), *_imports(code, module)}
    return hashlib.sha256(code).hexdigest(), frozenset(used & sys.modules.keys())


def _imports(code: bytes, module: ModuleType) -> list[str]:
    pattern = TOP_IMPORT if module.__name__.partition('.')[0] == __package__.partition('.')[0] else IMPORT
    return [resolve_name(name.decode(), module.__package__) for name in pattern.findall(code)]


def _home(value) -> str | None:
    """Return the name of the Python module that a global variable is, or that defines its class or function."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, '__module__', None)
    return name if isinstance(name, str) else None
