"""Every operator there is, on one page. To add one, write its class in a file of this folder and name it here."""

# Values that are not computed
from ..graph import Constant, Input, Result

# Convolution over any number of spatial axes
from .conv import Conv, ConvTranspose

# Element by element
from .elementwise import Pointwise, cast, pointwise

# Reading and writing at positions that are data
from .gather import Gather, GatherElements, GatherND, ScatterElements, ScatterND

# Physical order, for backends
from .layout import Reorder

# Matrix product
from .matmul import MatMul

# Normalisation
from .norm import LRN, BatchNorm

# Sliding windows
from .pool import ArgMaxPool, AveragePool, MaxPool

# Layers over a sequence
from .recurrent import GRU, LSTM, RNN

# Along whole axes
from .reduce import ArgReduce, CumSum, Reduce, Softmax, TopK

# Interpolation
from .resize import Resize

# Data movement
from .shape import Concat, Expand, Pad, Reshape, Slice, Transpose

__all__ = [
    "GRU",
    "LRN",
    "LSTM",
    "RNN",
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
    "Gather",
    "GatherElements",
    "GatherND",
    "Input",
    "MatMul",
    "MaxPool",
    "Pad",
    "Pointwise",
    "Reduce",
    "Reorder",
    "Reshape",
    "Resize",
    "Result",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "Softmax",
    "TopK",
    "Transpose",
    "cast",
    "pointwise",
]
