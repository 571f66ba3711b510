"""validate.py: one evaluation, or those of many models or checkpoints."""
import copy
import glob
import logging
import os

import timm
import torch
from timm.task import ClassificationEvaluator, MultiLabelClassificationEvaluator
from timm.utils import check_batch_size_retry, decay_batch_step, natural_key, setup_default_logging

from ..cli import one_line, table
from ..task.compile_limit import CompilationError
from .arguments import build_parser, parse
from .report import as_rows, print_results, write_results
from .robustness import asked_for, error_rows, validate_robustness, write_robustness
from .run import validate

_logger = logging.getLogger(__name__)

# what `--model all` leaves out: our names of timm's weights and, as timm does, those not fine-tuned on ImageNet-1k
LEFT_OUT = ['gradaug_*', '*_in21k', '*_in22k', '*in12k', '*_dino', '*fcmae', '*seer']


def main(argv: list[str] | None = None):
    """Runs validate.py; SystemExit(2) with one line on stderr where the command can't be carried out."""
    args = parse(argv)
    if not logging.root.handlers:
        setup_default_logging()
    try:
        if asked_for(args):
            _report_robustness(args)
            return
        jobs = find_jobs(args)
        if jobs is not None:
            results: dict | list[dict] = validate_all(args, jobs)
        else:
            results = validate_with_retry(args) if args.retry else validate(args)
        print_results(results)
        if args.results_file:
            write_results(args.results_file, results, format=args.results_format)
    except (OSError, ValueError, CompilationError) as error:
        build_parser().error(str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _report_robustness(args) -> None:
    results = validate_robustness(args)
    if args.robustness_dir:
        write_robustness(results, args.robustness_dir)
    if args.results_file:
        single = [{name: value for name, value in result.items() if name != 'errors'} for result in results]
        write_results(args.results_file, results if args.results_format == 'json' else single,
                      format=args.results_format)
    print('\n'.join(table(error_rows(results), figures=True)), end='\n\n')
    print_results(results)


def find_jobs(args) -> list[tuple[str, str]] | None:
    """(model, checkpoint) of each evaluation where the command asks for several; else None.

    Raises:
        ValueError: A folder or pattern matches nothing, or a file holds no names.
    """
    if os.path.isdir(args.checkpoint):
        paths = [path for ending in ('pth.tar', 'pth') for path in glob.glob(f'{args.checkpoint}/*.{ending}')]
        return _some([(args.model, path) for path in sorted(paths, key=natural_key)], f'--checkpoint {args.checkpoint}')
    if args.model == 'all':
        return [(name, '') for name in timm.list_models(pretrained=True, exclude_filters=LEFT_OUT)]
    if os.path.isfile(args.model):
        return _some([(name, '') for name in _names_in(args.model)], f'--model {args.model}')
    if set('*?[') & set(args.model):
        names = timm.list_models(args.model, pretrained=True)
        return _some([(name, '') for name in names], f'--model {args.model}')
    return None


def validate_all(args, jobs: list[tuple[str, str]]) -> list[dict]:
    """Results of all that could be evaluated, best first; after Ctrl-C of those that are done.

    The widths of a network stay together, in their order; its best one ranks it.

    Raises:
        ValueError: Nothing could be evaluated.
    """
    evaluator = MultiLabelClassificationEvaluator if args.task == 'multilabel' else ClassificationEvaluator
    _logger.info(f'Evaluating {len(jobs)}: {", ".join(checkpoint or model for model, checkpoint in jobs)}')
    results = []
    try:
        for model, checkpoint in jobs:
            try:
                rows = as_rows(validate_with_retry(_with(args, model=model, checkpoint=checkpoint)))
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


def validate_with_retry(args) -> dict | list[dict]:
    """The results, from smaller and smaller batches while memory runs out.

    Raises:
        ValueError: Something the arguments name isn't there or doesn't fit, or smaller batches don't help.
    """
    batch_size = args.batch_size
    while True:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            return validate(_with(args, batch_size=batch_size * args.num_gpu))
        except RuntimeError as error:
            smaller = decay_batch_step(batch_size)
            if not smaller or not check_batch_size_retry(str(error)):
                raise ValueError(f'--model {args.model} fails with batches of {batch_size}: {error}') from error
            _logger.warning(f'{args.model}: {one_line(error, None)}; trying again with batches of {smaller}.')
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


def _with(args, **changes):
    args = copy.copy(args)
    vars(args).update(changes)
    return args
