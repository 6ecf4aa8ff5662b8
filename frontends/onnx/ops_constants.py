"""Operators whose results are known at import, because shapes are: constants, shapes, ranges. And those that compare with positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...engine.errors import ModelError, UnsupportedError
from ...engine.expression import Literal, Operand, apply
from ...engine.graph import Constant, Node
from ...engine.ops.shape import Reshape
from .convert import Call, Results, axis_of, converter
from .ops_elementwise import over
from .ops_shape import cut
from .tensors import dtype_of

INDEX = np.dtype(np.int64)


@converter("Constant")
def constant(call: Call) -> Results:
    """The value, in any of its attribute forms."""
    kinds: dict[str, Any] = {"value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": INDEX, "value_ints": INDEX}
    unknown = call.operation.attributes.keys() - kinds.keys()
    given = [name for name in kinds if call.attribute(name) is not None]
    if unknown or len(given) != 1:
        raise UnsupportedError(f"it needs one attribute of {', '.join(kinds)}, and has {', '.join(call.operation.attributes) or 'none'}")
    return Constant(np.asarray(call.attribute(given[0]), kinds[given[0]]))


@converter("ConstantOfShape")
def constant_of_shape(call: Call) -> Results:
    """One number, by default the float32 0, in every place."""
    value = call.attribute("value")
    value = np.zeros(1, np.float32) if value is None else value
    return Constant(np.full(_shape(call, 0), value.reshape(-1)[0], value.dtype))


def _shape(call: Call, position: int) -> tuple[int, ...]:
    shape = tuple(int(n) for n in call.value(position).reshape(-1))
    if min(shape, default=0) < 0:
        raise ModelError(f"expected a shape without negative extents, got {shape}")
    return shape


@converter("Shape")
def shape(call: Call) -> Results:
    """The shape of x, or the part from `start` to `end`."""
    end = call.attribute("end")
    part = slice(call.integer("start", 0), None if end is None else int(end))
    return Constant(np.array(call[0].type.shape[part], INDEX))


@converter("Size")
def size(call: Call) -> Results:
    """The number of elements of x."""
    return Constant(np.array(call[0].type.size, INDEX))


@converter("Range")
def range_(call: Call) -> Results:
    """start, start + delta, ... before limit."""
    start, limit, delta = (call.value(i).reshape(-1)[0] for i in range(3))
    if delta == 0:
        raise ModelError("expected a delta other than 0")
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    return Constant((start + np.arange(count).astype(start.dtype) * delta).astype(start.dtype))


@converter("EyeLike")
def eye_like(call: Call) -> Results:
    """A matrix of x's shape with ones on a diagonal."""
    if call[0].type.rank != 2:
        raise ModelError(f"expected a matrix, got {call[0].type}")
    code = call.attribute("dtype")
    dtype = call[0].type.dtype if code is None else dtype_of(code, "the result")
    return Constant(np.eye(*call[0].type.shape, k=call.integer("k"), dtype=dtype))


@converter("NonZero")
def non_zero(call: Call) -> Results:
    """The positions of a known value that are not zero."""
    value = call.known(0)
    if value is None:
        raise UnsupportedError("the shape of its result depends on data")
    return Constant(np.array(np.nonzero(np.atleast_1d(value)), INDEX))


@converter("Trilu")
def trilu(call: Call) -> Results:
    """The triangle of each matrix above (upper) or below its k-th diagonal, and zeros."""
    x, k = call[0], int(call.value(1).reshape(-1)[0]) if call.get(1) is not None else 0
    if x.type.rank < 2:
        raise ModelError(f"expected matrices, got {x.type}")
    ones = np.ones(x.type.shape[-2:], bool)
    mask = Constant(np.triu(ones, k) if call.integer("upper") else np.tril(ones, k))
    return over(apply("where", Operand(0), Operand(1), Literal(x.type.dtype.type(0).item())), mask, x)


@converter("OneHot")
def one_hot(call: Call) -> Results:
    """The on-value where a position along the new axis is the index, the off-value elsewhere; negative indices count from the end."""
    indices, depth = call[0], int(call.value(1).reshape(-1)[0])
    if depth < 0:
        raise ModelError(f"expected a depth of at least 0, got {depth}")
    axis = axis_of(call.integer("axis"), indices.type.rank + 1)
    column = Reshape(indices, shape=(*indices.type.shape[:axis], 1, *indices.type.shape[axis:]))
    numbers = np.arange(depth, dtype=indices.type.dtype).reshape([-1 if i == axis else 1 for i in range(column.type.rank)])
    wrapped = apply("where", Operand(0) < 0, Operand(0) + depth, Operand(0)) if indices.type.dtype.kind != "u" else Operand(0)
    chosen = apply("where", apply("equal", wrapped, Operand(1)), Operand(2), Operand(3))
    return over(chosen, column, Constant(numbers), _scalar(call[2], 1), _scalar(call[2], 0))


def _scalar(values: Node, position: int) -> Node:
    return Reshape(cut(values, 0, position, 1), shape=())
