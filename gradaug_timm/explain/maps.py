"""Class activation maps by the library grad-cam."""
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

METHODS = {'gradcam': 'GradCAM', 'gradcam++': 'GradCAMPlusPlus', 'hirescam': 'HiResCAM', 'layercam': 'LayerCAM'}


def last_map(network: nn.Module, image: torch.Tensor) -> tuple[nn.Module, Callable | None]:
    """Find the layer that gives a network's last feature map, and the function that turns its output into [N, C, H, W].

    Args:
        network: A timm network.
        image: [1, C, H, W].

    Raises:
        ValueError: Its features are not maps, as in plain vision transformers.
    """
    outputs: list[tuple[nn.Module, torch.Tensor]] = []
    handles = [module.register_forward_hook(lambda module, _, output: outputs.append((module, output)))
               for module in network.modules() if module is not network]
    try:
        with torch.no_grad():
            features = network.forward_features(image)
    finally:
        for handle in handles:
            handle.remove()
    layers = [module for module, output in outputs if output is features]
    if not layers or features.ndim != 4:
        raise ValueError(f'{type(network).__name__} has no last map of features: class activation maps need a '
                         'convolutional network, or a transformer whose features are maps')
    if features.shape[1] == network.num_features:
        return layers[-1], None
    return layers[-1], lambda output: output.permute(0, 3, 1, 2)


def activation_map(network: nn.Module, image: torch.Tensor, *, label: int, method: str) -> np.ndarray:
    """Compute where the network sees a class, [H, W] in 0 to 1.

    Args:
        network: A timm network in evaluation mode.
        image: Normalised, [1, C, H, W].
        label: The class.
        method: One of METHODS; 'gradcam' is Grad-CAM (Selvaraju et al., ICCV 2017).

    Raises:
        ValueError: The network has no maps.
    """
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    layer, reshape = last_map(network, image)
    with getattr(pytorch_grad_cam, METHODS[method])(network, [layer], reshape_transform=reshape) as cam:
        return cam(image, [ClassifierOutputTarget(label)])[0]
