"""The command line of `python -m gradaug_timm.export`."""
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import torch
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..cli import file_to_write, flag
from ..evaluation.contents import is_extracted
from ..evaluation.settings import NATURAL
from ..extraction.arguments import NetworkSettings
from ..flags import Settings, SettingsParser, setting, switch
from .folder import written_files

ONNX_PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')


@dataclass(frozen=True, kw_only=True)
class OutputSettings(Settings, title='outputs'):
    """What is written."""

    checkpoint: str = setting(
        '', 'checkpoint of train.py; other weights with --model; or, for --onnx and --torch-export, a file of '
        'gradaug_timm.extract', positional=True, metavar='CHECKPOINT')
    to: str | None = setting(
        None, 'write a folder for timm and transformers: weights, config.json and a model card', metavar='DIR')
    push: str | None = setting(
        None, 'upload such a folder to this repository of the Hugging Face Hub', metavar='REPO')
    private: bool = switch('make the repository of --push private if it is new')
    onnx: str | None = setting(
        None, 'write an ONNX file for batches of any length', type=file_to_write('.onnx'), metavar='FILE.onnx')
    torch_export: str | None = setting(
        None, 'write a program for torch.export.load, for batches of any length', type=file_to_write('.pt2'),
        metavar='FILE.pt2')
    batch_size: int | None = setting(
        None, 'write --onnx and --torch-export for batches of N images only', type=NATURAL, metavar='N')
    label_names: str | None = setting(
        None, 'text file with the names of the classes, one per line, in the order of their indexes (default: as '
        'trained)',
        metavar='FILE')
    overwrite: bool = switch('replace files that already exist')


@dataclass(frozen=True, kw_only=True)
class CardSettings(Settings, title='model card'):
    """What the model card says."""

    license: str | None = setting(
        None, 'licence of the weights, such as mit (default: none is stated)', metavar='ID')


@dataclass(frozen=True, kw_only=True)
class ExportSettings(OutputSettings, CardSettings, NetworkSettings):
    """The settings of an export."""


def build_parser() -> SettingsParser:
    """Return a fresh parser."""
    return SettingsParser(
        ExportSettings,
        resolve,
        prog='python -m gradaug_timm.export',
        description='Writes a trained network for timm, transformers, ONNX or torch.export, reads what it wrote back, '
                    'and compares the outputs.',
    )


def resolve(settings: ExportSettings) -> ExportSettings:
    """Return the settings, whose combination was checked.

    Raises:
        ValueError: Some do not go together, or something would be overwritten; the message names all of them.
    """
    found = list(problems(settings, extracted=is_extracted(settings.checkpoint)))
    if found:
        raise ValueError('; '.join(found))
    return settings


def problems(settings: ExportSettings, *, extracted: bool) -> Iterator[str]:
    """Yield a line for each setting that has no meaning, or would overwrite something.

    Args:
        settings: The settings.
        extracted: Whether the checkpoint is the file of an extracted network.
    """
    to, push, onnx, torch_export = settings.to, settings.push, settings.onnx, settings.torch_export
    if not (to or push or onnx or torch_export):
        yield 'nothing to write: give --to, --push, --onnx or --torch-export'
    if extracted and (to or push):
        yield (f'{settings.checkpoint} is narrower than any architecture of timm, so --to and --push can\'t describe '
               'it; use --onnx or --torch-export')
    yield from _without_use(settings)
    try:
        validate_repo_id(push or 'x')
    except HFValidationError as error:
        yield f'--push {push}: {error}'
    if onnx:
        missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            yield f'--onnx needs {", ".join(missing)}: pip install "gradaug_timm[export]"'
        elif torch.__version__.startswith('2.6.') and not (
                version('onnxscript').startswith(('0.1.', '0.2.')) and version('onnx').startswith('1.17.')):
            yield (f'--onnx: the exporter of torch {torch.__version__} fails with onnxscript {version("onnxscript")} '
                   f'and onnx {version("onnx")}; install "onnxscript<0.3" "onnx==1.17.*" "protobuf<6" or a newer '
                   'torch, or use --torch-export')
    if to and not os.path.isdir(os.path.dirname(os.path.abspath(to))):
        yield f'--to {to} must be in a folder that exists'
    there = [path for path in (*written_files(to), onnx, torch_export) if path and os.path.exists(path)]
    if there and not settings.overwrite:
        exist = 'exists' if len(there) == 1 else 'exist'
        yield f'{", ".join(there)} already {exist}; use --overwrite to replace'


def _without_use(settings: ExportSettings) -> Iterator[str]:
    for reason, names, holds in (
        ('it needs --to or --push', ('license',), settings.to or settings.push),
        ('it needs --push', ('private',), settings.push),
        ('it needs --onnx or --torch-export', ('batch_size',), settings.onnx or settings.torch_export),
    ):
        useless = [flag(name) for name in names if getattr(settings, name)]
        if useless and not holds:
            yield f'{", ".join(useless)}: {reason}'


def read_label_names(path: str, num_classes: int) -> list[str]:
    """Read the lines of a file.

    Raises:
        ValueError: There are not as many as classes.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            names = [line.strip() for line in file.read().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'--label-names {path} can\'t be read: {error}') from error
    if len(names) != num_classes or not all(names):
        raise ValueError(f'--label-names {path} must have a name in each of {num_classes} lines; it has '
                         f'{sum(map(bool, names))} names in {len(names)} lines')
    return names
