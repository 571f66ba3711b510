"""What an evaluation takes from the run that wrote a checkpoint, where its settings do not say."""
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from timm.data import resolve_data_config

from ..cli import flag
from ..data.factory import is_folder
from .contents import is_extracted, read_contents
from .network import FLAG, file_problem, written
from .settings import EvaluationSettings, OpeningSettings
from .trained import AS_TRAINED, Trained, open_network, open_path

_logger = logging.getLogger(__name__)

MODE = 'input_img_mode'
# Settings of data, by their names in train.py.
OF_DATA = {
    'train_split': 'train_split', 'class_map': 'class_map', MODE: MODE,
    'input_key': 'input_key', 'target_key': 'target_key', 'target_format': 'target_format', 'task': 'task',
}
SOURCE = {'dataset': 'dataset', 'data_dir': 'data_dir', 'split': 'val_split', 'num_samples': 'val_num_samples'}
NOT_OF_OPENING = ('checkpoint', 'pretrained', 'use_ema', 'use_train_size')


def open_as_trained(settings: OpeningSettings) -> Trained:
    """Open the network that settings of an evaluation name; what they do not give is as in training.

    Raises:
        ValueError: As `open_trained`.
    """
    path, default = settings.checkpoint, OpeningSettings()
    if not path:
        return open_network(settings)
    given = {each.name: getattr(settings, each.name) for each in fields(OpeningSettings)
             if each.name not in NOT_OF_OPENING and getattr(settings, each.name) != getattr(default, each.name)}
    if 'model' not in given and not _says_model(path):
        given['model'] = settings.model
    fixed = {'use_ema': settings.use_ema, 'use_train_size': settings.use_train_size}
    try:
        trained = open_path(path, given, fixed)
    except ValueError as error:
        raise ValueError(str(error) if FLAG in str(error) or '--model' in str(error) else f'{FLAG}{error}') from error
    _log_taken(trained, given)
    _log_size(trained, settings)
    return trained


def _says_model(path: str) -> bool:
    """Return whether a file or folder says which network it holds; True where it is left to others to complain."""
    if os.path.isdir(path) or file_problem(path) or is_extracted(path):
        return True
    contents = read_contents(path, label=FLAG)
    return bool(contents.settings.get('model') or contents.metadata.get('architecture'))


def _log_taken(trained: Trained, given: Mapping[str, Any]) -> None:
    taken = {name: trained.settings[name] for name in AS_TRAINED
             if name not in given and trained.settings.get(name) not in (None, '', {})}
    if taken:
        _logger.info(f'As {trained.path} was trained: '
                     f'{" ".join(f"{flag(name)} {written(value)}" for name, value in taken.items())}')


def _log_size(trained: Trained, settings: OpeningSettings) -> None:
    """Log both sizes where the size of evaluation differs from that of training, or from the model's."""
    if settings.img_size or settings.input_size or not trained.settings:
        return
    size, crop = trained.config['input_size'][-1], trained.config['crop_pct']
    in_training = resolve_data_config({}, model=trained.network)
    of_model = in_training['input_size'][-1]
    if trained.settings.get('img_size') or trained.settings.get('input_size'):
        if size != of_model:
            _logger.info(f'Images have {size} pixels, as in training; the default of {trained.name} is {of_model}. '
                         '--img-size changes it.')
    elif not settings.use_train_size and not settings.crop_pct and (size, crop) != (of_model, in_training['crop_pct']):
        _logger.warning(f'Images have {size} pixels and crop {crop:g}, timm\'s choice for testing {trained.name}; it '
                        f'was validated at {of_model} and {in_training["crop_pct"]:g} in training: --use-train-size.')


def is_other_data(dataset: str, run: Mapping[str, Any]) -> bool:
    """Return whether a data set is known to be another than that of a run; the best weights do not name theirs.

    Args:
        dataset: The name of the data set, as in --dataset.
        run: The settings of the run.
    """
    if 'dataset' in run:
        return dataset != (run['dataset'] or '')
    has_fields = run.get('target_key') or not (run.get('input_key') or '.').startswith('.')  # .bmp: of files
    return bool(has_fields) and is_folder(dataset)


def with_data_of_run(
        settings: EvaluationSettings,
        trained: Trained,
        *,
        only: Collection[str] | None = None,
) -> EvaluationSettings:
    """Complete settings of data by those of the run that trained a network.

    If the settings name the data set of the run, its fields, class map and kind of labels are those of the run; the
    mode of the images is so for every data set. If they name no data at all, the run's validation split is evaluated.

    Args:
        settings: The settings.
        trained: The network.
        only: Names of the settings to complete; None for all.
    """
    default, run = EvaluationSettings(), trained.settings
    named = settings.data or settings.data_dir or settings.dataset
    names = OF_DATA if named else {**SOURCE, **OF_DATA}
    if named and is_other_data(settings.dataset, run):
        names = {MODE: MODE}
    taken = {name: run[key] for name, key in names.items() if only is None or name in only
             if run.get(key) not in (None, '') and getattr(settings, name) == getattr(default, name)
             and run[key] != getattr(default, name)}
    if not taken:
        return settings
    _logger.info(f'Data as in training: {" ".join(f"{flag(name)} {written(value)}" for name, value in taken.items())}')
    return replace(settings, **taken)
