"""The corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), generated with its parameters."""
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from torchvision import transforms

from ..data.guarded import Guarded
from ..seeding import seed_cpu, seed_of

COMMON = (
    'gaussian_noise', 'shot_noise', 'impulse_noise', 'defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur', 'snow',
    'frost', 'fog', 'brightness', 'contrast', 'elastic_transform', 'pixelate', 'jpeg_compression',
)
EXTRA = ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels, which the corruptions need
TAKE_SEED = ('impulse_noise', 'glass_blur')  # the others use NumPy's global generator


def names_of(given: Sequence[str]) -> list[str]:
    """Return the corruptions that `all`, `extra` and names stand for, each once."""
    sets = {'all': COMMON, 'extra': EXTRA}
    return list(dict.fromkeys(name for each in given for name in sets.get(each, (each,))))


def corrupted(image: Image.Image, name: str, severity: int, seed: int) -> Image.Image:
    """Corrupt an image of at least 32 pixels a side; what is random follows from the seed.

    The mode stays. Corruptions act on colours; grey images get what happens to green, so that noise is as strong.

    Raises:
        ValueError: The image is smaller.
    """
    from imagecorruptions import corrupt
    if min(image.size) < SMALLEST:
        raise ValueError(f'--corruptions needs images of at least {SMALLEST} pixels a side, not {image.size}')
    seed_cpu(seed)
    options = {'seed': seed % 2 ** 32} if name in TAKE_SEED else {}
    pixels = np.asarray(image.convert('RGB'))
    return _like(image, corrupt(pixels, corruption_name=name, severity=severity, **options))


def _like(image: Image.Image, pixels: np.ndarray) -> Image.Image:
    """Return RGB pixels as an image of the mode of another, with its alpha."""
    bands = image.getbands()
    changed = Image.fromarray(pixels[..., 1] if bands[0] in ('L', '1') else pixels).convert(image.mode)
    if bands[-1] == 'A':
        changed.putalpha(image.getchannel('A'))
    return changed


class Corrupted(Dataset):
    """A data set whose images are corrupted after they are resized and cropped, as ImageNet-C's were.

    Corruptions need 32 pixels a side; where the network takes smaller images, they are corrupted first.

    Args:
        dataset: timm's data set; it has the transform of evaluation.
        name: The corruption.
        severity: From 1 to 5.
        seed: Seed of all that is random, together with the image's number: batches and workers do not matter.
        side: Pixels of the shorter side that the network takes.
    """

    def __init__(self, dataset: Dataset, name: str, severity: int, *, seed: int, side: int):
        self.dataset, self.name, self.severity, self.seed = dataset, name, severity, seed
        self._late = side >= SMALLEST
        self._steps: tuple[list, list] | None = None  # before the corruption, and after it

    @property
    def transform(self) -> Callable | None:
        """The transform of evaluation."""
        return None if self._steps is None else transforms.Compose([*self._steps[0], *self._steps[1]])

    @transform.setter
    def transform(self, transform: transforms.Compose):
        steps = transform.transforms
        kinds = [type(step).__module__ + type(step).__name__ for step in steps]
        tensors = next(index for index, kind in enumerate(kinds) if 'Tensor' in kind or 'Numpy' in kind)
        first = tensors if self._late else 0
        self._steps = steps[:first], steps[first:]
        self.dataset.transform = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        if self._steps is None:
            raise RuntimeError('set the transform before you read images')
        before, after = map(transforms.Compose, self._steps)
        image, target = self.dataset[index]
        seed = seed_of(self.seed, self.name, self.severity, index)

        def change(image: Image.Image):
            return after(corrupted(before(image), self.name, self.severity, seed))
        return Guarded(change)(image), target
