"""Matrix product with bias and epilogue: fully connected layers, attention and recurrent cells."""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from .. import expression as ex
from ..errors import ModelError
from ..expression import IDENTITY, Expression
from ..graph import Node, op
from ..tensor import TensorType
from .elementwise import epilogue_type


@op
class MatMul(Node):
    """y[..., m, n] = epilogue(bias[n] + sum over k of a[..., m, k] * b[..., k, n], *extras); leading axes broadcast."""

    a: Node
    b: Node
    bias: Node | None = None
    extras: tuple[Node, ...] = ()
    _: dc.KW_ONLY
    epilogue: Expression = IDENTITY

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if a.rank < 2 or b.rank < 2:
            raise ModelError("expected two matrices or stacks of matrices")
        if a.shape[-1] != b.shape[-2]:
            raise ModelError(f"the inner dimensions differ: {a.shape[-1]} and {b.shape[-2]}")
        if a.dtype != b.dtype:
            raise ModelError(f"expected operands of one dtype, got {a.dtype} and {b.dtype}")
        if self.bias is not None and self.bias.type.shape != (b.shape[-1],):
            raise ModelError(f"expected a bias of shape ({b.shape[-1]},), got {self.bias.type}")
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return epilogue_type(self.epilogue, TensorType(a.dtype, (*lead, a.shape[-2], b.shape[-1])), self.extras)

    def reference(self, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, extras: tuple[np.ndarray, ...]) -> np.ndarray:
        product = a @ b
        return ex.evaluate(self.epilogue, [product if bias is None else product + bias, *extras])

    def flops(self) -> int:
        return 2 * self.multiply_adds() + self.type.size * ex.flops(self.epilogue)

    def multiply_adds(self) -> int:
        return self.type.size * self.a.type.shape[-1]
