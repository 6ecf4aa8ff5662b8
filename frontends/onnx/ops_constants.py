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
    part = slice(call.integer("start", 0), call.integer("end", call[0].type.rank))
    return Constant(np.array(call[0].type.shape[part], INDEX))


@converter("Size")
def size(call: Call) -> Results:
    """The number of elements of x."""
    return Constant(np.array(call[0].type.size, INDEX))


@converter("Range")
def range_(call: Call) -> Results:
    """start, start + delta, ... before limit."""
    dtype, (start, limit, delta) = call[0].type.dtype, map(call.scalar, range(3))
    if not all(map(math.isfinite, (start, limit, delta))) or delta == 0:
        raise ModelError(f"expected finite numbers and a delta other than 0, got {start}, {limit}, {delta}")
    count = max(math.ceil((limit - start) / delta), 0)
    return Constant((dtype.type(start) + np.arange(count).astype(dtype) * dtype.type(delta)).astype(dtype))


@converter("EyeLike")
def eye_like(call: Call) -> Results:
    """A matrix of x's shape with ones on a diagonal."""
    if call[0].type.rank != 2:
        raise ModelError(f"expected a matrix, got {call[0].type}")
    code = call.integer("dtype", 0)
    dtype = dtype_of(code, "the result") if code else call[0].type.dtype
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
    x, k = call[0], int(call.scalar(1)) if call.get(1) is not None else 0
    if x.type.rank < 2:
        raise ModelError(f"expected matrices, got {x.type}")
    ones = np.ones(x.type.shape[-2:], bool)
    mask = Constant(np.triu(ones, k) if call.integer("upper") else np.tril(ones, k))
    return over(apply("where", Operand(0), Operand(1), Literal(x.type.dtype.type(0).item())), mask, x)


@converter("OneHot")
def one_hot(call: Call) -> Results:
    """The on-value where a position along the new axis is the index, the off-value elsewhere; negative indices count from the end."""
    indices, depth = call[0], int(call.scalar(1))
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
