"""The best weights of a run as safetensors, with timm's keys."""
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from safetensors.torch import save
from timm.models import get_model_args
from torch import Tensor, contiguous_format, nn

from ...files import written_aside
from ...task.settings import GradAugSettings
from ..arguments.checks import model_name
from ..arguments.settings import LoopSettings
from .public import path_free, public_dataset, without_paths

BEST_WEIGHTS = 'model_best.safetensors'
LOCAL_FOLDER = 'local-dir:'  # precedes the path of a network's folder in timm
OF_IMAGES = ('input_size', 'mean', 'std', 'interpolation', 'crop_pct')
KEPT = (  # settings that define the network, or that `validate.py` needs
    'model', 'num_classes', 'in_chans', 'gp', 'model_kwargs', 'img_size', 'input_size', 'crop_pct', 'mean', 'std',
    'interpolation', 'bn_eps', 'shake_drop', 'shake_drop_alpha', 'stoch_depth', 'regularizer',
    'gradaug_divisor', 'gradaug_preset',
    'train_split', 'val_split', 'input_img_mode', 'input_key', 'target_key', 'target_format', 'task',  # of its data
)
RECIPE = (  # settings that show a reader how the weights were trained; no paths
    'dataset', 'train_split', 'val_split', 'labels_per_class', 'train_fraction', 'pretrained', 'epochs', 'batch_size',
    'grad_accum_steps', 'opt', 'lr', 'weight_decay', 'sched', 'warmup_epochs', 'smoothing', 'mixup', 'cutmix', 'aa',
    'reprob', 'drop_path', 'shake_drop', 'stoch_depth', 'paper_drop_block', 'regularizer',
    'model_ema', 'amp', 'seed', 'task', 'eval_metric',
)


def save_weights(weights: dict[str, Tensor], metadata: dict[str, str], path: str) -> None:
    """Write a state dict as safetensors.

    Raises:
        OSError: The file cannot be written; the message names `path`.
    """
    tensors = {name: weight.clone(memory_format=contiguous_format) for name, weight in weights.items()}
    with written_aside(path) as partial, open(partial, 'wb') as file:
        file.write(save(tensors, metadata))


def weights_metadata(
        args: LoopSettings,
        config: dict,
        network: nn.Module,
        settings: GradAugSettings | None,
        class_names: Sequence[str] | None = None,
) -> dict[str, str]:
    """Return the metadata of a file of weights, without paths; the values are JSON.

    Args:
        args: The settings of the run.
        config: timm's data configuration of the network.
        network: The network, below any wrapper.
        settings: The settings of GradAug; None if GradAug is off.
        class_names: The names of the classes in the order of labels; None leaves them out.
    """
    kept = _kept(args, config, network)
    values: dict[str, Any] = {
        'architecture': model_name(kept['model']).removeprefix('gradaug_'),
        'num_classes': args.num_classes,
        'model_kwargs': kept.get('model_kwargs', {}),
        'pretrained_cfg': config,
        'recipe': recipe(args.values()),
        'gradaug': None if settings is None else without_paths(asdict(settings)),
        'train_args': kept,
    }
    if class_names is not None:
        values['class_names'] = list(class_names)
    return {'format': 'pt', **{name: json.dumps(value) for name, value in values.items()}}


def _kept(args: LoopSettings, config: dict, network: nn.Module) -> dict[str, Any]:
    """Return the settings of KEPT that are given, without paths; a network of a local folder by its architecture."""
    values = {name: getattr(args, name) for name in KEPT if getattr(args, name, None) not in (None, {}, '')}
    if args.model.startswith(LOCAL_FOLDER):
        kwargs = get_model_args(network)
        values.pop('img_size', None)  # input_size says it
        values |= {name: config[name] for name in OF_IMAGES}
        values |= {setting: kwargs.pop(name) for name, setting in (
            ('num_classes', 'num_classes'), ('in_chans', 'in_chans'), ('global_pool', 'gp')) if name in kwargs}
        values |= {'model': network.pretrained_cfg['architecture'], 'model_kwargs': {
            name: value for name, value in kwargs.items() if name not in ('img_size', 'bn_eps', 'bn_momentum')}}
    if 'model_kwargs' in values:
        values['model_kwargs'] = path_free(values['model_kwargs'])
    return path_free(values)


def recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of RECIPE that are on, without paths."""
    found = {name: without_paths(values[name]) for name in RECIPE if values.get(name)}
    if found.get('dataset'):
        found['dataset'] = public_dataset(values['dataset'])
    return found
