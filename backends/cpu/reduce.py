"""Reduce: sums, means, products and extremes over any axes.

Where the innermost dimension stays, vectors run along it and the reduced ones are loops around; where it is reduced, vectors run
along it too and their lanes are combined at the end.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ...engine.ops import Reduce
from ..common.llvm_convert import convert, register_bytes, splat
from ..common.llvm_functions import EMITTERS
from .emit import I64, Emitter, Value
from .kernel import Call, Kernel, Machine, NoKernel, Table, grain_for, lowers
from .space import UNIT_SECONDS, Dimension, collapse, dimensions, physical_strides, walk, walk_arguments, walk_parameters
from .vectors import in_vectors, load_lanes, store_lanes

F8 = np.dtype(np.float64)
SECONDS_PER_VECTOR = 1e-9
COMBINE = {"sum": "add", "mean": "add", "prod": "mul", "max": "max", "min": "min"}
CHAINS = 4
"""Vectors that are accumulated side by side, so that an addition need not wait for the one before."""


@dc.dataclass(frozen=True)
class ReduceKernel(Kernel):
    """y[row, column] = combination over steps and points of x[row, point, step, column], or over the columns too.

    A point is an offset in bytes in the table `points`; steps lie `step_stride` bytes apart; columns are contiguous in x.
    """

    parameters: ClassVar[tuple[str, ...]] = (
        *walk_parameters(("x", "y")),
        *("points*", "point_count", "steps", "step_stride", "columns", "column_tile", "count"),
    )
    kind: str
    dtype: np.dtype
    along: bool
    """Whether the columns are reduced."""

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one ReduceKernel."""

    def __init__(self, spec: ReduceKernel, k: Emitter) -> None:
        self.spec, self.k = spec, k
        self.dtype = accumulator_dtype(spec.kind, spec.dtype)
        self.lanes = k.target.vector_bytes // max(register_bytes(spec.dtype), register_bytes(self.dtype))
        self.neutral = splat(k, neutral(spec.kind, self.dtype), self.dtype, self.lanes)

    def write(self) -> None:
        k = self.k
        self.points = k.pointer("points")
        self.point_count, self.steps, self.step_stride = map(k.argument, ("point_count", "steps", "step_stride"))
        self.count, columns, tile = map(k.argument, ("count", "columns", "column_tile"))
        with walk(k, ("x", "y")) as (inner, (x, y)):
            first = k.mul(inner, tile)
            last = k.minimum(k.add(first, tile), columns)
            if self.spec.along:
                self.row_along(x, y, last)
            else:
                in_vectors(k, first, last, self.lanes, functools.partial(self.across, x, y), wide=CHAINS)

    def across(self, x: Value, y: Value, first: Value, vectors: int, mask: Value | None) -> None:
        """Reduce some vectors of columns; a single one in several chains over the steps."""
        k = self.k
        x, y = (k.at(p, k.mul(first, self.spec.dtype.itemsize)) for p in (x, y))
        step = self.lanes * self.spec.dtype.itemsize
        chains = CHAINS if vectors == 1 else 1

        def combined(start: Value, values: Sequence[Value]) -> list[Value]:
            return [self.combine(value, self.load(k.at(start, v * step), mask)) for v, value in enumerate(values)]

        with k.loop(0, self.point_count, carried=[self.neutral] * (vectors * chains)) as point:
            start = k.at(x, k.load(k.at(self.points, k.mul(point.index, 8)), I64))
            groups = k.sub(self.steps, k.b.urem(self.steps, k.integer(chains)))
            with k.loop(0, groups, chains, carried=point.values) as loop:
                places = [k.at(start, k.mul(k.add(loop.index, c), self.step_stride)) for c in range(chains)]
                parts = [loop.values[c * vectors : (c + 1) * vectors] for c in range(chains)]
                loop.carry([v for place, part in zip(places, parts, strict=True) for v in combined(place, part)])
            with k.loop(groups, self.steps, carried=loop.results[:vectors]) as loop_rest:
                loop_rest.carry(combined(k.at(start, k.mul(loop_rest.index, self.step_stride)), loop_rest.values))
            point.carry([*loop_rest.results, *loop.results[vectors:]])
        for v in range(vectors):
            total = functools.reduce(self.combine, point.results[v::vectors])
            store_lanes(k, self.finished(total), k.at(y, v * step), self.spec.dtype, mask)

    def row_along(self, x: Value, y: Value, columns: Value) -> None:
        """Reduce whole rows of columns to one element."""
        k = self.k
        with k.loop(0, self.point_count, carried=[self.neutral] * CHAINS) as point:
            start = k.at(x, k.load(k.at(self.points, k.mul(point.index, 8)), I64))
            with k.loop(0, self.steps, carried=point.values) as step:
                row = k.at(start, k.mul(step.index, self.step_stride))
                step.carry(self.columns(row, columns, step.values))
            point.carry(step.results)
        total = functools.reduce(self.combine, point.results)
        store_lanes(k, self.finished(self.folded(total)), y, self.spec.dtype)

    def columns(self, row: Value, columns: Value, values: list[Value]) -> list[Value]:
        """The chains after one row of columns: several vectors at a time, single ones, a masked one."""
        k, size = self.k, self.spec.dtype.itemsize
        wide = k.sub(columns, k.b.urem(columns, k.integer(CHAINS * self.lanes)))
        whole = k.sub(columns, k.b.urem(columns, k.integer(self.lanes)))
        with k.loop(0, wide, CHAINS * self.lanes, carried=values) as loop:
            starts = [k.at(row, k.mul(k.add(loop.index, c * self.lanes), size)) for c in range(CHAINS)]
            loop.carry([self.combine(v, self.load(s, None)) for v, s in zip(loop.values, starts, strict=True)])
        with k.loop(wide, whole, self.lanes, carried=loop.results[:1]) as single:
            single.carry([self.combine(single.values[0], self.load(k.at(row, k.mul(single.index, size)), None))])
        with k.loop(whole, columns, self.lanes, carried=single.results) as rest:
            mask = k.mask_below(k.sub(columns, whole), self.lanes)
            rest.carry([self.combine(rest.values[0], self.load(k.at(row, k.mul(whole, size)), mask))])
        return [*rest.results, *loop.results[1:]]

    def load(self, pointer: Value, mask: Value | None) -> Value:
        """A vector as it is accumulated; the neutral element where the mask is not set."""
        k = self.k
        value = convert(k, load_lanes(k, pointer, self.spec.dtype, self.lanes, mask), self.spec.dtype, self.dtype)
        return value if mask is None else k.b.select(mask, value, self.neutral)

    def combine(self, a: Value, b: Value) -> Value:
        return EMITTERS[COMBINE[self.spec.kind]](self.k, self.dtype, a, b)

    def folded(self, value: Value) -> Value:
        """All lanes combined into one."""
        while value.type.count > 1:
            half = value.type.count // 2
            value = self.combine(*(self.k.shuffle(value, value, list(range(s, s + half))) for s in (0, half)))
        return value

    def finished(self, total: Value) -> Value:
        """The result from what was accumulated."""
        k = self.k
        if self.spec.kind == "mean":
            count = k.splat(k.b.sitofp(self.count, total.type.element), total.type)
            total = k.b.fdiv(total, count)
        return convert(k, total, self.dtype, self.spec.dtype)


def accumulator_dtype(kind: str, dtype: np.dtype) -> np.dtype:
    """Means of integers are taken in float64."""
    return F8 if kind == "mean" and dtype.kind != "f" else dtype


def neutral(kind: str, dtype: np.dtype) -> float | int | bool:
    """What leaves anything it is combined with as it is."""
    if kind in ("sum", "mean", "prod"):
        return 1 if kind == "prod" else 0
    if dtype.kind == "f":
        return -math.inf if kind == "max" else math.inf
    if dtype.kind == "b":
        return kind == "min"
    return int(np.iinfo(dtype).min if kind == "max" else np.iinfo(dtype).max)


@lowers(Reduce)
def lower_reduce(node: Reduce, machine: Machine) -> list[Call]:
    """One call."""
    x, y = node.x.type, node.type
    if 0 in x.shape:
        raise NoKernel(f"nothing to reduce in {x}")
    if x.layout != y.layout or (x.layout and min(node.axes, default=x.rank) <= x.layout.axis):
        raise NoKernel(f"expected axes after the blocked one of {x}, and {y} blocked alike")
    space = collapse(reduced_space(node)) or [Dimension(1, (x.dtype.itemsize, x.dtype.itemsize))]
    kept = [d for d in space if d.strides[1]]
    reduced = [d for d in space if not d.strides[1]]
    along = space[-1].strides[1] == 0
    columns = (reduced if along else kept).pop()
    return [_call(node, kept, reduced, columns, along, machine)]


def reduced_space(node: Reduce) -> list[Dimension]:
    """The physical dimensions of x; y stands still along those that are reduced, and along lanes that it has not."""
    x, y = node.x.type, node.type
    strides = iter(physical_strides(y))
    found = []
    for axis in range(len(x.physical_shape)):
        stride = next(strides, 0) if node.keepdims or axis not in node.axes else 0
        found.append(0 if axis in node.axes else stride)
    return dimensions(x.physical_shape, physical_strides(x), found)


def reduction(reduced: Sequence[Dimension]) -> tuple[np.ndarray, Dimension]:
    """What is combined for one result: at each of these points the steps of the longest dimension."""
    steps = max(reduced, key=lambda d: d.extent, default=Dimension(1, (0, 0)))
    ranges = ([i * d.strides[0] for i in range(d.extent)] for d in reduced if d is not steps)
    return np.array([sum(p) for p in itertools.product(*ranges)], np.int64), steps


def _call(node: Reduce, kept: list[Dimension], reduced: list[Dimension], columns: Dimension, along: bool, machine: Machine) -> Call:
    points, steps = reduction(reduced)
    dtype = node.x.type.dtype
    lanes = machine.target.lanes(dtype)
    deep = len(points) * steps.extent * SECONDS_PER_VECTOR
    tile = columns.extent if along else min(columns.extent, max(1, round(UNIT_SECONDS / deep / CHAINS)) * CHAINS * lanes)
    seconds = deep * -(-tile // lanes)
    numbers, units = walk_arguments(("x", "y"), kept, seconds, -(-columns.extent // tile))
    count = math.prod(node.x.type.shape[a] for a in node.axes)
    numbers |= {"points": Table(points), "point_count": len(points), "steps": steps.extent, "step_stride": steps.strides[0]}
    numbers |= {"columns": columns.extent, "column_tile": tile, "count": count, "x": node.x, "y": node}
    total = seconds * -(-columns.extent // tile) * math.prod(d.extent for d in kept)
    return Call(ReduceKernel(node.kind, dtype, along), numbers, units, grain_for(units, total, machine.threads))
