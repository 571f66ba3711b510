"""Names of the classes that a network predicts."""
import logging
from collections.abc import Sequence

from timm.data import CustomDatasetInfo, DatasetInfoLabelMapper, ImageNetInfo, infer_imagenet_subset

from ..data.class_maps import read_titles
from ..data.class_names import are_synsets, title_of
from ..evaluation.trained import Trained

_logger = logging.getLogger(__name__)


def label_texts(trained: Trained, label_type: str, class_map: str = '') -> list[str] | None:
    """Return the text of each class.

    Args:
        trained: The network.
        label_type: 'name', 'description' or 'detailed'; 'none' for no texts.
        class_map: File with the names of classes, which replace the network's.

    Returns:
        The texts in the order of outputs; numbers for classes without a name. None if no texts are wanted.

    Raises:
        ValueError: The file does not fit the network.
    """
    classes = trained.network.num_classes
    if label_type == 'none':
        return None
    names = _mapped(class_map, classes) if class_map else trained.class_names
    if names is not None:
        cfg = getattr(trained.network, 'pretrained_cfg', None) or {}
        titles = [title_of(label, names) for label in range(classes)]
        if label_type != 'name' and are_synsets(names):
            return _of_wordnet(names, label_type) + titles[len(names):]
        return _described(titles, cfg.get('label_descriptions'), label_type)
    subset = infer_imagenet_subset(trained.network)
    if subset is None:
        _logger.warning('The names of the classes are unknown, so labels are numbers; --class-map FILE names them.')
        return [str(label) for label in range(classes)]
    return [*map(DatasetInfoLabelMapper(ImageNetInfo(subset), label_type), range(classes))]


def _described(names: Sequence[str], descriptions: dict | None, label_type: str) -> list[str]:
    try:
        info = CustomDatasetInfo(list(names), descriptions)
    except (TypeError, ValueError):  # descriptions that others wrote, and that lack some names
        return list(names)
    return [*map(DatasetInfoLabelMapper(info, label_type), range(len(names)))]


def _of_wordnet(names: Sequence[str], label_type: str) -> list[str]:
    """Return the words for WordNet's names, as of class folders of ImageNet; a name that is not there stays."""
    info, texts = ImageNetInfo('imagenet-22k'), []
    for name in names:
        try:
            texts.append(info.label_name_to_description(name, detailed=label_type in ('detail', 'detailed')))
        except KeyError:
            texts.append(name)
    return texts


def _mapped(path: str, classes: int) -> tuple[str, ...]:
    names = read_titles(path)
    if len(names) > classes:
        raise ValueError(f'--class-map {path} names {len(names)} classes, and the network has {classes}')
    return names
