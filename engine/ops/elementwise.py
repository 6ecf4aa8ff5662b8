"""Pointwise: every operator that works element by element, as one node over an expression tree."""

from __future__ import annotations

import dataclasses as dc
from typing import Any

import numpy as np

from .. import expression as ex
from ..errors import ModelError
from ..expression import Expression
from ..graph import Node, op
from ..tensor import TensorType


@op
class Pointwise(Node):
    """y[i] = expression(inputs[0][i], inputs[1][i], ...), the inputs broadcast to one shape by NumPy's rule."""

    inputs: tuple[Node, ...]
    _: dc.KW_ONLY
    expression: Expression

    def infer(self) -> TensorType:
        try:
            shape = np.broadcast_shapes(*(o.type.shape for o in self.inputs))
        except ValueError:
            raise ModelError("the shapes do not broadcast to one") from None
        dtype = ex.result_dtype(self.expression, [o.type.dtype for o in self.inputs])
        if dtype is None:
            raise ModelError("the expression reads no operand; expected a Constant instead")
        return TensorType(dtype, shape)

    def reference(self, inputs: tuple[np.ndarray, ...]) -> Any:
        result = np.asarray(ex.evaluate(self.expression, inputs))
        return np.broadcast_to(result, self.type.shape)

    def flops(self) -> int:
        return self.type.size * ex.flops(self.expression)


def pointwise(function: str, *operands: Node | float, origin: tuple[str, ...] = ()) -> Pointwise:
    """`pointwise("max", x, 0)`: one function of expression.FUNCTIONS over nodes and numbers."""
    nodes = tuple(o for o in operands if isinstance(o, Node))
    numbers = iter(range(len(nodes)))
    args = [ex.Operand(next(numbers)) if isinstance(o, Node) else ex.Literal(o) for o in operands]
    return Pointwise(nodes, expression=ex.apply(function, *args), origin=origin)


def cast(x: Node, dtype: np.dtype, origin: tuple[str, ...] = ()) -> Pointwise:
    """x converted to `dtype`."""
    return Pointwise((x,), expression=ex.Convert(ex.IDENTITY, np.dtype(dtype)), origin=origin)


def epilogue_type(expression: Expression, result: TensorType, extras: tuple[Node, ...]) -> TensorType:
    """The type of a node whose result goes through an epilogue over (result, *extras). Raises ModelError where they do not fit."""
    for extra in extras:
        if np.broadcast_shapes(extra.type.shape, result.shape) != result.shape:
            raise ModelError(f"epilogue operand {extra.type} does not broadcast to the result {result}")
    dtype = ex.result_dtype(expression, [result.dtype, *(e.type.dtype for e in extras)])
    if dtype is None:
        raise ModelError("the epilogue reads no operand")
    return TensorType(dtype, result.shape)
