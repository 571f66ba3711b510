"""The best weights of a run as safetensors, with timm's keys."""
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from safetensors.torch import save
from torch import Tensor, contiguous_format

from ...files import written_aside
from ...task.settings import GradAugSettings
from ..arguments.checks import model_name
from ..arguments.settings import LoopSettings
from .public import public_dataset, without_paths

BEST_WEIGHTS = 'model_best.safetensors'
KEPT = (  # settings that define the network, or that `validate.py` needs
    'model', 'num_classes', 'in_chans', 'gp', 'model_kwargs', 'img_size', 'input_size', 'crop_pct', 'mean', 'std',
    'interpolation', 'bn_eps', 'shake_drop', 'shake_drop_alpha', 'stoch_depth', 'regularizer', 'gradaug_divisor',
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
        settings: GradAugSettings | None,
        class_names: Sequence[str] | None = None,
) -> dict[str, str]:
    """Return the metadata of a file of weights; the values are JSON.

    Args:
        args: The settings of the run.
        config: timm's data configuration of the network.
        settings: The settings of GradAug; None if GradAug is off.
        class_names: The names of the classes in the order of labels; None leaves them out.
    """
    values: dict[str, Any] = {
        'architecture': model_name(args.model).removeprefix('gradaug_'),
        'num_classes': args.num_classes,
        'model_kwargs': args.model_kwargs,
        'pretrained_cfg': config,
        'recipe': recipe(args.values()),
        'gradaug': None if settings is None else asdict(settings),
        'train_args': {name: getattr(args, name) for name in KEPT if getattr(args, name, None) not in (None, {}, '')},
    }
    if class_names is not None:
        values['class_names'] = list(class_names)
    return {'format': 'pt', **{name: json.dumps(value) for name, value in values.items()}}


def recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of RECIPE that are on, without paths."""
    found = {name: without_paths(values[name]) for name in RECIPE if values.get(name)}
    if found.get('dataset'):
        found['dataset'] = public_dataset(values['dataset'])
    return found
