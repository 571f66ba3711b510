"""The network of timm that computes what the trained one does."""
import timm
import torch
from timm.models import get_model_args, model_entrypoint
from torch import nn

from ..extraction.rebuild import OF_THE_WEIGHTS
from ..models.gradaug_models import PREFIX
from ..training.checkpoints.public import path_free
from .comparison import compare, fixed_batch
from .source import Source

# what timm's metadata say of weights that are replaced
OF_OTHERS = OF_THE_WEIGHTS | {
    'license', 'origin_url', 'paper_name', 'paper_ids', 'notes', 'description', 'label_names', 'label_descriptions'}


def plain_network(source: Source) -> nn.Module:
    """Create a network under timm's name with the trained weights, on the CPU and in evaluation mode.

    Raises:
        ValueError: It computes something else.
    """
    architecture = source.network.pretrained_cfg['architecture'].removeprefix(PREFIX)
    plain = timm.create_model(architecture, **path_free(get_model_args(source.network))).eval()
    plain.load_state_dict(source.network.state_dict())
    _check_plain(source, plain, architecture)
    cfg = {name: value for name, value in plain.pretrained_cfg.items() if name not in OF_OTHERS}
    plain.pretrained_cfg = plain.default_cfg = cfg  # type: ignore[assignment]
    return plain


def home(architecture: str) -> str:
    """Return the package that has to be imported before timm knows an architecture."""
    return model_entrypoint(architecture).__module__.partition('.')[0]


@torch.no_grad()
def _check_plain(source: Source, plain: nn.Module, architecture: str) -> None:
    images = fixed_batch(source.config['input_size'])
    try:
        compare(plain(images), source.network(images))
    except ValueError as error:
        scaled = ', '.join(f'--{name.replace("_", "-")} {value:g}' for name, value in source.scaling.items())
        reason = f'it was trained with {scaled}, which scales residual branches in evaluation: ' if scaled else ''
        raise ValueError(f'timm\'s own {architecture} differs from this network, so --to and --push can\'t write it; '
                         f'--onnx and --torch-export can ({reason}{error})') from error
