"""`python -m gradaug_timm.extract`: a sub-network of a checkpoint as a separate file."""
import logging
from dataclasses import replace

from timm.utils import random_seed

from ..cli import log_to_terminal
from ..devices import pick_device
from ..elastic import Subnet, multiply_adds, num_blocks
from ..elastic.swap import is_batch_norm
from ..evaluation import recalibrate
from ..evaluation.loading import training_batches
from ..evaluation.subnets import choose_subnets
from ..evaluation.trained import Trained
from ..threads import use_threads
from .arguments import ExtractionSettings, build_parser
from .saving import save_extracted

_logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Run the command; SystemExit(2) with one line on stderr if it can't be carried out."""
    parser = build_parser()
    settings = parser.parse_settings(argv)
    log_to_terminal()
    use_threads(settings.threads)
    try:
        print(run(settings))
    except (OSError, ValueError) as error:
        parser.error(str(error))


def run(settings: ExtractionSettings) -> str:
    """Extract and write the sub-network; return a line that describes it.

    Raises:
        ValueError: What the settings name does not exist or does not fit; the message is one line.
    """
    random_seed(settings.seed)
    device = pick_device(settings.device)
    trained = settings.open(settings.checkpoint)
    network, input_size = trained.network, trained.config['input_size']
    subnet = _choose_subnet(trained, settings)
    full = multiply_adds(network, None, input_size)
    if subnet != Subnet(divisor=subnet.divisor) and any(map(is_batch_norm, network.modules())):
        network.to(device)
        _set_statistics(trained, subnet, settings)
    dense = save_extracted(network, subnet, settings.output, data=trained.config, class_names=trained.class_names)
    cost = multiply_adds(dense, None, input_size)
    parameters = sum(parameter.numel() for parameter in dense.parameters())
    return (f'{settings.output}: {trained.name} at width {subnet.width:g} with divisor {subnet.divisor}, '
            f'{parameters / 1e6:.2f} million parameters, {cost / 1e6:.1f} million multiply-adds '
            f'({cost / full:.1%} of the full network\'s)')


def _choose_subnet(trained: Trained, settings: ExtractionSettings) -> Subnet:
    """Return the sub-network that the settings name; makes the network elastic."""
    subnet, = choose_subnets(trained, [settings.width], settings.divisor)
    count = num_blocks(trained.network)
    wrong = [index for index in settings.skip_blocks if index >= count]
    if wrong:
        raise ValueError(f'--skip-blocks {" ".join(map(str, wrong))} can\'t be used with --model {trained.name}, '
                         f'which has {count} blocks that can be left out, counted from 0')
    return replace(subnet, skipped=settings.skip_blocks)


def _set_statistics(trained: Trained, subnet: Subnet, settings: ExtractionSettings) -> None:
    """Give the sub-network BatchNorm statistics of training images, if some are given."""
    if not settings.has_images:
        _logger.warning('BatchNorm keeps its part of the full network\'s statistics, which makes sub-networks worse: '
                        'give --data-dir or --dataset to measure their own on training images.')
        return
    network = trained.network
    device = next(network.parameters()).device
    batches = training_batches(
        settings.images(trained), trained, trained.config, num_classes=network.num_classes, device=device)
    recalibrate(network, subnet, batches)
