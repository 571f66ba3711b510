"""A whole evaluation: one network, several models or checkpoints, or errors under corruption and attack."""
import glob
import logging
import os
from dataclasses import replace

import timm
import torch
from timm.task import ClassificationEvaluator, MultiLabelClassificationEvaluator
from timm.utils import check_batch_size_retry, decay_batch_step, natural_key
from torch import nn

from ..task.compile_limit import CompilationError
from .checks import resolve, robustness_asked
from .report import as_rows, write_results
from .robustness import validate_robustness, write_robustness
from .run import validate
from .settings import EvaluationSettings
from .trained import Trained, data_config

_logger = logging.getLogger(__name__)

# what `--model all` leaves out: our names of timm's weights and, as timm does, those not fine-tuned on ImageNet-1k
LEFT_OUT = ['gradaug_*', '*_in21k', '*_in22k', '*in12k', '*_dino', '*fcmae', '*seer']


def evaluate(settings: EvaluationSettings, network: nn.Module | Trained | None = None) -> list[dict]:
    """Evaluate as validate.py does, and return its results.

    The global random generators are seeded with `settings.seed`. Files that the settings name are written.

    Args:
        settings: What is evaluated, on which images, and how.
        network: A network to evaluate, which is not changed; None opens what `settings` name by `model`, `checkpoint`
            and the like.

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
    try:
        trained = None
        if network is not None:
            trained = network if isinstance(network, Trained) else _described(network, settings)
            settings = replace(settings, model=trained.name)
        results = run_jobs(resolve(settings), trained)
        write_files(settings, results)
    except (OSError, CompilationError) as error:
        raise ValueError(' '.join(str(error).split())) from error
    return as_rows(results)


def _described(network: nn.Module, settings: EvaluationSettings) -> Trained:
    if settings.num_classes is None and not hasattr(network, 'num_classes'):
        raise ValueError(f'{type(network).__name__} does not tell its number of classes: give num_classes')
    name = (getattr(network, 'pretrained_cfg', None) or {}).get('architecture') or type(network).__name__
    return Trained(network, data_config(settings, network), name)


def run_jobs(settings: EvaluationSettings, trained: Trained | None = None) -> dict | list[dict]:
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


def find_jobs(settings: EvaluationSettings) -> list[tuple[str, str]] | None:
    """Return (model, checkpoint) of each evaluation if the settings ask for several; else None.

    Raises:
        ValueError: A folder or pattern matches nothing, or a file holds no names.
    """
    model, checkpoint = settings.model, settings.checkpoint
    if os.path.isdir(checkpoint):
        paths = [path for ending in ('pth.tar', 'pth') for path in glob.glob(f'{checkpoint}/*.{ending}')]
        return _some([(model, path) for path in sorted(paths, key=natural_key)], f'--checkpoint {checkpoint}')
    if model == 'all':
        return [(name, '') for name in timm.list_models(pretrained=True, exclude_filters=LEFT_OUT)]
    if os.path.isfile(model):
        return _some([(name, '') for name in _names_in(model)], f'--model {model}')
    if set('*?[') & set(model):
        names = timm.list_models(model, pretrained=True)
        return _some([(name, '') for name in names], f'--model {model}')
    return None


def validate_all(settings: EvaluationSettings, jobs: list[tuple[str, str]]) -> list[dict]:
    """Return the results of all that could be evaluated, best first; after Ctrl-C of those that are done.

    The widths of a network stay together, in their order; its best one ranks it.

    Raises:
        ValueError: Nothing could be evaluated.
    """
    multilabel = settings.task == 'multilabel'
    evaluator = MultiLabelClassificationEvaluator if multilabel else ClassificationEvaluator
    _logger.info(f'Evaluating {len(jobs)}: {", ".join(checkpoint or model for model, checkpoint in jobs)}')
    results = []
    try:
        for model, checkpoint in jobs:
            try:
                rows = as_rows(validate_with_retry(replace(settings, model=model, checkpoint=checkpoint)))
            except ValueError as error:
                _logger.error(f'{model}: {error}')
                continue
            results.append([{**row, 'checkpoint': checkpoint} if checkpoint else row for row in rows])
    except KeyboardInterrupt:
        if not results:
            raise
        _logger.warning('Interrupted, the models that are left are not evaluated.')
    if not results:
        raise ValueError(f'none of {", ".join(checkpoint or model for model, checkpoint in jobs)} could be evaluated')
    results.sort(key=lambda rows: max(row[evaluator.default_metric] for row in rows), reverse=True)
    return [row for rows in results for row in rows]


def validate_with_retry(settings: EvaluationSettings, trained: Trained | None = None) -> dict | list[dict]:
    """Return the results, from smaller and smaller batches while memory runs out.

    Raises:
        ValueError: What the settings name does not exist or does not fit, or smaller batches do not help.
    """
    batch_size = settings.batch_size
    while True:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            return validate(replace(settings, batch_size=batch_size * settings.num_gpu), trained)
        except RuntimeError as error:
            smaller = decay_batch_step(batch_size)
            if not smaller or not check_batch_size_retry(str(error)):
                raise ValueError(f'--model {settings.model} fails with batches of {batch_size}: {error}') from error
            _logger.warning(
                f'{settings.model}: {" ".join(str(error).split())}; trying again with batches of {smaller}.')
        batch_size = smaller


def _some(jobs: list[tuple[str, str]], argument: str) -> list[tuple[str, str]]:
    if not jobs:
        raise ValueError(f'{argument} names nothing to evaluate')
    return jobs


def _names_in(path: str) -> list[str]:
    try:
        with open(path, encoding='utf-8') as file:
            return [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f'--model {path} must be a name or a text file of names; weights: --checkpoint') from error
