"""Metrics: timm's evaluators, also over part of the labels or with ImageNet's re-assessed labels."""
import torch
from timm.data import RealLabelsImagenet
from timm.task import ClassificationEvaluator, MultiLabelClassificationEvaluator
from torch.utils.data import IterableDataset

from ..confusion import ConfusionCounts
from .settings import MetricSettings

ONE_ENTRY = 'it must have one entry for each evaluated image, named as in ImageNet'


class Metrics:
    """Loss and accuracy (or multi-label metrics) over a data set, in per cent.

    Args:
        args: What is measured.
        dataset: The data set, for the file names that `--real-labels` needs.
        device: Device of the running totals.
        valid_labels: The outputs that count; None for all.
        confusion: Counts of true and predicted classes, to which all batches are added; None for none.
    """

    def __init__(
            self,
            args: MetricSettings,
            dataset,
            *,
            device: torch.device,
            valid_labels: list[int] | None = None,
            confusion: ConfusionCounts | None = None,
    ):
        if args.task == 'multilabel':
            self.evaluator = MultiLabelClassificationEvaluator(device, threshold=args.multilabel_threshold)
        else:
            self.evaluator = ClassificationEvaluator(device)  # type: ignore[assignment]
        self.valid_labels = valid_labels
        self.confusion = confusion
        self.real_labels = _real_labels(args.real_labels, dataset) if args.real_labels else None
        self.average = args.metrics_avg
        self.predictions: list[torch.Tensor] = []
        self.targets: list[torch.Tensor] = []

    def update(self, output: torch.Tensor, target: torch.Tensor, kept: torch.Tensor | None = None) -> None:
        """Add a batch; `kept` says which of its rows count, None that all do."""
        if self.valid_labels is not None:
            output = output[:, self.valid_labels]
        if self.real_labels is not None:
            _add_results(self.real_labels, output, kept)
        if kept is not None:
            output, target = output[kept], target[kept]
        self.evaluator.update(output, target)
        if self.confusion is not None:
            self.confusion.update(output, target)
        if self.average:
            self.predictions.append(output.argmax(1))
            self.targets.append(target)

    def summary(self) -> str:
        """Return the totals so far, for a log line."""
        return '  '.join(f'{name}: {value:.4f}' for name, value in self.evaluator.summary().items())

    def compute(self) -> dict[str, float]:
        """Return the results by name; for accuracies also the error."""
        values = self.evaluator.compute()
        loss = values.pop('loss')
        if self.real_labels is not None:
            values.update(top1=self.real_labels.get_accuracy(k=1), top5=self.real_labels.get_accuracy(k=5))
        results = {}
        for name, value in values.items():
            results[name] = round(value, 4)
            if name in ('top1', 'top5'):
                results[f'{name}_err'] = round(100 - value, 4)
        if self.average:
            results.update(self._averaged())
        return {**results, 'loss': round(loss, 4)}

    def _averaged(self) -> dict[str, float]:
        from sklearn.metrics import precision_recall_fscore_support
        scores = precision_recall_fscore_support(
            torch.cat(self.targets).cpu(), torch.cat(self.predictions).cpu(), average=self.average, zero_division=0)
        names = (f'{self.average}_{kind}' for kind in ('precision', 'recall', 'f1_score'))
        return {name: round(100 * float(score), 4) for name, score in zip(names, scores)}


def read_valid_labels(path: str, num_classes: int) -> list[int]:
    """Read the outputs that count, one index per line.

    Raises:
        ValueError: The file can't be read, or an index is not an output of the model.
    """
    try:
        with open(path, encoding='utf-8') as file:
            labels = [int(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise ValueError(f'--valid-labels {path} must hold one index per line: {error}') from error
    if not labels or min(labels) < 0 or max(labels) >= num_classes:
        raise ValueError(f'--valid-labels {path} must hold indexes from 0 to {num_classes - 1}')
    return labels


def _real_labels(path: str, dataset) -> RealLabelsImagenet:
    if isinstance(dataset, IterableDataset):
        raise ValueError('--real-labels needs a data set whose images are numbered, not a stream')
    try:
        labels = RealLabelsImagenet(dataset.filenames(basename=True), real_json=path)
        lacking = not {*labels.filenames} <= {*labels.real_labels}
    except (OSError, ValueError, AttributeError, AssertionError) as error:
        raise ValueError(f'--real-labels {path} doesn\'t fit the data set: {str(error) or ONE_ENTRY}') from error
    if lacking:
        raise ValueError(f'--real-labels {path} doesn\'t fit the data set: {ONE_ENTRY}')
    return labels


def _add_results(labels: RealLabelsImagenet, output: torch.Tensor, kept: torch.Tensor | None) -> None:
    """Add outputs to labels that count images by themselves."""
    if kept is None:
        labels.add_result(output)
        return
    for row, counts in zip(output, kept.tolist()):
        if counts:
            labels.add_result(row[None])
        else:
            labels.sample_idx += 1
