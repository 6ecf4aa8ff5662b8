"""Every operator there is, on one page. To add one, write its class in a file of this folder and name it here."""

# Values that are not computed
from ..graph import Constant, Input, Result

# Convolution and matrix products
from .conv import Conv, ConvTranspose

# Element by element
from .elementwise import Pointwise, cast, pointwise

# Matrix product
from .matmul import MatMul

# Normalisation
from .norm import LRN, BatchNorm

# Windows
from .pool import ArgMaxPool, AveragePool, MaxPool

# Along whole axes
from .reduce import ArgReduce, CumSum, Reduce, Softmax, TopK

# Data movement
from .shape import Concat, Expand, Pad, Reshape, Slice, Transpose

__all__ = [
    "LRN",
    "ArgMaxPool",
    "ArgReduce",
    "AveragePool",
    "BatchNorm",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "Expand",
    "Input",
    "MatMul",
    "MaxPool",
    "Pad",
    "Pointwise",
    "Reduce",
    "Reshape",
    "Result",
    "Slice",
    "Softmax",
    "TopK",
    "Transpose",
    "cast",
    "pointwise",
]
