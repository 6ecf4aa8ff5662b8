"""Lowers the operators that only move data to strided copies: slices, concatenations, transposes, repeats, changes of layout."""

from __future__ import annotations

from ...engine.graph import Constant, Input, Node, Result
from ...engine.ops import Concat, Expand, Reorder, Reshape, Slice, Transpose
from ...engine.tensor import TensorType
from ..common.storage import concat_offsets
from .copies import View, copies, copy
from .kernel import Call, Machine, NoKernel, lowers

ALIGNMENT = 16
"""Operands of a concatenation that would start at a multiple of this may be computed in their place."""


@lowers(Reorder)
def lower_reorder(node: Reorder, machine: Machine) -> list[Call]:
    """y[i] = x[i]."""
    return [copy(View.of(node.x), View.of(node))]


@lowers(Reshape)
def lower_reshape(node: Reshape, machine: Machine) -> list[Call]:
    """The same elements in the same order; for where the result cannot share the memory of x."""
    x, y = node.x.type, node.type
    if x.layout != y.layout or x.nbytes != y.nbytes:
        raise NoKernel(f"a reshape of {x} to {y}")
    flat = TensorType(x.dtype, (x.nbytes // x.dtype.itemsize,))
    return [copy(View.of(node.x, flat), View.of(node, flat))]


@lowers(Transpose)
def lower_transpose(node: Transpose, machine: Machine) -> list[Call]:
    """Axis k of y is axis permutation[k] of x."""
    return [copy(View.of(node.x).transpose(node.permutation), View.of(node))]


@lowers(Slice)
def lower_slice(node: Slice, machine: Machine) -> list[Call]:
    """y = x[start : : step]."""
    return [copy(View.of(node.x).slice(node.starts, node.sizes, node.steps), View.of(node))]


@lowers(Expand)
def lower_expand(node: Expand, machine: Machine) -> list[Call]:
    """y = x repeated."""
    return [copy(View.of(node.x).expand(node.shape), View.of(node))]


def _has_memory(node: Node) -> bool:
    """Whether a step may compute the value where somebody wants it; what is given, or part of another value, is where it is."""
    return not isinstance(node, Input | Constant | Result | Reshape)


@lowers(Concat)
def lower_concat(node: Concat, machine: Machine) -> list[Call]:
    """Each operand goes to its slice of y. Those that may be in their place already have steps of their own."""
    own, together, start = list[Call](), list[tuple[View, View]](), 0
    for operand, offset in zip(node.inputs, concat_offsets(node), strict=True):
        size = operand.type.shape[node.axis]
        pair = View.of(operand), View.of(node).along(node.axis, start, size)
        start += size
        if 0 in operand.type.shape:
            continue
        is_in_concat = not operand.type.is_dense  # in this one or another
        if is_in_concat or (offset is not None and offset % ALIGNMENT == 0 and _has_memory(operand)):
            own.append(copy(*pair))
        else:
            together.append(pair)
    return own + copies(together)
