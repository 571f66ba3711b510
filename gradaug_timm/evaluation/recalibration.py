"""BatchNorm statistics of sub-networks, measured on training batches."""
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.utils.data import Dataset

from ..elastic import Subnet, activate, set_statistics
from ..elastic.swap import is_batch_norm
from ..seeding import generator
from ..upstream import AnyBatchNorm

_logger = logging.getLogger(__name__)

ALIKE = 7.  # standard deviations by which the spread of random batches may exceed its mean


def recalibrate(model: nn.Module, subnet: Subnet, batches: Iterable[torch.Tensor]) -> int:
    """Give a sub-network BatchNorm statistics of its own: mean and variance over all images, which weigh equally.

    Afterwards `activate` and `extract` use them for this `subnet` in evaluation mode. The full network keeps its
    running statistics. A network without BatchNorm stays as it is, and no batch is read.

    While they are measured, every layer normalises with the statistics of its batch. So batches must be drawn at random
    from all classes, as `random_batches` does; a warning says if they differ more than random batches do. A batch with
    less than half the images of the batch before it, such as an incomplete last one, is joined to that batch.

    Args:
        model: An elastic network, not wrapped by DDP or torch.compile.
        subnet: The sub-network.
        batches: Inputs on the network's device. Larger batches give better statistics.

    Returns:
        The number of images.

    Raises:
        ValueError: `batches` is empty.

    Example:
        >>> import timm, torch
        >>> from gradaug_timm import Subnet, activate, recalibrate
        >>> network = timm.create_model('gradaug_resnet20_cifar', depth=8).eval()
        >>> recalibrate(network, Subnet(0.5), [torch.randn(8, 3, 32, 32), torch.randn(2, 3, 32, 32)])
        10
        >>> with activate(network, Subnet(0.5)):
        ...     outputs = network(torch.randn(1, 3, 32, 32))
    """
    return recalibrate_all(model, [subnet], batches)


def recalibrate_all(model: nn.Module, subnets: Sequence[Subnet], batches: Iterable[torch.Tensor]) -> int:
    """Recalibrate several sub-networks on the same batches; each batch is read once, and at most two are kept.

    Returns:
        The number of images.
    """
    norms = dict(_batch_norms(model))
    if not norms:
        _logger.info('The network has no BatchNorm, so its sub-networks are not recalibrated.')
        return 0
    measured = {subnet: {name: ImageStatistics() for name in norms} for subnet in subnets}
    images = count = 0
    spread = BatchSpread()
    with torch.no_grad(), _batch_statistics(model):
        for input in joined(batches):
            for subnet in subnets:
                with activate(model, subnet), _observed(norms, measured[subnet]):
                    model(input)
            spread.update(input)
            images, count = images + len(input), count + 1
            del input  # before the next is read
    if not count:
        raise ValueError('recalibration needs at least one batch')
    for subnet, statistics in measured.items():
        set_statistics(model, subnet, {name: each.compute() for name, each in statistics.items() if each.seen})
    _logger.info(f'BatchNorm statistics were measured on {images} images in {count} batch{"es" if count > 1 else ""}, '
                 f'for {len(subnets)} sub-network{"s" if len(subnets) > 1 else ""}.')
    if spread.is_ordered():
        _logger.warning('The batches for BatchNorm statistics differ more than random ones would, as if they were in '
                        'order of class; the statistics are only right for batches that are drawn at random.')
    return images


def random_batches(
        dataset: Dataset,
        count: int = 16,
        batch_size: int = 256,
        *,
        seed: int = 42,
        device: torch.device | str = 'cpu',
) -> Iterator[torch.Tensor]:
    """Yield batches of random images of a data set, each image at most once, whatever the order of the data set.

    Args:
        dataset: Its items are image tensors, or tuples that begin with one, preprocessed as in evaluation.
        count: Number of batches; fewer if the data set has fewer images.
        batch_size: Images per batch.
        seed: The same seed gives the same images.
        device: Where the batches are put.

    Raises:
        ValueError: The data set has no images.

    Example:
        >>> import timm, torch
        >>> from gradaug_timm import Subnet, random_batches, recalibrate
        >>> from torch.utils.data import TensorDataset
        >>> dataset = TensorDataset(torch.randn(50, 3, 32, 32), torch.arange(50) // 5)
        >>> network = timm.create_model('gradaug_resnet20_cifar', depth=8).eval()
        >>> recalibrate(network, Subnet(0.5), random_batches(dataset, count=2, batch_size=16))
        32
    """
    images = len(dataset)  # type: ignore[arg-type]  # torch declares no length
    if not images:
        raise ValueError('random_batches needs a data set with images')
    order = torch.randperm(images, generator=generator(seed, 'recalibration'))[:count * batch_size]
    for indices in order.split(batch_size):
        items = (dataset[index] for index in indices.tolist())
        yield torch.stack([item[0] if isinstance(item, (tuple, list)) else item for item in items]).to(device)


def joined(batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield batches; one with less than half the images of the batch before it is joined to that batch."""
    held: torch.Tensor | None = None
    for batch in batches:
        if held is not None and 2 * len(batch) < len(held) and batch.shape[1:] == held.shape[1:]:
            held = torch.cat((held, batch))
            continue
        if held is not None:
            yield held
        held = batch
    if held is not None:
        yield held


class ImageStatistics:
    """Mean and variance of each channel over the images of all batches, in float64 where the device has it."""

    def __init__(self):
        self.seen = 0  # values of a channel
        self.mean = self.squares = torch.zeros(1)  # squares: sum of squared distances from the mean

    def update(self, input: torch.Tensor) -> None:
        """Add a batch: [N, C] or [N, C, ...]."""
        values = input.float().transpose(0, 1).flatten(1)
        count = values.shape[1]
        variance, mean = torch.var_mean(values, dim=1, correction=0)
        if input.device.type != 'mps':  # which has no float64
            variance, mean = variance.double(), mean.double()
        if not self.seen:
            self.seen, self.mean, self.squares = count, mean, variance * count
            return
        total, gap = self.seen + count, mean - self.mean
        self.mean = self.mean + gap * (count / total)
        self.squares = self.squares + variance * count + gap ** 2 * (self.seen * count / total)
        self.seen = total

    def compute(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and unbiased variance, each [C]."""
        return self.mean.float(), (self.squares / max(1, self.seen - 1)).float()


class BatchSpread:
    """How much the means of batches differ, compared with means of images that were drawn at random."""

    def __init__(self):
        self.means: list[torch.Tensor] = []  # of each batch, [C]
        self.variances: list[torch.Tensor] = []  # of the means of the batch's images, [C]
        self.sizes: list[int] = []

    def update(self, images: torch.Tensor) -> None:
        """Add a batch of images, [N, C, H, W]."""
        if len(images) > 1:
            variance, mean = torch.var_mean(images.float().flatten(2).mean(2), dim=0)
            self.means.append(mean)
            self.variances.append(variance)
            self.sizes.append(len(images))

    def is_ordered(self) -> bool:
        """Return whether the means differ more than those of random batches; False for fewer than three batches."""
        freedom = len(self.means) - 1
        return freedom > 1 and self._ratio() > 1 + ALIKE * (2 / freedom) ** 0.5

    def _ratio(self) -> float:
        """Return the mean F statistic of the channels: about 1 for random batches, the more of them the closer."""
        sizes = torch.tensor(self.sizes, device=self.means[0].device)
        means, variances = torch.stack(self.means), torch.stack(self.variances)
        centre = (means * sizes[:, None]).sum(0) / sizes.sum()
        between = ((means - centre) ** 2 * sizes[:, None]).sum(0) / (len(sizes) - 1)
        within = (variances * (sizes - 1)[:, None]).sum(0) / (sizes - 1).sum()
        return (between / within.clamp(min=1e-12)).mean().item()


def _batch_norms(model: nn.Module) -> Iterator[tuple[str, AnyBatchNorm]]:
    for name, module in model.named_modules():
        if is_batch_norm(module):
            yield name, module


@contextmanager
def _batch_statistics(model: nn.Module):
    """Put everything in evaluation mode but BatchNorm, which uses its batch's statistics."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for _, norm in _batch_norms(model):
        norm.training = True
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _observed(norms: dict[str, AnyBatchNorm], statistics: dict[str, ImageStatistics]):
    with ExitStack() as stack:
        for name, module in norms.items():
            handle = module.register_forward_pre_hook(
                lambda _, inputs, each=statistics[name]: each.update(inputs[0]))
            stack.callback(handle.remove)
        yield
