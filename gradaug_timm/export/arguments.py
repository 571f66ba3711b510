"""The command line of `python -m gradaug_timm.export`."""
import argparse
import importlib.util
import os
from collections.abc import Iterator

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..cli import StrictParser, file_to_write
from ..evaluation.arguments import NATURAL
from ..extraction.arguments import add_network
from .folder import written_files

NETWORK = ('model', 'num_classes', 'model_kwargs', 'img_size', 'use_ema')
CARD = ('license', 'label_names')
ONNX_PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')


def build_parser() -> StrictParser:
    """A fresh parser."""
    parser = StrictParser(
        prog='python -m gradaug_timm.export',
        description='Writes a trained network for timm, transformers, ONNX or torch.export, reads what it wrote back, '
                    'and compares the outputs.')
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
        help='of train.py, other weights with --model, or a file of gradaug_timm.extract for --onnx and --torch-export')
    add = parser.add_argument_group('what is written').add_argument
    add('--to', metavar='DIR', help='folder for timm and transformers: weights, config.json and a model card')
    add('--push', metavar='REPO', help='repository of the Hugging Face Hub that gets such a folder')
    add('--private', action='store_true', help='make that repository a private one, where it is new')
    add('--onnx', type=file_to_write('.onnx'), metavar='FILE.onnx', help='ONNX, for batches of any length')
    add('--torch-export', type=file_to_write('.pt2'), metavar='FILE.pt2', help='the same for torch.export.load')
    add('--batch-size', type=NATURAL, metavar='N', help='for batches of N images alone')
    add('--overwrite', action='store_true', help='replace files that are there already')
    add = parser.add_argument_group('model card').add_argument
    add('--license', metavar='ID', help='licence of the weights, such as mit (default: none is stated)')
    add('--label-names', metavar='FILE', help='names of the classes, one a line, in the order of their indexes')
    add_network(parser)
    return parser


def problems(args: argparse.Namespace, *, extracted: bool) -> Iterator[str]:
    """One line for each flag that has no meaning, or would overwrite something.

    Args:
        args: The arguments.
        extracted: Whether the checkpoint is the file of an extracted network.
    """
    if not (args.to or args.push or args.onnx or args.torch_export):
        yield 'nothing to write: give --to, --push, --onnx or --torch-export'
    if extracted and (args.to or args.push):
        yield (f'{args.checkpoint} is narrower than any architecture of timm, so --to and --push can\'t describe it; '
               '--onnx and --torch-export can')
    yield from _without_use(args, extracted=extracted)
    try:
        validate_repo_id(args.push or 'x')
    except HFValidationError as error:
        yield f'--push {args.push}: {error}'
    if args.onnx:
        missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            yield f'--onnx needs {", ".join(missing)}: pip install "gradaug_timm[export]"'
    if args.to and not os.path.isdir(os.path.dirname(os.path.abspath(args.to))):
        yield f'--to {args.to} must lie in a folder that is there'
    there = [path for path in (*written_files(args.to), args.onnx, args.torch_export) if path and os.path.exists(path)]
    if there and not args.overwrite:
        yield f'{", ".join(there)} {"is" if len(there) == 1 else "are"} there already, replace by --overwrite'


def _without_use(args: argparse.Namespace, *, extracted: bool) -> Iterator[str]:
    given = {name: f'--{name.replace("_", "-")}' for name, value in vars(args).items() if value}
    for reason, names, holds in (
        ('the file of an extracted network tells that itself', NETWORK, not extracted),
        ('it needs --to or --push', CARD, args.to or args.push),
        ('it needs --push', ('private',), args.push),
        ('it needs --onnx or --torch-export', ('batch_size',), args.onnx or args.torch_export),
    ):
        useless = [given[name] for name in names if name in given]
        if useless and not holds:
            yield f'{", ".join(useless)}: {reason}'


def read_label_names(path: str, num_classes: int) -> list[str]:
    """The lines of a file.

    Raises:
        ValueError: They aren't as many as there are classes.
    """
    try:
        with open(path, encoding='utf-8') as file:
            names = [line.strip() for line in file.read().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'--label-names {path} can\'t be read: {error}') from error
    if len(names) != num_classes or not all(names):
        raise ValueError(f'--label-names {path} must have a name in each of {num_classes} lines, it has '
                         f'{sum(map(bool, names))} in {len(names)}')
    return names
