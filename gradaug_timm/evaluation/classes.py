"""The classes of a network and of a data set, compared by name."""
import logging
from collections.abc import Sequence

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn
from torch.utils.data import Dataset

from ..data import class_names
from ..data.by_name import ByName, use_labels_of
from ..data.checks import check_filled
from ..data.class_names import are_synsets, innermost, listed
from .settings import EvaluationSettings
from .trained import Trained

_logger = logging.getLogger(__name__)


def match_classes(
        trained: Trained,
        dataset: Dataset,
        args: EvaluationSettings,
        split: str,
        *,
        valid_labels: Sequence[int] | None = None,
) -> None:
    """Give images the labels that a network was trained with, by the names of the classes.

    Without names, labels are numbers as before; a warning says so if the numbers of classes differ.

    Args:
        trained: The network.
        dataset: The data set, which is changed in place.
        args: The settings of the data set.
        split: The split that it is.
        valid_labels: The outputs that count; None for all.

    Raises:
        ValueError: The data set has classes that the network was not trained on.
    """
    own = class_names(dataset)
    if own is None:
        return
    known = _numbers(trained, own) or trained.class_names or imagenet_names(trained.network, own)
    where = args.dataset or args.data or args.data_dir
    explicit = bool(args.class_map) or valid_labels is not None
    if known is None:
        if not args.class_map:
            check_filled(dataset)
        classes = args.num_classes or getattr(trained.network, 'num_classes', None)
        if not explicit and len(own) != classes:
            _logger.warning(
                f'The network has {classes} classes, split {split} of {where} has {len(own)}, and '
                f'the names of the network\'s classes are unknown: its outputs are taken for {listed(own)} in this '
                'order, which is wrong if they were trained in another; --class-map numbers classes by name.')
        return
    use_labels_of(
        known, dataset, what=f'split {split} of {where}', known_to='the network', mapped=explicit,
        dense=args.target_format == 'multihot')
    if valid_labels is not None:
        _count_among(valid_labels, dataset, args.valid_labels, known)


def _numbers(trained: Trained, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the numbers of ImageNet's classes if a data set names its classes so, as ImageNet-V2 does; else None."""
    subset = infer_imagenet_subset(trained.network)
    if subset is None or not all(name.isdecimal() and name == str(int(name)) for name in names):
        return None
    known = tuple(ImageNetInfo(subset).label_names())
    if max(map(int, names)) >= len(known) or trained.class_names not in (None, known):
        return None
    _logger.info('Class names that are numbers are taken for the numbers of ImageNet\'s classes.')
    return tuple(map(str, range(len(known))))


def imagenet_names(network: nn.Module, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of the classes of a network of ImageNet, if the names of a data set are such too; else None.

    Args:
        network: A network whose class names are unknown; the number of its classes says which ImageNet it is.
        names: The names of the classes of the data set.
    """
    subset = infer_imagenet_subset(network)
    if subset is None or not are_synsets(names):
        return None
    known = tuple(ImageNetInfo(subset).label_names())
    other = {*names} - {*known}  # as many classes, but of other words: labels may be numbers
    return None if other and len(names) == len(known) else known


def _count_among(valid_labels: Sequence[int], dataset: Dataset, path: str, names: Sequence[str]) -> None:
    """Give the labels of a data set their places among the outputs that count."""
    source = innermost(dataset)
    if not isinstance(source.target_transform, ByName):
        if class_names(dataset) != tuple(names):
            return  # classes of other names are numbered as the outputs that count
        every = range(len(names))
        source.target_transform = ByName(dict(zip(every, every)), tuple(names), then=source.target_transform)
    transform = source.target_transform
    places = {label: place for place, label in enumerate(valid_labels)}
    left_out = sorted({*transform.places.values()} - {*places})
    if left_out:
        raise ValueError(f'--valid-labels {path} lacks {listed(names[label] for label in left_out)}, which the data '
                         'set has')
    transform.places = {label: places[new] for label, new in transform.places.items()}
    transform.class_names = tuple(names[label] for label in valid_labels)
