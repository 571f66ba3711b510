"""Which settings of an evaluation go together."""
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import fields

from ..cli import flag
from ..confusion import confusion_problems
from ..data.modes import mode_problems
from ..hints import nearest
from .corruptions import COMMON, EXTRA, SEVERITIES
from .settings import EvaluationSettings, ResidualSettings

SCALINGS = tuple(each.name for each in fields(ResidualSettings))  # of residual branches
NOT_ON_CHANGED_IMAGES = (  # settings without a meaning where images are corrupted or adversarial
    'width', 'test_pool', 'valid_labels', 'real_labels', 'metrics_avg', 'torchcompile', 'reparam', 'tf_preprocessing',
    'confusion_matrix')


def resolve(settings: EvaluationSettings) -> EvaluationSettings:
    """Return the settings, whose combination was checked.

    Raises:
        ValueError: Some do not go together; the message names all of them.
    """
    found = [*_problems(settings), *_robustness_problems(settings)]
    if found:
        raise ValueError('; '.join(found))
    return settings


def robustness_asked(settings: EvaluationSettings) -> bool:
    """Return whether errors on corrupted or adversarial images are wanted."""
    return bool(settings.corruptions or settings.fgsm_eps)


def _problems(settings: EvaluationSettings) -> Iterator[str]:
    multilabel = settings.task == 'multilabel'
    if settings.data and settings.data_dir and settings.data != settings.data_dir:
        yield f'the folder of the data is given twice: {settings.data} and --data-dir {settings.data_dir}'
    if settings.target_format == 'multihot' and not multilabel:
        yield '--target-format multihot needs --task multilabel'
    if multilabel and not settings.dataset:
        yield '--task multilabel needs a --dataset: images in folders have one label each'
    if multilabel and (settings.valid_labels or settings.real_labels or settings.metrics_avg):
        yield '--valid-labels, --real-labels and --metrics-avg are for --task classification'
    if settings.metrics_avg and importlib.util.find_spec('sklearn') is None:
        yield '--metrics-avg needs the package scikit-learn: pip install scikit-learn'
    if settings.amp and _is_low(settings.model_dtype):
        yield f'--amp needs --model-dtype float32, not {settings.model_dtype}'
    yield from confusion_problems(settings.confusion_matrix, settings.task)
    yield from _width_problems(settings)
    scalings = [flag(name) for name in SCALINGS if getattr(settings, name) is not None]
    if len(scalings) > 1:
        yield f'{" and ".join(scalings)} exclude each other: all of them scale the residual branches'
    yield from _input_problems(settings)


def _width_problems(settings: EvaluationSettings) -> Iterator[str]:
    widths = settings.width or ()
    if widths and settings.test_pool:
        yield '--width excludes --test-pool'
    if len(set(widths)) < len(widths):
        yield f'--width {" ".join(map(str, widths))} names a width twice'
    if settings.divisor is not None and not widths:
        yield '--divisor needs --width'


def _input_problems(settings: EvaluationSettings) -> Iterator[str]:
    channels = settings.image_channels
    if settings.input_size and settings.input_size[0] != channels:
        sizes = ' '.join(map(str, settings.input_size))
        yield f'--in-chans {channels} contradicts the channels of --input-size {sizes}'
    if settings.checkpoint and not (settings.in_chans or settings.input_size):
        return  # the checkpoint says how many channels there are
    if settings.input_img_mode is not None:
        yield from mode_problems(settings.input_img_mode, channels)
    for name in ('mean', 'std'):
        values = getattr(settings, name)
        if len(values or [0]) not in {1, channels}:
            yield f'--{name} {" ".join(map(str, values))} must be one value, or one for each of {channels} channels'


def _robustness_problems(settings: EvaluationSettings) -> Iterator[str]:
    if robustness_asked(settings):
        yield from _problems_of_changed_images(settings)
    else:
        alone = [flag(name) for name in ('compare', 'robustness_dir') if getattr(settings, name)]
        if alone:
            yield f'{", ".join(alone)} needs --corruptions or --fgsm-eps'
    if settings.corruptions:
        yield from _corruption_problems(settings)
    else:
        for name in ('mce_baseline', 'corruptions_dir'):
            if getattr(settings, name):
                yield f'{flag(name)} needs --corruptions'
    if settings.pgd_steps and not settings.fgsm_eps:
        yield '--pgd-steps needs --fgsm-eps, the distances'
    if settings.pgd_step_size and not settings.pgd_steps:
        yield '--pgd-step-size needs --pgd-steps'
    if settings.fgsm_eps and (settings.amp or _is_low(settings.model_dtype)):
        yield '--fgsm-eps needs gradients in float32: leave out --amp and --model-dtype'
    if settings.robustness_dir and importlib.util.find_spec('matplotlib') is None:
        yield '--robustness-dir needs the package matplotlib: pip install "gradaug_timm[robustness]"'


def _problems_of_changed_images(settings: EvaluationSettings) -> Iterator[str]:
    others = [flag(name) for name in NOT_ON_CHANGED_IMAGES if getattr(settings, name)]
    others += ['--task multilabel'] if settings.task == 'multilabel' else []
    if others:
        yield f'--corruptions and --fgsm-eps exclude {", ".join(others)}'
    paths = (settings.checkpoint, *(settings.compare or ()), settings.mce_baseline or '')
    missing = [path for path in paths if path not in ('', 'alexnet') and not os.path.exists(path)]
    if missing:
        yield f'{", ".join(missing)} {"does" if len(missing) == 1 else "do"} not exist'


def _corruption_problems(settings: EvaluationSettings) -> Iterator[str]:
    folder = settings.corruptions_dir
    known = ('all', 'extra', *COMMON, *EXTRA)
    unknown = [] if folder else [name for name in settings.corruptions or () if name not in known]
    if unknown:
        close = nearest(unknown[0], known)
        hint = f', did you mean {close}?' if close else ''
        yield (f'--corruptions {" ".join(unknown)} can only be read, with --corruptions-dir; generated are '
               f'{", ".join(known)}{hint}')
    if folder and not os.path.isdir(folder):
        yield f'--corruptions-dir {folder} is not a folder'
    if settings.mce_baseline == 'alexnet':
        extra = set(settings.corruptions or ()) - {'all', *COMMON}
        if extra:
            yield (f'--mce-baseline alexnet has no errors for {", ".join(sorted(extra))}; give a checkpoint as '
                   'baseline')
        if sorted(set(settings.severities)) != list(SEVERITIES):
            yield '--mce-baseline alexnet needs all five --severities'
    if settings.image_channels != 3 and not settings.checkpoint:
        yield f'--corruptions needs images of 3 channels, not {settings.image_channels}'
    if not folder and importlib.util.find_spec('imagecorruptions') is None:
        yield '--corruptions needs the package imagecorruptions-imaug: pip install "gradaug_timm[robustness]"'


def _is_low(dtype: str | None) -> bool:
    return dtype not in (None, 'float32')
