"""A network that is evaluated, alone or next to other widths."""
import logging
from dataclasses import dataclass

import torch
from timm.layers import apply_test_time_pool
from timm.models import reparameterize_model
from torch import nn

from ..elastic import Subnet, multiply_adds
from .metrics import Metrics
from .settings import EvaluationSettings

_logger = logging.getLogger(__name__)


@dataclass
class Candidate:
    """A network that is ready to run, and what its results say.

    Args:
        network: The network.
        subnet: The sub-network that it was made of; None for a whole network.
        metrics: Its metrics.
        title: What precedes its log lines, to tell it from the others.
        size: Its figures that do not depend on the images.
    """
    network: nn.Module
    subnet: Subnet | None
    metrics: Metrics
    title: str
    size: dict[str, float]

    @classmethod
    def of(
            cls,
            subnet: Subnet | None,
            network: nn.Module,
            metrics: Metrics,
            args: EvaluationSettings,
            config: dict,
            *,
            device: torch.device,
            dtype: torch.dtype,
    ) -> 'Candidate':
        """Prepare a network as the settings say; with pooling at test time, the crop of `config` is removed.

        Raises:
            ValueError: The machine has fewer devices than the settings ask for.
        """
        title = f'width {subnet.width:g}: ' if subnet is not None and len(args.width or ()) > 1 else ''
        if args.reparam:
            network = reparameterize_model(network, inplace=True)
        num_parameters = sum(parameter.numel() for parameter in network.parameters())
        _logger.info(f'{title}{args.model}: {num_parameters / 1e6:.2f} million parameters, on {device} in {dtype}'
                     f'{f", mixed with {args.amp_dtype}" if args.amp else ""}')
        size = dict(param_count=round(num_parameters / 1e6, 2))
        if subnet is not None:
            size['multiply_adds'] = multiply_adds(network, None, config['input_size'])
        if args.test_pool:
            network, pooled = apply_test_time_pool(network, config)
            config['crop_pct'] = 1.0 if pooled else config['crop_pct']
        return cls(_prepare(network, args, device, dtype), subnet, metrics, title, size)

    def results(self, scaling: dict[str, float], args: EvaluationSettings, config: dict) -> dict:
        """Return all results of the network by name.

        Args:
            scaling: How its residual branches are scaled.
            args: The settings of the evaluation.
            config: How it saw the images.
        """
        measured = self.metrics.compute()
        totals = '  '.join(f'{name} {value:.3f}' for name, value in measured.items() if '_err' not in name)
        _logger.info(f' * {self.title}{totals}')
        return dict(
            model=args.model,
            **({} if self.subnet is None else dict(width=self.subnet.width, divisor=self.subnet.divisor)),
            **scaling,
            **measured,
            **self.size,
            img_size=config['input_size'][-1],
            crop_pct=config['crop_pct'],
            interpolation=config['interpolation'],
        )


def _prepare(network: nn.Module, args: EvaluationSettings, device: torch.device, dtype: torch.dtype) -> nn.Module:
    network = network.to(device=device, dtype=dtype).eval()
    if args.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if args.torchcompile:
        network = torch.compile(network, backend=args.torchcompile, mode=args.torchcompile_mode)  # type: ignore[assignment]
    if args.num_gpu > 1:
        if device.type != 'cuda' or args.num_gpu > torch.cuda.device_count():
            raise ValueError(f'--num-gpu {args.num_gpu} needs as many CUDA devices; this machine has '
                             f'{torch.cuda.device_count()}, and --device is {device}')
        network = nn.DataParallel(network, device_ids=list(range(args.num_gpu)))
    return network
