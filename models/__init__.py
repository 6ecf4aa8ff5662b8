"""The zoo, written in the DSL: every model there is, on one page. To add one, write it in a file of its family and name it here."""

from .alexnet import alexnet, alexnet_single
from .lenet5 import lenet5
from .resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from .squeezenet import squeezenet1_0, squeezenet1_1
from .vgg import vgg11, vgg13, vgg16, vgg16_bn, vgg19

__all__ = [
    "alexnet",
    "alexnet_single",
    "lenet5",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "squeezenet1_0",
    "squeezenet1_1",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg16_bn",
    "vgg19",
]
