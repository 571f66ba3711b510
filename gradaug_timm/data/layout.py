"""The layout of image folders and tar files: folders that are no classes, files that are not read."""
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from torch.utils.data import Dataset
from torchvision.datasets import DatasetFolder

from ..upstream import ReaderImageInTar, image_places, reader_of
from .class_names import listed
from .findings import Finding, Level, counted
from .folders import is_ignored, is_image, kinds_of, visible_files

OUTERMOST = 'torch/image_folder'  # the data set whose classes are the outermost folders


def image_paths(dataset: Dataset) -> tuple[str, list[str], bool] | None:
    """Return where a data set's images are: a folder or tar file, and each image's path in it.

    Args:
        dataset: The data set.

    Returns:
        The folder or tar file, the paths, and whether classes are the innermost folders; None if the images have no
        paths.
    """
    places = image_places(reader_of(dataset))
    if places is not None:
        return (*places, True)
    if isinstance(dataset, DatasetFolder):
        root = os.path.join(dataset.root, '')
        return str(dataset.root), [path.removeprefix(root) for path, _ in dataset.samples], False
    return None


def layout_findings(dataset: Dataset, *, mapped: bool = False, lacking: bool = False) -> Iterator[Finding]:
    """Yield what is unusual about the folders of a data set; nothing for data sets without folders.

    Args:
        dataset: The data set.
        mapped: Whether a class map says which folders are classes.
        lacking: Whether class folders may be empty, because labels will follow the names of other data.
    """
    found = image_paths(dataset)
    if found is None:
        return
    root, paths, innermost = found
    if not mapped and innermost:
        yield from merged_classes(root, sorted({os.path.dirname(path) for path in paths}))
    if _is_packed(dataset):
        return
    if not mapped:
        yield from empty_folders(root, paths, lacking=lacking)
    yield from unread_files(root, paths, mapped=mapped)


def merged_classes(root: str, folders: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding if several folders are one class, and if a class is inside of another.

    Args:
        root: The folder of the class folders.
        folders: All folders that contain images, relative to `root`.
    """
    by_name = defaultdict(list)
    for folder in folders:
        by_name[os.path.basename(folder)].append(folder)
    merged = {name: same for name, same in by_name.items() if len(same) > 1}
    if merged:
        name, same = next(iter(merged.items()))
        advice = 'if the outermost folders are the classes, '
        advice += f'use --dataset {OUTERMOST}' if os.path.isdir(root) else 'pack the images without the inner folders'
        if len(by_name) == 1:
            yield Finding(
                Level.ERROR, 'one_class', f'{root} has one class, {name!r}, because classes are the innermost folders: '
                f'{listed(same, 3)}; {advice}, or move the images up', tuple(same))
        else:
            yield Finding(
                Level.WARNING, 'merged_folders', f'{root}: classes are the innermost folders, and {len(merged)} of '
                f'{len(by_name)} classes are in several folders, such as {name!r} in {listed(same, 3)}; {advice}',
                tuple(folder for each in merged.values() for folder in each))
    inside = [folder for folder in folders if _has_images_above(folder, {*folders})]
    if inside:
        yield Finding(
            Level.WARNING, 'nested_classes', f'{root}: folders inside of class folders are classes of their own: '
            f'{listed(inside, 3)}; if they are not, move their images up or use --dataset {OUTERMOST}', tuple(inside))


def empty_folders(root: str, paths: Sequence[str], *, lacking: bool = False) -> Iterator[Finding]:
    """Yield an error if a class folder has no images; timm would skip the folder and renumber the other classes.

    Args:
        root: The folder of the class folders.
        paths: The images, relative to `root`.
        lacking: Whether this is a warning only.
    """
    filled = {path.split(os.sep)[0] for path in paths}
    empty = sorted(entry.name for entry in os.scandir(root)
                   if entry.is_dir() and not is_ignored(entry.name) and entry.name not in filled)
    if empty:
        kinds = counted(kinds_of(path for name in empty for path in visible_files(os.path.join(root, name))).items())
        unread = f' that are read (they have {kinds})' if kinds else ''
        yield Finding(
            Level.WARNING if lacking else Level.ERROR, 'empty_class_folders',
            f'{root} has class folders without images{unread}: {listed(empty)}; '
            f'{"labels follow the names of the others" if lacking else "fill or delete them"}', tuple(empty))


def unread_files(root: str, paths: Sequence[str], *, mapped: bool = False) -> Iterator[Finding]:
    """Yield how many files below a folder are not read, and how many images are outside of class folders.

    Args:
        root: The folder of the class folders.
        paths: The images that are read, relative to `root`.
        mapped: Whether a class map says which folders are classes.
    """
    dangling = sorted(entry.name for entry in os.scandir(root) if entry.is_symlink() and not os.path.exists(entry.path))
    if dangling:
        yield Finding(
            Level.ERROR, 'broken_links', f'{root} has links to folders or files that do not exist: {listed(dangling)}',
            tuple(dangling))
    others = [path for path in _others(root, paths) if path not in dangling]
    outside = {path for path in others if not os.path.dirname(path) and is_image(path)}
    if outside:
        yield Finding(
            Level.WARNING, 'images_outside', f'{root}: images outside of class folders are not read: '
            f'{listed(sorted(outside))}', tuple(sorted(outside)))
    unnamed = {os.path.dirname(path) for path in others if path not in outside and is_image(path)} if mapped else ()
    if unnamed:
        yield Finding(
            Level.WARNING, 'unmapped_folders', f'{root}: folders of images that --class-map does not name are left '
            f'out: {listed(sorted(unnamed))}', tuple(sorted(unnamed)))
    others = [path for path in others if path not in outside and not (mapped and is_image(path))]
    if others:
        yield Finding(
            Level.WARNING, 'unread_files', f'{root}: files that are not read: {counted(kinds_of(others).items())} '
            f'(such as {others[0]})', tuple(others))


def unread_kinds(dataset: Dataset) -> Counter[str]:
    """Return how many files of each extension in the folder of a data set are not read."""
    found = image_paths(dataset)
    return Counter() if found is None or _is_packed(dataset) else kinds_of(_others(*found[:2]))


def _is_packed(dataset: Dataset) -> bool:
    return isinstance(reader_of(dataset), ReaderImageInTar)


def _others(root: str, paths: Sequence[str]) -> list[str]:
    """Return the visible files below a folder that are not read."""
    read = {*paths}
    return [path for path in (os.path.relpath(path, root) for path in visible_files(root)) if path not in read]


def _has_images_above(folder: str, folders: set[str]) -> bool:
    parent = os.path.dirname(folder)
    return bool(parent) and (parent in folders or _has_images_above(parent, folders))
