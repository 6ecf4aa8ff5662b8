"""The zoo, written in the DSL: every model there is, on one page. To add one, write it in a file of its family and name it here."""

from .lenet5 import lenet5
from .resnet import resnet18, resnet34, resnet50, resnet101, resnet152

__all__ = ["lenet5", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
