"""Reading and writing at positions that are data."""

from __future__ import annotations

import numpy as np

from ...engine.errors import UnsupportedError
from ...engine.expression import Operand, apply
from ...engine.graph import Constant
from ...engine.ops.elementwise import cast
from ...engine.ops.gather import REDUCTIONS, Gather, GatherElements, GatherND, ScatterElements, ScatterND
from ...engine.ops.shape import Expand, Reshape
from .convert import Call, Results, axis_of, converter
from .ops_elementwise import over


@converter("Gather")
def gather(call: Call) -> Results:
    """Slices of x at indices along one axis."""
    return Gather(call[0], call[1], axis=axis_of(call.integer("axis"), call[0].type.rank))


@converter("GatherElements")
def gather_elements(call: Call) -> Results:
    """Elements of x at indices along one axis."""
    return GatherElements(call[0], call[1], axis=axis_of(call.integer("axis"), call[0].type.rank))


@converter("GatherND")
def gather_nd(call: Call) -> Results:
    """Slices of x at tuples of indices."""
    return GatherND(call[0], call[1], batch_dims=call.integer("batch_dims", 0))


@converter("Scatter", "ScatterElements")
def scatter_elements(call: Call) -> Results:
    """x with elements replaced or combined at indices along one axis."""
    axis = axis_of(call.integer("axis"), call[0].type.rank)
    return ScatterElements(call[0], call[1], call[2], axis=axis, reduction=_reduction(call))


@converter("ScatterND")
def scatter_nd(call: Call) -> Results:
    """x with slices replaced or combined at tuples of indices."""
    return ScatterND(call[0], call[1], call[2], reduction=_reduction(call))


def _reduction(call: Call) -> str:
    reduction = call.text("reduction", "none")
    if reduction not in REDUCTIONS:
        raise call.refuse("reduction")
    return reduction


@converter("Compress")
def compress(call: Call) -> Results:
    """The slices of x, or the elements, for which a known condition holds."""
    condition = call.known(1)
    if condition is None:
        raise UnsupportedError("the shape of its result depends on data")
    chosen = Constant(np.flatnonzero(condition))
    if call.attribute("axis") is None:
        return Gather(Reshape(call[0], shape=(call[0].type.size,)), chosen, axis=0)
    return Gather(call[0], chosen, axis=axis_of(call.integer("axis"), call[0].type.rank))


@converter("ReverseSequence")
def reverse_sequence(call: Call) -> Results:
    """x with the first lengths[b] steps of each sequence b in reverse order."""
    x, rank, index = call[0], call[0].type.rank, np.dtype(np.int64)
    time, batch = axis_of(call.integer("time_axis"), rank), axis_of(call.integer("batch_axis"), rank)
    steps = Constant(np.arange(x.type.shape[time], dtype=index).reshape([-1 if i == time else 1 for i in range(rank)]))
    lengths = Reshape(cast(call[1], index), shape=tuple(x.type.shape[i] if i == batch else 1 for i in range(rank)))
    mirrored = apply("where", Operand(0) < Operand(1), Operand(1) - 1 - Operand(0), Operand(0))
    return GatherElements(x, Expand(over(mirrored, steps, lengths), shape=x.type.shape), axis=time)
