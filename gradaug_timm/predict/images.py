"""The images to predict: files of any layout, or a data set of timm."""
import logging
import os
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image
from timm.utils import natural_key
from torch.utils.data import Dataset, IterableDataset

from ..cli import one_line
from ..data.factory import is_folder, split_folder
from ..data.findings import counted
from ..data.folders import image_extensions, is_image, is_visible, kinds_of, more_extensions, visible_files
from ..data.guarded import ReadingError
from ..data.image_sets import Images
from ..data.modes import input_mode
from ..data.tars import UNREADABLE, is_tar
from ..evaluation.loading import open_split
from ..evaluation.settings import EvaluationSettings
from ..upstream import ReaderImageInTar, keep_samples, sort_tar_samples

_logger = logging.getLogger(__name__)

READABLE, UNREADABLE_IMAGE = 0, -1  # targets of `Marked`


class Files:
    """A reader of files, for timm's ImageDataset.

    Args:
        root: The folder that file names are relative to.
        paths: The files.
    """

    def __init__(self, root: str, paths: Sequence[str]):
        self.root, self.paths = root, list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return open(self.paths[index], 'rb'), READABLE

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Return the name of a file."""
        path = self.paths[index]
        return os.path.basename(path) if basename else path if absolute else os.path.relpath(path, self.root)


class Marked(Dataset):
    """Data set whose targets say whether an image could be read; an unreadable one is black.

    Args:
        dataset: A data set of images by number.
        mode: PIL mode of the images.
    """

    def __init__(self, dataset: Any, mode: str):
        self.dataset, self.mode = dataset, mode

    @property
    def transform(self):
        return self.dataset.transform

    @transform.setter
    def transform(self, transform):
        self.dataset.transform = transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        try:
            return self.dataset[index][0], READABLE
        except ReadingError:  # of the transform
            raise
        except Exception:  # image libraries raise anything on a broken file
            return self.transform(Image.new(self.mode, (64, 64))), UNREADABLE_IMAGE

    def problem(self, index: int) -> str:
        """Return why an image could not be read."""
        try:
            self.dataset[index]
        except Exception as error:  # as above
            return one_line(error, 200, kind=True)
        return 'it could not be read the first time'


def open_images(args: EvaluationSettings, config: dict, *, num_classes: int) -> tuple[Any, str]:
    """Open the images that the settings name.

    Args:
        args: The settings; a data folder may be a folder of images of any depth, a tar file or an image.
        config: How the network sees images.
        num_classes: Number of classes.

    Returns:
        The data set, and the PIL mode of its images.

    Raises:
        ValueError: There are no images.
    """
    root = args.data or args.data_dir
    mode = input_mode(args.input_img_mode, config['input_size'][0])
    if args.dataset.startswith('hfds/'):  # labels are not used, and may be missing
        args = replace(args, target_key=args.input_key or 'image')
    if not is_folder(args.dataset) or '[' in args.split or (root and os.path.isdir(root) and is_tar(root)):
        dataset = open_split(args, args.split, config, num_classes=num_classes)
    elif not root or not os.path.exists(root):
        raise ValueError(f'--data-dir {root or ""} does not exist; name a folder of images, a tar file or an image')
    elif os.path.isdir(root):
        dataset = _open_folder(root, split_folder(root, args.split) or root, mode)
    elif root.endswith('.tar'):
        dataset = _open_tar(root, mode)
    else:
        dataset = Images(root, reader=Files(os.path.dirname(root), [root]), input_img_mode=mode)
    return (dataset if isinstance(dataset, IterableDataset) else Marked(dataset, mode)), mode


def names_of(dataset: Any, *, full: bool) -> list[str]:
    """Return a name for each image: of its file, or numbers if images have no file of their own.

    Args:
        dataset: The data set.
        full: Whether names are paths below the folder of the data set.
    """
    source = dataset.dataset if isinstance(dataset, Marked) else dataset
    numbers = [f'{index:08d}' for index in range(len(source))]
    try:
        names = [source.filename(index, basename=not full) for index in range(len(source))]
    except (AssertionError, AttributeError, KeyError, NotImplementedError, TypeError):
        return numbers
    if not all(names):  # rows of a table without paths
        return numbers
    if len({*names}) == len(names):
        return names
    _logger.warning(f'Several images have the same {"path" if full else "file name"}, so '
                    f'{"numbers" if full else "paths"} are written.')
    return numbers if full else names_of(dataset, full=True)


def _open_folder(root: str, folder: str, mode: str) -> Images:
    extensions = image_extensions()
    paths = [path for path in visible_files(folder) if is_image(path, extensions)]
    if not paths:
        found = counted(kinds_of(visible_files(folder)).items())
        raise ValueError(f'{folder} has no images: {", ".join(extensions)} are read, found {found or "no files"}')
    if folder != root:
        _logger.info(f'The images of {folder} are read; other folders of {root} are not (--split NAME).')
    return Images(root, reader=Files(folder, sorted(paths, key=natural_key)), input_img_mode=mode)


def _open_tar(path: str, mode: str) -> Images:
    try:
        with more_extensions():
            reader = ReaderImageInTar(path, cache_tarinfo=False)
    except (tarfile.TarError, *UNREADABLE) as error:
        raise ValueError(f'--data-dir {path} has no images that can be read: {one_line(error, None)}') from error
    seen = [is_visible('', image.path) for image, _, _ in reader.samples]
    if not any(seen):
        raise ValueError(f'--data-dir {path} has no images but hidden ones')
    if not all(seen):
        keep_samples(reader, seen, renumber=True)
    sort_tar_samples(reader)
    return Images(path, reader=reader, input_img_mode=mode)
