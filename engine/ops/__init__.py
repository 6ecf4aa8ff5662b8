"""Every operator there is, on one page. To add one, write its class in a file of this folder and name it here."""

# Values that are not computed
from ..graph import Constant, Input, Result

# Convolution and matrix products
from .conv import Conv, ConvTranspose

# Element by element
from .elementwise import Pointwise, cast, pointwise
from .matmul import MatMul

__all__ = ["Constant", "Conv", "ConvTranspose", "Input", "MatMul", "Pointwise", "Result", "cast", "pointwise"]
