"""Image transforms of the paper's recipes that timm does not have."""
import numpy as np
import torch
from PIL import Image
from timm.data import MaybePILToTensor, MaybeToTensor, RandomResizedCropAndInterpolation
from torchvision import transforms

# principal components of ImageNet's RGB pixels in 0..1 (Krizhevsky et al., 2012)
PCA_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
PCA_EIGENVECTORS = np.array([
    [-0.5675, 0.7192, 0.4009],
    [-0.5808, -0.0045, -0.8140],
    [-0.5836, -0.6948, 0.4203],
])


class PadCrop(transforms.Compose):
    """Random crop of a padded image.

    Args:
        size: Height and width of the crop; an image of another size is first resized to this size.
        padding: Pixels added on each side.
        padding_mode: `reflect`, or `constant` for zeros.
    """

    def __init__(self, size: tuple[int, int], padding: int, padding_mode: str = 'reflect'):
        super().__init__([
            transforms.Resize(size),
            transforms.RandomCrop(size, padding=padding, padding_mode=padding_mode),
        ])


class PCALighting:
    """Random noise along the principal components of ImageNet's colours, added to an RGB image.

    Args:
        std: Standard deviation of the factors of the components; AlexNet uses 0.1.
    """

    def __init__(self, std: float):
        self.std = std

    def __call__(self, image: Image.Image) -> Image.Image:
        factors = torch.randn(3).numpy() * self.std
        pixels = np.asarray(image, dtype=np.float32) / 255 + lighting_shift(factors)
        return Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))

    def __repr__(self) -> str:
        return f'PCALighting(std={self.std})'


def lighting_shift(factors: np.ndarray) -> np.ndarray:
    """Return the values that PCA lighting with these factors adds to each channel of pixels in 0..1."""
    return (PCA_EIGENVECTORS @ (factors * PCA_EIGENVALUES)).astype(np.float32)


def insert_augmentations(
        pipeline: transforms.Compose,
        *,
        size: tuple[int, int],
        reflect_pad: int = 0,
        zero_pad: int = 0,
        pca_lighting: float = 0.,
) -> transforms.Compose:
    """Return timm's training pipeline with a padded crop instead of the resized crop, and with PCA lighting.

    Args:
        pipeline: The pipeline of timm.
        size: Height and width of the crop.
        reflect_pad: Pixels of reflected padding; 0 for none.
        zero_pad: Pixels of zero padding; 0 for none.
        pca_lighting: Standard deviation of PCA lighting, which is applied after colour transforms; 0 for none.
    """
    steps = list(pipeline.transforms)
    if reflect_pad or zero_pad:
        crop = PadCrop(size, reflect_pad or zero_pad, 'reflect' if reflect_pad else 'constant')
        steps = [crop if isinstance(step, RandomResizedCropAndInterpolation) else step for step in steps]
    if pca_lighting:
        end = next(i for i, step in enumerate(steps) if isinstance(step, (MaybePILToTensor, MaybeToTensor)))
        steps.insert(end, PCALighting(pca_lighting))
    return transforms.Compose(steps)
