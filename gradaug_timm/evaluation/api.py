"""A whole evaluation from Python, without a command line."""
from dataclasses import replace

import torch
from torch import nn

from ..cli import import_named, one_line
from ..data.class_names import own_names
from ..task.compile_limit import CompilationError
from .checks import SCALINGS, resolve, robustness_asked
from .jobs import find_jobs, validate_all, validate_with_retry
from .report import as_rows, write_results
from .robustness import validate_robustness
from .robustness_report import write_robustness
from .run import validate
from .settings import EvaluationSettings
from .trained import Trained, data_config

# Settings of a network that is opened, without a meaning for one that is given.
OF_OPENING = ('model', 'pretrained', 'checkpoint', 'use_ema', 'gp', 'model_kwargs', *SCALINGS)


def evaluate(settings: EvaluationSettings, network: nn.Module | Trained | None = None) -> list[dict]:
    """Evaluate as validate.py does, and return its results.

    The global random generators are seeded with `settings.seed`. Files that the settings name are written.

    Args:
        settings: What is evaluated, on which images, and how.
        network: A network to evaluate, which is not changed; settings of images that are not given are its own. None
            opens what `settings` name by `model`, `checkpoint` and the like.

    Returns:
        The results by name, such as 'top1': one dict for each width, each model, or each checkpoint.

    Raises:
        ValueError: Settings do not go together, or what they name does not exist or does not fit; the message is one
            line.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import timm
        >>> from gradaug_timm import EvaluationSettings, evaluate
        >>> from PIL import Image
        >>> network = timm.create_model('resnet20_cifar', num_classes=2)
        >>> with TemporaryDirectory() as folder:
        ...     for name in 'black', 'white':
        ...         images = Path(folder) / 'validation' / name
        ...         images.mkdir(parents=True)
        ...         Image.new('RGB', (32, 32), name).save(images / '0.png')
        ...     results = evaluate(EvaluationSettings(data_dir=folder, workers=0, device='cpu'), network)
        >>> results[0]['model'], results[0]['top5']
        ('resnet20_cifar', 100.0)
    """
    import_named(settings.device_modules or ())
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        trained = None
        if network is not None:
            trained = _described(network, settings)
            settings = replace(settings, model=trained.name)
        results = run_evaluation(resolve(settings), trained)
        write_files(settings, results)
    except (OSError, CompilationError) as error:
        raise ValueError(one_line(error, None)) from error
    return as_rows(results)


def _described(network: nn.Module | Trained, settings: EvaluationSettings) -> Trained:
    """Return a given network with what the settings say of its images."""
    default = EvaluationSettings()
    useless = [name for name in OF_OPENING if getattr(settings, name) != getattr(default, name)]
    if useless:
        raise ValueError(f'a network that is given needs no {", ".join(useless)}: leave the settings out')
    if isinstance(network, Trained):
        return replace(network, config=data_config(settings, network.network, network.config))
    if settings.num_classes is None and not hasattr(network, 'num_classes'):
        raise ValueError(f'{type(network).__name__} does not say how many classes it has; give num_classes')
    name = (getattr(network, 'pretrained_cfg', None) or {}).get('architecture') or type(network).__name__
    return Trained(network, data_config(settings, network), name, class_names=own_names(network))


def run_evaluation(settings: EvaluationSettings, trained: Trained | None = None) -> dict | list[dict]:
    """Return the results of one network, or of several.

    Args:
        settings: The settings, whose combination was checked.
        trained: The network; None opens what the settings name.

    Raises:
        ValueError: What the settings name does not exist or does not fit; the message is one line.
        OSError: A file can't be read.
        CompilationError: torch.compile needs more graphs than there are networks and shapes.
    """
    if robustness_asked(settings):
        return validate_robustness(settings, trained)
    jobs = find_jobs(settings) if trained is None else None
    if jobs is not None:
        return validate_all(settings, jobs)
    return validate_with_retry(settings, trained) if settings.retry else validate(settings, trained)


def write_files(settings: EvaluationSettings, results: dict | list[dict]) -> None:
    """Write the files of results that the settings name.

    Raises:
        OSError: A file can't be written.
    """
    rows = as_rows(results)
    if settings.robustness_dir:
        write_robustness(rows, settings.robustness_dir)
    if settings.results_file:
        if robustness_asked(settings) and settings.results_format == 'csv':
            results = [{name: value for name, value in row.items() if name != 'errors'} for row in rows]
        write_results(settings.results_file, results, format=settings.results_format)
