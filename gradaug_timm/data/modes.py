"""PIL modes of images, and the channels of the network that they must give."""
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import ImageMode
from torch import nn

from ..cli import nearest

DEFAULTS = {1: 'L', 3: 'RGB'}  # channels -> mode without --input-img-mode
MODES = {1: ('L', 'P'), 2: ('LA',), 3: ('RGB', 'YCbCr', 'HSV', 'LAB'), 4: ('RGBA', 'CMYK', 'RGBX')}
DEEP = ('I', 'F', 'I;16', 'I;16L', 'I;16B', 'I;16N')
STEMS = (1, 4, 16)  # input channels of a first convolution for each channel of images; more after space-to-depth


def input_mode(asked: str | None, channels: int) -> str:
    """Return the PIL mode in which images are read: the mode asked for, else the usual one for the channels.

    Raises:
        ValueError: The mode is unknown, has another number of channels, or none has this number.
    """
    for problem in mode_problems(asked, channels):
        raise ValueError(problem)
    return asked or DEFAULTS[channels]


def mode_problems(asked: str | None, channels: int) -> Iterator[str]:
    """Yield one line if images of a mode do not have the channels of the network."""
    fitting = MODES.get(channels, ())
    names = ' or '.join(fitting[:2] if channels == 4 else fitting[:1])
    if not fitting:
        yield f'--in-chans {channels} must be 1 to 4: images of files have at most 4 channels'
    elif asked is None and channels not in DEFAULTS:
        yield f'--in-chans {channels} needs --input-img-mode {names}, the mode of the images'
    elif asked in DEEP:
        yield (f'--input-img-mode {asked} is not supported: images are read with 8 bits; use L, in which grey images '
               'of 16 bits are scaled to 8')
    elif asked is not None and asked not in sum(MODES.values(), ()):
        known = [mode for modes in MODES.values() for mode in modes]
        close = nearest(asked.upper(), known)
        hint = f', did you mean {close}?' if close else ''
        yield f'--input-img-mode {asked} must be one of {", ".join(known)}{hint}'
    elif asked is not None and asked not in fitting:
        own = len(ImageMode.getmode(asked).bands)
        yield (f'--input-img-mode {asked} gives images of {own} channel{"s" * (own > 1)}, but the network takes '
               f'{channels}: use --input-img-mode {names} or --in-chans {own}')


def check_channels(network: nn.Module, channels: int) -> None:
    """Raise ValueError if the first layer of a network of timm takes another number of channels than images have."""
    taken = first_channels(network)
    if taken is not None and not takes(network, channels):
        raise ValueError(f'the network takes images of {taken} channel{"s" * (taken > 1)}, not of {channels}: use '
                         f'--in-chans {taken}')


def takes(network: nn.Module, channels: int) -> bool:
    """Return whether the first layer of a network of timm takes this number of channels, as far as known."""
    taken = first_channels(network)
    return taken is None or taken in {channels * factor for factor in STEMS}


def first_channels(network: nn.Module) -> int | None:
    """Return the input channels of the first convolution that a network of timm names; None if it names none."""
    config: Mapping[str, Any] = getattr(network, 'pretrained_cfg', None) or {}
    name = config.get('first_conv')
    modules = dict(network.named_modules())
    layer = modules.get(name if isinstance(name, str) else (name or [''])[0])
    return layer.in_channels if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) else None
