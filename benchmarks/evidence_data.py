"""Image folders for the comparisons of docs/results.md, from CIFAR-100 or 20 classes of Tiny ImageNet.

python -m benchmarks.evidence_data DATA OUTPUT
"""
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from PIL import Image
from torchvision.datasets import CIFAR100
from torchvision.transforms import functional

from gradaug_timm.cli import StrictParser, ranged

CIFAR_CLASSES = range(50, 60)  # by their numbers; settings were chosen on classes 0 to 49
TINY_CLASSES = range(10, 20)  # by the order of their names; settings were chosen on classes 0 to 9
TRAINING_IMAGES = 200  # of a class, from which --labels-per-class draws; others are for validation


def main(argv: list[str] | None = None) -> None:
    """Write OUTPUT/train/CLASS and OUTPUT/validation/CLASS.

    Raises:
        SystemExit: The data set cannot be read.
    """
    parser = StrictParser(prog='python -m benchmarks.evidence_data', description=(__doc__ or '').splitlines()[0])
    positive = ranged(int, minimum=1)
    parser.add_argument('data', help='folder of cifar-100-python, or a zip file with folders of images in train/')
    parser.add_argument('output', help='folder to write')
    parser.add_argument('--size', type=positive, default=32, help='height and width of the images (default: 32)')
    parser.add_argument('--validation', type=positive, default=400, help='validation images of a class (default: 400)')
    args = parser.parse_args(argv)
    images = tiny_images(args.data) if args.data.endswith('.zip') else cifar_images(args.data)
    seen: dict[str, int] = {}
    try:
        for image, name in images:
            number = seen[name] = seen.get(name, -1) + 1
            if number < TRAINING_IMAGES + args.validation:
                split = 'train' if number < TRAINING_IMAGES else 'validation'
                folder = os.path.join(args.output, split, name)
                os.makedirs(folder, exist_ok=True)
                functional.resize(image, [args.size], antialias=True).save(os.path.join(folder, f'{number:03}.png'))
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        parser.error(f'{args.data}: {error}')


def cifar_images(folder: str) -> Iterator[tuple[Image.Image, str]]:
    """Yield the images of CIFAR_CLASSES, first the training images, and the names of their classes."""
    for train in (True, False):
        images = CIFAR100(folder, train=train)
        yield from ((image, images.classes[label]) for image, label in images if label in CIFAR_CLASSES)


def tiny_images(path: str) -> Iterator[tuple[Image.Image, str]]:
    """Yield the training images of TINY_CLASSES in a zip file with folders .../train/CLASS, and their classes."""
    with zipfile.ZipFile(path) as archive:
        files = [each for each in map(PurePosixPath, sorted(archive.namelist()))
                 if each.suffix and each.parent.parent.name == 'train']
        classes = sorted({each.parent.name for each in files})
        wanted = {classes[index] for index in TINY_CLASSES}
        for each in files:
            if each.parent.name in wanted:
                yield Image.open(io.BytesIO(archive.read(str(each)))).convert('RGB'), each.parent.name


if __name__ == '__main__':
    main()
