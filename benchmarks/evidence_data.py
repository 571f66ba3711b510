"""Image folders for the comparisons of docs/results.md, from CIFAR-100.

python -m benchmarks.evidence_data DATA OUTPUT
"""
import os

from torchvision.datasets import CIFAR100
from torchvision.transforms import functional

from gradaug_timm.cli import StrictParser, ranged

CLASSES = range(50, 60)  # by their numbers; settings were chosen on classes 0 to 49
TRAINING_IMAGES = 200  # of a class, from which --labels-per-class draws; others are for validation


def main(argv: list[str] | None = None) -> None:
    """Write OUTPUT/train/CLASS and OUTPUT/validation/CLASS.

    Raises:
        SystemExit: The data set cannot be read.
    """
    parser = StrictParser(prog='python -m benchmarks.evidence_data', description=(__doc__ or '').splitlines()[0])
    positive = ranged(int, minimum=1)
    parser.add_argument('data', help='folder that contains cifar-100-python')
    parser.add_argument('output', help='folder to write')
    parser.add_argument('--size', type=positive, default=32, help='height and width of the images (default: 32)')
    parser.add_argument('--validation', type=positive, default=400, help='validation images of a class (default: 400)')
    args = parser.parse_args(argv)
    try:
        sets = [CIFAR100(args.data, train=train) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        parser.error(f'{args.data}: {error}')
    seen = dict.fromkeys(CLASSES, 0)
    for images in sets:
        for image, label in images:
            if label in seen and seen[label] < TRAINING_IMAGES + args.validation:
                split = 'train' if seen[label] < TRAINING_IMAGES else 'validation'
                folder = os.path.join(args.output, split, images.classes[label])
                os.makedirs(folder, exist_ok=True)
                functional.resize(image, [args.size], antialias=True).save(
                    os.path.join(folder, f'{seen[label]:03}.png'))
                seen[label] += 1


if __name__ == '__main__':
    main()
