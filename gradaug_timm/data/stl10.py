"""STL-10, which timm does not support: 5,000 labelled training images and 8,000 for validation, of 96 pixels."""
from torchvision.datasets import STL10

STL10_NAME = 'gradaug/stl10'
TRAIN = ('train', 'training')


class Stl10(STL10):
    """Labelled images of a split of STL-10.

    Args:
        root: The folder that contains stl10_binary.
        split: 'train', or any other name for the test images.
        download: Download missing files.

    Raises:
        RuntimeError: Files are missing.
    """

    def __init__(self, root: str, split: str, *, download: bool = False):
        super().__init__(root, split='train' if split in TRAIN else 'test', download=download)

    @property
    def targets(self) -> list[int]:
        """Return the label of each image."""
        return self.labels.tolist()
