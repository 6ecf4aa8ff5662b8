"""Gathers and scatters by indices that are data.

NumPy raises IndexError for an index outside of its axis. Native code cannot, so here a gather reads the nearest element that there
is, and a scatter leaves such an update out: memory outside of the operands is never touched. Negative indices count from the end.
"""

from __future__ import annotations

import dataclasses as dc
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ...engine.graph import Node
from ...engine.ops.gather import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from .copies import copy
from .kernel import Argument, Call, Machine, NoKernel, Table, grain_for, lowers
from .numba_kernel import Array, NumbaKernel, inlined
from .view import View

SECONDS_PER_INDEX, SECONDS_PER_ELEMENT = 2e-9, 5e-10


@dc.dataclass(frozen=True)
class GatherKernel(NumbaKernel):
    """y[row, column, :] = x[start(row, column) + sum over d of index d of (row, column) * stride d + (0 .. inner)].

    Table `rows` (i64): for each dimension of the rows its extent and its strides in x and in the indices. Table `axes` (i64): extent
    and stride of each axis of x that an index counts along. All strides are elements.
    """

    parameters: ClassVar[tuple[str, ...]] = (
        *("x*", "indices*", "rows*", "axes*", "y*"),
        *("rank", "columns", "x_step", "index_step", "depth", "inner"),
    )
    item: str
    index: str

    @property
    def dtypes(self) -> dict[str, Any]:
        return {"x": self.item, "indices": self.index, "rows": "i8", "axes": "i8", "y": self.item}

    def body(self) -> Callable[..., None]:
        start_of = inlined(row_start)

        def gather(
            begin: int, end: int, thread: int, x: Array, indices: Array, rows: Array, axes: Array, y: Array,
            rank: int, columns: int, x_step: int, index_step: int, depth: int, inner: int,
        ) -> None:  # fmt: skip
            for row in range(begin, end):
                start, index_start = start_of(row, rows, rank)
                for column in range(columns):
                    source = start + column * x_step
                    for d in range(depth):
                        index = indices[index_start + column * index_step + d]
                        index = index + axes[2 * d] if index < 0 else index
                        source += min(max(index, 0), axes[2 * d] - 1) * axes[2 * d + 1]
                    for i in range(inner):
                        y[(row * columns + column) * inner + i] = x[source + i]

        return gather


@dc.dataclass(frozen=True)
class ScatterKernel(NumbaKernel):
    """The same walk the other way: y[start + ... + i] = or op= updates[row, column, i], in order, as one unit."""

    parameters: ClassVar[tuple[str, ...]] = (
        *("updates*", "indices*", "rows*", "axes*", "y*", "count"),
        *("rank", "columns", "x_step", "index_step", "depth", "inner"),
    )
    item: str
    index: str
    reduction: str

    @property
    def dtypes(self) -> dict[str, Any]:
        return {"updates": self.item, "indices": self.index, "rows": "i8", "axes": "i8", "y": self.item}

    def body(self) -> Callable[..., None]:
        start_of, combined = inlined(row_start), inlined(COMBINE[self.reduction])

        def scatter(
            begin: int, end: int, thread: int, updates: Array, indices: Array, rows: Array, axes: Array, y: Array, count: int,
            rank: int, columns: int, x_step: int, index_step: int, depth: int, inner: int,
        ) -> None:  # fmt: skip
            for row in range(count):
                start, index_start = start_of(row, rows, rank)
                for column in range(columns):
                    target, inside = start + column * x_step, True
                    for d in range(depth):
                        index = indices[index_start + column * index_step + d]
                        index = index + axes[2 * d] if index < 0 else index
                        inside = inside and 0 <= index < axes[2 * d]
                        target += index * axes[2 * d + 1]
                    for i in range(inner if inside else 0):
                        y[target + i] = combined(y[target + i], updates[(row * columns + column) * inner + i])

        return scatter


def row_start(row: int, rows: Array, rank: int) -> tuple[int, int]:
    """Where a row begins in x and in the indices."""
    x, index = 0, 0
    for d in range(rank - 1, -1, -1):
        place = row % rows[3 * d]
        row = row // rows[3 * d]
        x += place * rows[3 * d + 1]
        index += place * rows[3 * d + 2]
    return x, index


COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": lambda old, new: new if new > old or new != new else old,
    "min": lambda old, new: new if new < old or new != new else old,
}
"""The element that stays; NaN stays."""


@dc.dataclass(frozen=True)
class Walk:
    """The loops of a gather or scatter: dimensions of (extent, stride in x, stride in the indices); axes of (extent, stride)."""

    dimensions: Sequence[tuple[int, int, int]]
    axes: Sequence[tuple[int, int]]
    inner: int

    def arguments(self, least_rows: int) -> tuple[int, dict[str, Argument]]:
        """(rows, the kernel's arguments); the last dimension becomes columns, in as few parts as make enough rows."""
        *rows, (extent, x_step, index_step) = [(1, 0, 0), *self.dimensions]
        count = math.prod(extent for extent, _, _ in rows)
        if count < least_rows and extent:
            parts = next(p for p in range(min(extent, -(-least_rows // max(count, 1))), extent + 1) if extent % p == 0)
            extent, count = extent // parts, count * parts
            rows = [*rows, (parts, extent * x_step, extent * index_step)]
        column = extent, x_step, index_step
        rows = [r for r in rows if r[0] != 1]
        tables: dict[str, Argument] = {"rows": Table(np.array(rows or [(1, 0, 0)], np.int64)), "axes": Table(np.array(self.axes, np.int64))}
        numbers = {"rank": len(rows), "columns": column[0], "x_step": column[1], "index_step": column[2]}
        return count, tables | numbers | {"depth": len(self.axes), "inner": self.inner}


@lowers(Gather, GatherElements, GatherND)
def lower_gather(node: Gather | GatherElements | GatherND, machine: Machine) -> list[Call]:
    """Rows of indices, shared by threads."""
    walk = walk_of(node)
    if any(extent == 0 for extent, _ in walk.axes):
        raise NoKernel("a gather from an empty axis")
    rows, arguments = walk.arguments(4 * machine.threads)
    kernel = GatherKernel(item_name(node.type.dtype), index_name(node.indices))
    seconds = node.indices.type.size * SECONDS_PER_INDEX + node.type.size * SECONDS_PER_ELEMENT
    places: dict[str, Argument] = {"x": node.x, "indices": node.indices, "y": node}
    return [Call(kernel, places | arguments, rows, grain_for(rows, seconds, machine.threads))]


@lowers(ScatterElements, ScatterND)
def lower_scatter(node: ScatterElements | ScatterND, machine: Machine) -> list[Call]:
    """x is copied, then one thread applies the updates in order, since several may meet at one place."""
    calls = copy(View.of(node.x), View.of(node), machine)
    if node.updates.type.size == 0:
        return calls
    dtype, reduction = node.type.dtype, node.reduction
    if dtype == np.float16 and reduction != "none":
        raise NoKernel("a scatter that computes in float16")
    if dtype.kind == "b":
        reduction = {"add": "max", "mul": "min"}.get(reduction, reduction)
    item = item_name(dtype) if reduction == "none" or dtype.kind == "b" else dtype.str[1:]
    count, arguments = walk_of(node).arguments(1)
    places: dict[str, Argument] = {"updates": node.updates, "indices": node.indices, "y": node, "count": count}
    return [*calls, Call(ScatterKernel(item, index_name(node.indices), reduction), places | arguments, 1)]


def walk_of(node: Gather | GatherElements | GatherND | ScatterElements | ScatterND) -> Walk:
    """How the operator walks over x and its indices; NoKernel unless they are plain."""
    for operand in (node, *node.operands):
        if operand.type.layout is not None:
            raise NoKernel("a gather or scatter of a blocked value")
    x, indices = node.x.type.shape, node.indices.type.shape
    strides, index_strides = row_major(x), row_major(indices)
    match node:
        case Gather(axis=axis):
            inner = strides[axis]
            return Walk([(math.prod(x[:axis]), x[axis] * inner, 0), (math.prod(indices), 0, 1)], [(x[axis], inner)], inner)
        case GatherElements(axis=axis) | ScatterElements(axis=axis):
            steps = [0 if k == axis else stride for k, stride in enumerate(strides)]
            return Walk(merged(list(zip(indices, steps, index_strides, strict=True))), [(x[axis], strides[axis])], 1)
    batch, depth = getattr(node, "batch_dims", 0), indices[-1]
    steps = [stride if k < batch else 0 for k, stride in enumerate(strides[: len(indices) - 1])]
    steps += [0] * (len(indices) - 1 - len(steps))
    dimensions = merged(list(zip(indices[:-1], steps, index_strides[:-1], strict=True)))
    if depth == 0:
        raise NoKernel("tuples of no indices")
    return Walk(dimensions, [(x[k], strides[k]) for k in range(batch, batch + depth)], math.prod(x[batch + depth :]))


def merged(dimensions: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Fewer dimensions for the same walk."""
    found: list[tuple[int, int, int]] = []
    for extent, step, index_step in dimensions:
        if found and found[-1][1:] == (extent * step, extent * index_step):
            found[-1] = (found[-1][0] * extent, step, index_step)
        else:
            found.append((extent, step, index_step))
    return found


def row_major(shape: Sequence[int]) -> list[int]:
    """The strides of a plain value, in elements."""
    return list(itertools.accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1))[::-1][: len(shape)]


def item_name(dtype: np.dtype) -> str:
    """The unsigned integer that moves an element whose value does not matter."""
    return f"u{dtype.itemsize}"


def index_name(indices: Node) -> str:
    """The dtype indices are read as; the sign is what makes one negative, and no axis is 2**63 long."""
    dtype = indices.type.dtype
    return "i8" if dtype == np.uint64 else dtype.str[1:]
