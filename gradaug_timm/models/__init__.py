"""Networks that this package adds to timm's registry: CIFAR networks, and `gradaug_<name>` for all architectures."""
from . import cifar_elastic, gradaug_models
from .cifar_pyramidnet import PyramidNet
from .cifar_resnet import CifarResNet
from .cifar_wide_resnet import WideResNet

__all__ = ['CifarResNet', 'PyramidNet', 'WideResNet', 'cifar_elastic', 'gradaug_models']
