"""Iteration spaces: the dimensions that several arrays are walked along together, as few and as long as their strides allow."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Iterable, Sequence

from ...engine.tensor import TensorType
from .lowering import NoKernel


@dc.dataclass(frozen=True)
class Dimension:
    """How often a loop runs, and by how many bytes each array moves on every time."""

    extent: int
    strides: tuple[int, ...]


def physical_strides(kind: TensorType) -> list[int]:
    """Bytes between neighbours along each physical dimension."""
    return [kind.dtype.itemsize * stride for stride in kind.physical_strides]


def broadcast_strides(operand: TensorType, result: TensorType) -> list[int]:
    """Bytes that a broadcast operand moves along each physical dimension of the result. Raises NoKernel where the layouts do not fit."""
    missing, layout = result.rank - operand.rank, operand.layout
    strides = physical_strides(operand)
    lane = strides.pop() if layout else 0
    found = [0] * missing + [0 if n == 1 else s for n, s in zip(operand.shape, strides, strict=True)]
    if result.layout is None:
        if layout is not None:
            raise NoKernel(f"a blocked operand {operand} of a plain result {result}")
        return found
    axis = result.layout.axis
    extent = operand.shape[axis - missing] if axis >= missing else 1
    if layout is None:
        if extent != 1:
            raise NoKernel(f"a plain operand {operand} with the blocked axis of the result {result}")
        return [*found, 0]
    if layout.axis + missing != axis or layout.block != result.layout.block:
        raise NoKernel(f"operand {operand} blocked otherwise than the result {result}")
    blocks = strides[layout.axis] if operand.physical_shape[layout.axis] > 1 else 0
    return [*found[:axis], blocks, *found[axis + 1 :], lane if extent == result.shape[axis] else 0]


def dimensions(extents: Sequence[int], *strides: Sequence[int]) -> list[Dimension]:
    """One Dimension for each extent; `strides` has one sequence for each array."""
    return [Dimension(n, own) for n, own in zip(extents, zip(*strides, strict=True), strict=True)]


def collapse(space: Iterable[Dimension]) -> list[Dimension]:
    """The same walk with fewer dimensions: those of extent 1 go, neighbours that every array passes in one stride merge."""
    merged: list[Dimension] = []
    for inner in space:
        if inner.extent == 1:
            continue
        outer = merged[-1] if merged else None
        if outer and all(o == inner.extent * i for o, i in zip(outer.strides, inner.strides, strict=True)):
            merged[-1] = Dimension(outer.extent * inner.extent, inner.strides)
        else:
            merged.append(inner)
    return merged
