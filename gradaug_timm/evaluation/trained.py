"""Opening a trained network: created, with its weights, as it is evaluated."""
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import timm
from timm.data import resolve_data_config
from torch import nn

from ..data.class_names import own_names
from ..data.modes import check_channels, first_channels, takes
from ..extraction.description import DATA
from ..extraction.loading import load_extracted
from ..models.gradaug_models import PREFIX
from ..models.original import recognise
from ..training.arguments.checks import model_name
from ..training.checkpoints.find import LAST
from ..training.checkpoints.weights import BEST_WEIGHTS
from ..upstream import adapt_to_chs
from .checks import SCALINGS
from .contents import Contents, is_extracted, read_contents
from .network import FLAG, create_network, file_problem
from .residuals import scale_branches
from .settings import OpeningSettings

BEST_CHECKPOINT = 'model_best.pth.tar'
IN_RUN = (BEST_WEIGHTS, BEST_CHECKPOINT, LAST)  # weights of a run, in the order of choice
EXPORTED = 'config.json'  # in a folder of gradaug_timm.export, or of timm
# Settings of train.py that say which network it was, and what images it saw.
AS_TRAINED = (
    'model', 'num_classes', 'in_chans', 'gp', 'model_kwargs', 'img_size', 'input_size', 'crop_pct', 'mean', 'std',
    'interpolation',
)
# Settings that a file of an extracted network, or an exported folder, decides itself.
OF_NETWORK = ('model', 'num_classes', 'in_chans', 'gp', 'model_kwargs', *SCALINGS)


@dataclass(frozen=True)
class Trained:
    """A trained network and what is known of it.

    Args:
        network: The network, on the CPU and in evaluation mode.
        config: How it sees images, as timm's `resolve_data_config` describes it.
        name: The name of its model.
        scaling: How its residual branches are scaled, by the name of the regulariser; empty where they are not.
        settings: The settings that it was trained with, by name; empty if its file does not say.
        path: The file or folder that it was read from; empty for weights of timm.
        averaged: Whether its weights are a moving average.
        class_names: The names of its classes in the order of its outputs; None if they are unknown.

    Example:
        >>> import timm
        >>> from gradaug_timm import Trained
        >>> network = timm.create_model('resnet20_cifar', num_classes=10).eval()
        >>> Trained(network, config={'input_size': (3, 32, 32)}, name='resnet20_cifar').averaged
        False
    """

    network: nn.Module = field(repr=False)
    config: dict[str, Any]
    name: str
    scaling: dict[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    path: str = ''
    averaged: bool = False
    class_names: tuple[str, ...] | None = None


def open_trained(
        path: str | os.PathLike = '',
        *,
        model: str | None = None,
        pretrained: bool = False,
        use_ema: bool = False,
        num_classes: int | None = None,
        in_chans: int | None = None,
        gp: str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        img_size: int | None = None,
        input_size: Sequence[int] | None = None,
        crop_pct: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str | None = None,
        use_train_size: bool = True,
        shake_drop: float | None = None,
        stoch_depth: float | None = None,
        scale_residuals: float | None = None,
) -> Trained:
    """Open a trained network as it is evaluated; runs no code from its file.

    Arguments that are not given are taken from the file: the model, its classes and arguments, how it sees images, and
    how its residual branches are scaled in evaluation.

    Args:
        path: A checkpoint of train.py, of timm or of the original code, or the folder of a run, whose best weights are
            taken; a file of weights, .pth, .safetensors or .npz, with `model`; a file of gradaug_timm.convert or
            gradaug_timm.extract; or a folder of gradaug_timm.export.
        model: The name of the model.
        pretrained: Take timm's weights of `model`; without `path`.
        use_ema: Take the averaged weights if the checkpoint has them.
        num_classes: Number of classes.
        in_chans: Channels of the images.
        gp: Global pooling.
        model_kwargs: More arguments of the model.
        img_size: Height and width of the images.
        input_size: Channels, height and width of the images.
        crop_pct: Share of the resized image that the crop keeps.
        mean: Mean of the pixels, in 0 to 1, of all channels or of each.
        std: Standard deviation of the pixels.
        interpolation: How images are resized.
        use_train_size: Take the image size of the model's training, not of its test, where no size is known.
        shake_drop: Scale residual branches for ShakeDrop that ends at this survival probability.
        stoch_depth: Scale residual branches for stochastic depth that ends at this survival probability.
        scale_residuals: Scale residual branches linearly, from 1 to this.

    Raises:
        ValueError: The file does not exist, is damaged, does not say which model it is for, or does not fit the
            arguments; the message is one line.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import timm, torch
        >>> from gradaug_timm import open_trained
        >>> with TemporaryDirectory() as folder:
        ...     network = timm.create_model('resnet20_cifar', num_classes=10)
        ...     path = Path(folder) / 'weights.pth'
        ...     torch.save(network.state_dict(), path)
        ...     trained = open_trained(path, model='resnet20_cifar', num_classes=10)
        >>> trained.config['input_size'], trained.network(torch.zeros(1, 3, 32, 32)).shape
        ((3, 32, 32), torch.Size([1, 10]))
    """
    path = os.fspath(path)
    values = dict(
        model=model, num_classes=num_classes, in_chans=in_chans, gp=gp, model_kwargs=model_kwargs, img_size=img_size,
        input_size=input_size, crop_pct=crop_pct, mean=mean, std=std, interpolation=interpolation,
        shake_drop=shake_drop, stoch_depth=stoch_depth, scale_residuals=scale_residuals)
    given = {name: value for name, value in values.items() if value is not None}
    fixed = dict(use_ema=use_ema, use_train_size=use_train_size)
    if not path:
        if not (model and pretrained):
            raise ValueError('nothing to open: give a path, or a model and pretrained=True')
        return open_network(OpeningSettings.of({**given, **fixed, 'pretrained': True}))
    if pretrained:
        raise ValueError(f'pretrained=True excludes a path, {path}: both name weights')
    return open_path(path, given, fixed)


def open_path(path: str, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Trained:
    """Open any file or folder that holds a network.

    Args:
        path: As for `open_trained`.
        given: Settings of the network and its images that replace what the file says.
        fixed: The settings `use_ema` and `use_train_size`.

    Raises:
        ValueError: As `open_trained`.
    """
    if os.path.isfile(os.path.join(path, EXPORTED)):
        return _open_folder(path, given, fixed)
    if os.path.isdir(path):
        path = _weights_of_run(path, use_ema=fixed['use_ema'])
    problem = file_problem(path)
    if problem:
        raise ValueError(problem)
    if is_extracted(path):
        return _open_extracted(path, given, fixed)
    contents = read_contents(path, label=FLAG)
    if 'model' not in given and not timm.is_model(contents.settings.get('model', '')) and _is_original(path):
        return _open_original(path, {**given, **fixed})
    return open_network(as_trained(path, contents.settings, {**given, **fixed, 'checkpoint': path}), contents)


def weights_in(folder: str, *, use_ema: bool) -> str | None:
    """Return the file of a run's folder that holds its best weights, else its last; None if it has none."""
    names = IN_RUN[1:] if use_ema else IN_RUN
    return next((path for path in (os.path.join(folder, name) for name in names) if os.path.isfile(path)), None)


def _weights_of_run(folder: str, *, use_ema: bool) -> str:
    found = weights_in(folder, use_ema=use_ema)
    if found is None:
        raise ValueError(f'{folder} has none of {", ".join(IN_RUN)} and no {EXPORTED}')
    return found


def open_network(settings: OpeningSettings, contents: Contents | None = None, *, path: str = '') -> Trained:
    """Open the network that the settings describe, taking only BatchNorm's epsilon and the scaling from the file.

    Args:
        settings: The model, its weights and what it sees.
        contents: What the file of weights says; None reads it.
        path: Where the network was read from, if not from the settings' checkpoint.

    Raises:
        ValueError: The model can't be created, or the weights can't be loaded; the message is one line.
    """
    if contents is None:
        contents = read_contents(settings.checkpoint, label=FLAG)
    network = create_network(settings, contents.settings)
    scaling = scale_branches(network, settings, contents.settings)
    names = contents.class_names if settings.checkpoint else own_names(network)
    return Trained(
        network=network.eval(),
        config=data_config(settings, network),
        name=settings.model,
        scaling=scaling,
        settings=contents.settings,
        path=path or settings.checkpoint,
        averaged=contents.averaged(settings.use_ema),
        class_names=names,
    )


def data_config(
        settings: OpeningSettings,
        model: nn.Module,
        known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return size, crop, interpolation and normalisation of the images: as the settings say, else those of the model.

    Args:
        settings: The settings.
        model: The network.
        known: A configuration that takes the place of the model's.
    """
    given = vars(settings)
    if known is not None:
        given = {**given, 'in_chans': settings.in_chans or known['input_size'][0]}
    _check_channels(given)
    config = resolve_data_config(
        given, pretrained_cfg=known, model=model, use_test_size=not settings.use_train_size, verbose=True)
    if settings.in_chans is None and settings.input_size is None and not takes(model, config['input_size'][0]):
        config = {**config, 'input_size': (first_channels(model), *config['input_size'][1:])}
    channels = config['input_size'][0]
    check_channels(model, channels)
    return {**config, 'mean': adapt_to_chs(config['mean'], channels), 'std': adapt_to_chs(config['std'], channels)}


def _check_channels(given: Mapping[str, Any]) -> None:
    """Raise ValueError if mean or standard deviation are of another number of channels than the images."""
    channels = given['input_size'][0] if given.get('input_size') else given.get('in_chans') or 3
    for name in ('mean', 'std'):
        values = given.get(name) or ()
        if values and len(values) not in {1, channels}:
            raise ValueError(
                f'--{name} {" ".join(map(str, values))} must be one value, or one for each of {channels} channels')


def as_trained(path: str, trained: Mapping[str, Any], given: Mapping[str, Any]) -> OpeningSettings:
    """Return the settings that open a checkpoint as it was trained, except for those that are given.

    Raises:
        ValueError: Neither names the model, or a setting of the checkpoint is not allowed.
    """
    if 'model' not in given and 'model' not in trained:
        raise ValueError(f'{path} does not say which model its weights are for; give --model')
    known = {name: trained[name] for name in AS_TRAINED if trained.get(name) is not None}
    if 'input_size' not in given:
        _keep_one_size(known, given)
    channels = given.get('in_chans') or (given.get('input_size') or [None])[0]
    if channels:  # one value is for all channels
        known.update({name: None for name in ('mean', 'std') if len(known.get(name) or [0]) not in (1, channels)})
    if known.get('img_size') or known.get('input_size'):  # the run's choice, and with it the crop of its validation
        given = {**given, 'use_train_size': True}
    OpeningSettings.of(given)  # so that the error below is of the checkpoint
    try:
        return OpeningSettings.of({**known, **given})
    except ValueError as error:
        raise ValueError(f'{path} was trained with settings that are not supported: {error}') from error


def _keep_one_size(known: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Change the size of training where another is given: with `img_size` channels stay, with `in_chans` pixels."""
    if 'img_size' in given:
        size = known.pop('input_size', None)
        known['in_chans'] = known.get('in_chans') or (size[0] if size else None)
    elif 'in_chans' in given and known.get('input_size'):
        known['input_size'] = [given['in_chans'], *known['input_size'][1:]]


def _open_folder(path: str, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Trained:
    try:
        with open(os.path.join(path, EXPORTED), encoding='utf-8') as file:
            content = json.load(file)
        channels, architecture = content['pretrained_cfg']['input_size'][0], content['architecture']
        described = {'num_classes': content.get('num_classes'), **content.get('model_args', {})}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path}/{EXPORTED} does not describe a network of timm: {error!r}') from error
    rest = _beyond(path, given, architecture, described, allowed=('num_classes',))
    settings = OpeningSettings.of({
        **rest, 'model': f'local-dir:{path}', 'in_chans': channels, 'pretrained': True,
        'use_train_size': fixed['use_train_size']})
    return open_network(settings, path=path)


def _open_extracted(path: str, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Trained:
    network = load_extracted(path)
    description = network.extracted_as
    described = {'num_classes': description.num_classes, 'in_chans': description.data['input_size'][0],
                 **description.model_kwargs}
    rest = _beyond(path, given, description.architecture, described)
    known = {name: network.pretrained_cfg.get(name) for name in DATA}
    return Trained(
        network, data_config(OpeningSettings.of({**rest, **fixed}), network, known), description.architecture,
        settings={'gradaug_divisor': description.divisor}, path=path, class_names=own_names(network))


def _is_original(path: str) -> bool:
    """Return whether a checkpoint is of the original code, or of efficientnet_pytorch."""
    from ..convert import (
        read_original,  # here, because Python warns if `python -m gradaug_timm.convert` finds it imported
    )
    try:
        recognise({name: tensor.shape for name, tensor in read_original(path).items()})
    except ValueError:
        return False
    return True


def _open_original(path: str, given: Mapping[str, Any]) -> Trained:
    from ..convert import convert
    with TemporaryDirectory() as folder:
        converted = os.path.join(folder, 'converted.safetensors')
        convert(path, converted)
        contents = read_contents(converted)
        settings = as_trained(path, contents.settings, {**given, 'checkpoint': converted})
        return open_network(settings, contents, path=path)


def _beyond(
        path: str,
        given: Mapping[str, Any],
        architecture: str,
        described: Mapping[str, Any],
        *,
        allowed: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the given settings that a file which describes its network does not decide.

    Args:
        path: The file or folder.
        given: The settings.
        architecture: timm's name of its network.
        described: Arguments of its network, by name.
        allowed: Settings of the network that may nevertheless be given.

    Raises:
        ValueError: A setting says something else than the file.
    """
    def agrees(name: str, value: Any) -> bool:
        if name == 'model':
            return plain_name(value) in (plain_name(architecture), f'local-dir:{path}')
        if name == 'model_kwargs':
            return all(key in described and described[key] == item for key, item in value.items())
        return name in described and described[name] == value

    decided = {name: value for name, value in given.items() if name in OF_NETWORK and name not in allowed}
    wrong = [name for name, value in decided.items() if not agrees(name, value)]
    if wrong:
        network = f'{architecture}, {described["num_classes"]} classes'
        raise ValueError(f'{path} describes its network itself ({network}); leave out {", ".join(wrong)}')
    return {name: value for name, value in given.items() if name not in decided}


def plain_name(model: str) -> str:
    """Return the name of a model without `timm/`, a tag such as `.a1_in1k`, and `gradaug_`."""
    return model if model.startswith('local-dir:') else model_name(model).removeprefix(PREFIX)
