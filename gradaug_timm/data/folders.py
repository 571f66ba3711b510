"""Image folders: which files are images, and which folders are ignored."""
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from PIL import Image
from timm.data import ImageDataset, get_img_extensions, set_img_extensions
from torchvision.datasets import ImageFolder

from ..upstream import ReaderImageFolder, keep_samples
from .class_names import listed
from .findings import counted

TIMM_EXTENSIONS = ('.png', '.jpg', '.jpeg')  # what timm reads unless it is told otherwise
EXTENSIONS = (  # those that Pillow reads as photos or scans; some need a library or a plugin
    *TIMM_EXTENSIONS, '.jpe', '.jfif', '.bmp', '.dib', '.gif', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.pbm', '.pnm',
    '.tga', '.jp2', '.j2k', '.mpo', '.avif', '.heic', '.heif', '.jxl')
SYSTEM_FOLDERS = frozenset((  # of archives and file systems, which may hold copies of images
    '__macosx', '@eadir', '#recycle', '$recycle.bin', 'system volume information', 'lost+found', '__pycache__'))
SYSTEM_FILES = frozenset(('thumbs.db', 'ehthumbs.db', 'desktop.ini', 'icon\r'))


class VisibleImageFolder(ImageFolder):
    """torchvision's image folder without hidden files and folders, for all kinds of images in `image_extensions`."""

    def __init__(self, root: str, *, class_map: Mapping[str, int] | None = None, **kwargs):
        self.class_map = class_map
        super().__init__(root, is_valid_file=partial(is_visible_image, root, image_extensions()), **kwargs)

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """Return the visible class folders, and the label of each."""
        names = [name for name in super().find_classes(directory)[0] if not is_ignored(name)]
        if not self.class_map:
            return names, {name: label for label, name in enumerate(names)}
        if not {*names} & {*self.class_map}:
            raise FileNotFoundError(f'{directory} has none of the classes of --class-map ({listed(self.class_map, 3)})')
        return [*self.class_map], dict(self.class_map)


def image_extensions() -> tuple[str, ...]:
    """Return the extensions of the files that are read as images: those that Pillow supports as it is installed.

    If the extensions of timm were changed with `timm.data.set_img_extensions` or `add_img_extensions`, these are
    returned.
    """
    if get_img_extensions() != TIMM_EXTENSIONS:
        return get_img_extensions()
    readable = Image.registered_extensions()
    return tuple(each for each in EXTENSIONS if readable.get(each) in Image.OPEN)


@contextmanager
def more_extensions(extensions: Iterable[str] = ()) -> Iterator[None]:
    """Let timm's readers read files with the extensions, by default `image_extensions()`, within the context."""
    before = get_img_extensions()
    set_img_extensions(tuple(extensions) or image_extensions())
    try:
        yield
    finally:
        set_img_extensions(before)


def is_ignored(name: str) -> bool:
    """Return whether a file or folder is never data: its name is hidden, or one that systems and archives make."""
    return (name.startswith('.') and name not in ('.', '..')) or name.lower() in SYSTEM_FOLDERS | SYSTEM_FILES


def is_visible(root: str, path: str) -> bool:
    """Return whether neither a file nor a folder between it and `root` is ignored."""
    return not any(map(is_ignored, path.removeprefix(root).replace(os.sep, '/').split('/')))


def is_image(path: str, extensions: Iterable[str] | None = None) -> bool:
    """Return whether a file has one of the extensions of images, in lower or upper case."""
    return os.path.splitext(path)[1].lower() in (image_extensions() if extensions is None else extensions)


def is_visible_image(root: str, extensions: Iterable[str], path: str) -> bool:
    """Return whether a file below `root` is an image that is not ignored."""
    return is_image(path, extensions) and is_visible(root, path)


def visible_files(root: str) -> Iterator[str]:
    """Yield the paths of all files below a folder, sorted folder by folder, without the ignored ones."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_ignored(name))
        yield from (os.path.join(folder, name) for name in sorted(names) if not is_ignored(name))


def open_folder(
        root: str,
        *,
        class_map: Mapping[str, int] | None = None,
        extensions: Iterable[str] = (),
        **kwargs,
) -> ImageDataset:
    """Return the images below a folder as timm reads them: the class of an image is the name of its own folder.

    Ignored files and folders, and images outside of class folders, are left out.

    Args:
        root: The folder of the class folders.
        class_map: The label of each class; images of other classes are left out.
        extensions: Extensions of the files that are read, such as '.bmp'; none: all of `image_extensions()`.
        **kwargs: More arguments of timm's ImageDataset.

    Raises:
        ValueError: No images were found.
    """
    with more_extensions(extensions):
        read = get_img_extensions()
        try:
            reader = ReaderImageFolder(root, class_map=class_map or '')
        except RuntimeError as error:
            raise ValueError(_no_images(root, read, class_map)) from error
    seen = [is_visible(root, path) and (bool(class_map) or os.path.dirname(path) != root.rstrip(os.sep))
            for path, _ in reader.samples]
    if not any(seen):
        raise ValueError(_no_images(root, read, class_map))
    if not all(seen):
        keep_samples(reader, seen, renumber=not class_map)
    return ImageDataset(root, reader=reader, **kwargs)


def kinds_of(paths: Iterable[str]) -> Counter:
    """Return how many files have each extension, in lower case."""
    return Counter(os.path.splitext(path)[1].lower() or 'without extension' for path in paths)


def _no_images(root: str, read: Iterable[str], class_map: Mapping[str, int] | None) -> str:
    found = counted(kinds_of(visible_files(root)).items())
    mapped = f' of the classes of --class-map ({listed(class_map, 3)})' if class_map else ''
    return f'{root} has no images in class folders{mapped}: {", ".join(read)} are read, found {found or "no files"}'
