"""Evaluations of several models or checkpoints, and with smaller batches where memory runs out."""
import glob
import logging
import os
from dataclasses import replace

import timm
import torch
from timm.models import safe_model_name
from timm.task import ClassificationEvaluator, MultiLabelClassificationEvaluator
from timm.utils import check_batch_size_retry, decay_batch_step, natural_key

from ..cli import one_line
from ..confusion import with_suffix
from .report import as_rows
from .run import validate
from .settings import EvaluationSettings
from .trained import EXPORTED, Trained

_logger = logging.getLogger(__name__)

ENDINGS = ('pth.tar', 'pth', 'safetensors')  # the last only where there are no others
# what `--model all` leaves out: our names of timm's weights and, as timm does, those not fine-tuned on ImageNet-1k
LEFT_OUT = ['gradaug_*', '*_in21k', '*_in22k', '*in12k', '*_dino', '*fcmae', '*seer']


def find_jobs(settings: EvaluationSettings) -> list[tuple[str, str]] | None:
    """Return (model, checkpoint) of each evaluation if the settings ask for several; else None.

    Raises:
        ValueError: A folder or pattern matches nothing, or a file holds no names.
    """
    model, checkpoint = settings.model, settings.checkpoint
    if os.path.isdir(checkpoint) and not os.path.isfile(os.path.join(checkpoint, EXPORTED)):
        found = {ending: glob.glob(f'{glob.escape(checkpoint)}/*.{ending}') for ending in ENDINGS}
        paths = [*found['pth.tar'], *found['pth']] or found['safetensors']
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
                matrix = settings.confusion_matrix and with_suffix(
                    settings.confusion_matrix, os.path.basename(checkpoint) or safe_model_name(model))
                rows = as_rows(validate_with_retry(
                    replace(settings, model=model, checkpoint=checkpoint, confusion_matrix=matrix)))
            except ValueError as error:
                _logger.error(f'{checkpoint or model}: {error}')
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
                f'{settings.model}: {one_line(error, None)}; trying again with batches of {smaller}.')
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
