"""Networks that timm's registry gets from us: CIFAR networks, and `gradaug_<name>` for them and timm's own."""
from . import cifar_elastic, gradaug_models
from .cifar_pyramidnet import PyramidNet
from .cifar_resnet import CifarResNet
from .cifar_wide_resnet import WideResNet

__all__ = ['CifarResNet', 'PyramidNet', 'WideResNet', 'cifar_elastic', 'gradaug_models']
