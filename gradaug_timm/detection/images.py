"""Images of an annotation file: their files, and their sizes by the annotations and by the files."""
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageOps

from ..cli import one_line
from ..data.images import in_mode
from .findings import Findings
from .values import LARGEST, key_of, whole

FOLDERS = ('{}', 'images/{}', '{}/images', 'images', '', 'data', 'JPEGImages')  # of a split, within the data set
ORIENTATION = 0x112  # EXIF
EXIF = {'exif', 'Raw profile type exif', 'xmp', 'XML:com.adobe.xmp'}  # where Pillow keeps it
TURNED = (5, 6, 7, 8)  # orientations that swap height and width
HEADERS = 5000  # files of a split whose sizes are compared before training


@dataclass(slots=True)
class ImageEntry:
    """An image of an annotation file.

    Args:
        key: Its id in the file, a number or text.
        name: Its name in the file.
        width: Its width in pixels; 0 if it is unknown.
        height: Its height in pixels; 0 if it is unknown.
        url: Its `coco_url`; empty if it has none.
        path: The file; empty if it is not known.
        usable: Whether it can be used; False if its size is not that of the annotations.
    """

    key: Any
    name: str
    width: int
    height: int
    url: str = ''
    path: str = ''
    usable: bool = True


def read_images(entries: list[dict], findings: Findings) -> tuple[list[ImageEntry], dict[int | str, int]]:
    """Return the images that a file lists, and the place of each image by its id.

    Raises:
        ValueError: An image has no id or name, or several have the same id.
    """
    path, images, places = findings.path, [], {}
    for number, entry in enumerate(entries):
        url, key = str(entry.get('coco_url') or ''), key_of(entry.get('id'))
        name = str(entry.get('file_name') or _in_url(url))
        if not name:
            raise ValueError(f'{path}: image {entry.get("id", number)} has no file_name')
        if key is None:
            raise ValueError(f'{path}: image {name} has no id')
        if key in places:
            if images[places[key]].name != name:
                raise ValueError(f'{path} has image {key} twice: {images[places[key]].name} and {name}')
            findings.add('repeated_images', f'image {key}')
            continue
        if type(entry['id']) is not int:
            findings.add('converted_ids', f'image {entry["id"]!r}')
        if entry.get('not_exhaustive_category_ids'):
            findings.add('not_exhaustive', f'image {key}')
        places[key] = len(images)
        width, height = (min(max(0, whole(entry.get(side)) or 0), LARGEST) for side in ('width', 'height'))
        images.append(ImageEntry(entry['id'], name, width, height, url))
    return images, places


def _in_url(url: str) -> str:
    """Return folder and name of an image by its `coco_url`, which LVIS has in place of `file_name`."""
    return '/'.join(urlsplit(url).path.split('/')[-2:])


def find_files(images: Sequence[ImageEntry], root: str, split: str, annotations: str) -> None:
    """Find the file of each image.

    Args:
        images: The images; their paths are filled in.
        root: The folder of the data set.
        split: The split.
        annotations: The path of the file of annotations.

    Raises:
        ValueError: Files are missing.
    """
    missing = list(missing_files(images, root, split, annotations))
    if missing:
        raise ValueError(f'{os.path.join(root, split)}: {len(missing)} of {len(images)} images that {annotations} '
                         f'lists are missing, the first is {missing[0]}')


def missing_files(images: Sequence[ImageEntry], root: str, split: str, annotations: str) -> Iterator[str]:
    """Fill in the path of each image, and yield the names of those without a file."""
    folders = dict.fromkeys([*(os.path.join(root, form.format(split)) for form in FOLDERS),
                             os.path.dirname(annotations)])
    is_folder = cache(os.path.isdir)
    for image in images:
        paths = (os.path.join(folder, name) for name in _spellings(image) for folder in folders)
        image.path = next((path for path in paths if is_folder(os.path.dirname(path)) and os.path.isfile(path)), '')
        if not image.path:
            yield image.name


def _spellings(image: ImageEntry) -> Iterator[str]:
    """Yield the names that the file of an image may have: as it is, then with fewer and fewer of its outer folders.

    Each comes with other separators, without escapes of URLs, and as in the image's URL; the last one is without the
    prefix of COCO 2014.
    """
    yield image.name
    plain = image.name.replace('\\', '/')
    forms = [each.split('/') for each in (plain, unquote(plain), _in_url(image.url)) if each]
    for length in range(max(map(len, forms)), 0, -1):
        yield from dict.fromkeys('/'.join(each[-length:]) for each in forms)
    base = forms[0][-1]
    if base.startswith('COCO_'):
        yield base.rpartition('_')[2]


def check_shared_files(images: Sequence[ImageEntry], findings: Findings) -> None:
    """Note images that are listed under several ids.

    Raises:
        ValueError: Images of different names have the same file, since it was found by the last part of their names.
    """
    owners: dict[str, ImageEntry] = {}
    for image in images:
        other = owners.setdefault(image.path, image) if image.path else image
        if other.name != image.name:
            raise ValueError(f'{findings.path}: {other.name} and {image.name} are both found as {image.path}; keep the '
                             'folders in which the images were')
        if other is not image:
            findings.add('repeated_files', image.name)


def fill_sizes(images: Sequence[ImageEntry], findings: Findings) -> None:
    """Read the sizes that the annotations lack from the files; an image that can't be read remains without."""
    for image in images:
        if not (image.width and image.height) and image.path:
            try:
                width, height, orientation = stored_size(image.path)
            except Exception:  # image libraries raise anything on a broken file
                continue
            image.width, image.height = (height, width) if orientation in TURNED else (width, height)
            findings.add('sizes_read', image.name)


def compare_sizes(images: Sequence[ImageEntry], findings: Findings, limit: int | None = HEADERS) -> None:
    """Compare the sizes by the annotations with those of the files.

    Args:
        images: The images, with paths; those of other sizes become unusable.
        findings: Where to note them.
        limit: The number of files that are read, evenly spread over the images; None: all.

    Raises:
        ValueError: Most of the images have other sizes, or none can be read.
    """
    compared, swapped, mismatches, unreadable = 0, 0, [], ''
    for image in images[::step_of(len(images), limit)]:
        if not image.path:
            continue
        try:
            stored = stored_size(image.path)
        except Exception as error:  # image libraries raise anything on a broken file
            unreadable = unreadable or f'{image.name} ({one_line(error, kind=True)})'
            continue
        compared += 1
        kind = _rotation(stored, (image.width, image.height))
        if kind is None:
            image.usable = False
            swapped += stored[:2] == (image.height, image.width)
            mismatches.append(image.name)
            findings.add('size_mismatches', image.name, _mismatch(stored, (image.width, image.height)))
        elif kind:
            findings.add(kind, image.name)
    if unreadable and not compared:
        raise ValueError(f'{findings.path}: none of its images can be read, the first is {unreadable}')
    if 2 * len(mismatches) > compared:
        advice = 'height and width are swapped; correct them' if swapped == len(mismatches) else (
            'resize the images, or correct height and width')
        raise ValueError(f'{findings.path}: {len(mismatches)} of {compared} images have another size than their '
                         f'annotations say, the first is {mismatches[0]}; {advice} (without them, they are read from '
                         'the files)')


def step_of(images: int, limit: int | None) -> int:
    """Return the step between images of which at most `limit` are looked at, evenly spaced; None: all."""
    return 1 if limit is None else max(1, -(-images // limit))


def stored_size(path: str) -> tuple[int, int, int]:
    """Return width, height and EXIF orientation of an image file from its header."""
    with Image.open(path) as image:
        return *image.size, _orientation(image)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image; 1 if it has none, or broken EXIF data."""
    if EXIF.isdisjoint(image.info):
        return 1
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises anything on broken data
        return 1


def _rotation(stored: tuple[int, int, int], size: tuple[int, int]) -> str | None:
    """Return the kind of finding that a file's size and rotation are, '' for none; None if the size is another."""
    width, height, orientation = stored
    turned = (height, width) if orientation in TURNED else (width, height)
    if 0 in size or (orientation in range(2, 9) and turned == size == (width, height)):
        return 'undecided_turns' if orientation in range(2, 9) else ''
    if turned == size:
        return 'turned_images' if orientation in TURNED else ''
    return '' if size == (width, height) else None


def _mismatch(stored: tuple[int, int, int], size: tuple[int, int]) -> str:
    turned = ', to be turned' if stored[2] in TURNED else ''
    return f'has {stored[0]} x {stored[1]} pixels{turned}, by its annotations {size[0]} x {size[1]}'


def open_image(entry: ImageEntry) -> Image.Image:
    """Return an image in RGB as its annotations see it: turned by its EXIF rotation unless they have the stored size.

    Raises:
        ValueError: The image has another size than the annotations say.
        Exception: Image libraries raise anything on a broken file.
    """
    with Image.open(entry.path) as file:
        file.load()
        orientation = _orientation(file)
        stored, size = (*file.size, orientation), (entry.width, entry.height)
        if _rotation(stored, size) is None:
            raise ValueError(_mismatch(stored, size))
        turned = file.size != size or orientation not in TURNED or file.width == file.height
        image = in_mode(file, 'RGB')
        image.info = file.info  # with the rotation, which images of 16 bits lose
        return ImageOps.exif_transpose(image) if orientation != 1 and turned else image
