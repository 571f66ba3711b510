"""Images of an annotation file: their files, and their sizes by the annotations and by the files."""
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageOps

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
        path: The file; empty if it is not known.
        usable: Whether it can be used; False if its size is not that of the annotations.
    """

    key: Any
    name: str
    width: int
    height: int
    path: str = ''
    usable: bool = True


def read_images(content: dict, findings: Findings) -> tuple[list[ImageEntry], dict[int | str, int]]:
    """Return the images of a file, and the place of each image by its id.

    Raises:
        ValueError: An image has no id or name, or several have the same id.
    """
    path, images, places = findings.path, [], {}
    for number, entry in enumerate(content['images']):
        name, key = _name(entry), key_of(entry.get('id'))
        if name is None:
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
        images.append(ImageEntry(entry['id'], name, width, height))
    return images, places


def _name(entry: dict) -> str | None:
    name = entry.get('file_name')
    if isinstance(name, str) and name:
        return name
    url = entry.get('coco_url')  # LVIS
    return '/'.join(urlsplit(url).path.split('/')[-2:]) if isinstance(url, str) and url else None


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
    folders = [*dict.fromkeys([*(os.path.join(root, form.format(split)) for form in FOLDERS),
                               os.path.dirname(annotations)])]
    last = (0, folders[0])  # where the previous image was found
    for image in images:
        names = _spellings(image.name)
        for place, folder in chain([last], product(range(len(names)), folders)):
            path = os.path.join(folder, names[min(place, len(names) - 1)])
            if os.path.isfile(path):
                image.path, last = path, (place, folder)
                break
        else:
            yield image.name


def _spellings(name: str) -> list[str]:
    """Return a name as it is, with other separators, without escapes of URLs, folders, and the prefix of COCO 2014."""
    plain = name.replace('\\', '/')
    base = os.path.basename(unquote(plain))
    return [*dict.fromkeys([name, plain, unquote(plain), os.path.basename(plain), base,
                            base.rpartition('_')[2] if base.startswith('COCO_') else base])]


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


def compare_sizes(images: Sequence[ImageEntry], findings: Findings, limit: int | None = HEADERS) -> list[str]:
    """Compare the sizes by the annotations with those of the files.

    Args:
        images: The images, with paths; those of other sizes become unusable.
        findings: Where to note them.
        limit: The number of files that are read, evenly spread over the images; None: all.

    Returns:
        The names of files that can't be read, with the reason.

    Raises:
        ValueError: Most of the images have other sizes, or none can be read.
    """
    step = step_of(len(images), limit)
    compared, swapped, mismatches, unreadable = 0, 0, [], []
    for image in images[::step]:
        if not image.path:
            continue
        try:
            stored = stored_size(image.path)
        except Exception as error:  # image libraries raise anything on a broken file
            unreadable.append(f'{image.name} ({type(error).__name__}: {error})')
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
        raise ValueError(f'{findings.path}: none of its images can be read, the first is {unreadable[0]}')
    if 2 * len(mismatches) > compared:
        advice = 'height and width are swapped; correct them' if swapped == len(mismatches) else (
            'resize the images, or correct height and width')
        raise ValueError(f'{findings.path}: {len(mismatches)} of {compared} images have another size than their '
                         f'annotations say, the first is {mismatches[0]}; {advice} (without them, they are read from '
                         'the files)')
    return unreadable


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
        return ImageOps.exif_transpose(image) if orientation != 1 and turned else image
