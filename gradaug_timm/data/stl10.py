"""STL-10 by torchvision, which timm has no name for: 5,000 labelled images and 8,000 for validation, 96 pixels."""
from torchvision.datasets import STL10

STL10_NAME = 'gradaug/stl10'
TRAIN = ('train', 'training')


class Stl10(STL10):
    """The labelled images of a split.

    Args:
        root: The folder that holds stl10_binary.
        split: 'train', or any other name for the test images.
        download: Fetch what is missing.

    Raises:
        RuntimeError: The files aren't there.
    """

    def __init__(self, root: str, split: str, *, download: bool = False):
        super().__init__(root, split='train' if split in TRAIN else 'test', download=download)

    @property
    def targets(self) -> list[int]:
        """The label of each image."""
        return self.labels.tolist()
