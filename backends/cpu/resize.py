"""Resize as two steps for each row of the result: blend the rows of x that make it, then blend the columns of that one.

`rows` are the positions along all resized axes but the last, so one table of weighted rows serves any number of axes.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import math
from typing import ClassVar

import llvmlite.ir as ir
import numpy as np

from ...engine.memory import aligned
from ...engine.ops.resize import Resize
from ..common.llvm_convert import convert, register_type
from .emit import F64, I64, Emitter, Value, scalar_type
from .kernel import Call, Kernel, Machine, NoKernel, Scratch, Table, grain_for, lowers
from .picture_resize import PictureResize, tables
from .vectors import load_lanes, store_lanes

TAP = np.dtype([("offset", np.int64), ("weight", np.float64)])
"""A tap in a table: where it is, in bytes, and its weight."""
TAP_BYTES = TAP.itemsize


@dc.dataclass(frozen=True)
class ResizeKernel(Kernel):
    """y[row, column] = sum over taps of x[rows' offset + columns' offset] * the two weights, plus the addends of both.

    A table of taps has, for each position, `row_taps` or `column_taps` taps and one more, whose weight is the addend. Where a
    weight is always 1 and the addend 0, the step is left out (`blend_rows`, `blend_columns`).
    """

    parameters: ClassVar[tuple[str, ...]] = (
        *("source*", "target*", "rows*", "columns*", "scratch*", "scratch_bytes", "row_count", "column_count"),
        *("source_image", "target_image", "row_elements", "inner"),
    )
    dtype: str
    result: str
    row_taps: int
    column_taps: int
    blend_rows: bool
    blend_columns: bool
    step: str
    """How the `inner` elements that share a position are walked: "vector" where they fill whole vectors, "element", or "one" for one."""

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one ResizeKernel."""

    def __init__(self, spec: ResizeKernel, k: Emitter) -> None:
        self.spec, self.k, self.dtype, self.result = spec, k, np.dtype(spec.dtype), np.dtype(spec.result)
        blends = spec.blend_rows or spec.blend_columns
        self.compute = compute_dtype(self.result) if blends else self.dtype
        self.base = {name: k.pointer(name) for name in ("source", "target", "rows", "columns", "scratch")}
        self.number = {name: k.argument(name) for name in spec.parameters if not name.endswith("*")}
        self.row_dtype = self.compute if spec.blend_rows else self.dtype

    def write(self) -> None:
        k, number = self.k, self.number
        scratch = k.at(self.base["scratch"], k.mul(k.thread, number["scratch_bytes"]))
        row_bytes = k.mul(k.mul(number["column_count"], number["inner"]), self.result.itemsize)
        with k.units() as unit:
            image, row = k.divmod(unit.index, number["row_count"])
            taps = k.at(self.base["rows"], k.mul(row, (self.spec.row_taps + 1) * TAP_BYTES))
            source = k.at(self.base["source"], k.mul(image, number["source_image"]))
            target = k.at(self.base["target"], k.add(k.mul(image, number["target_image"]), k.mul(row, row_bytes)))
            if self.spec.blend_rows:
                self.row(source, taps, scratch)
            self.columns(scratch if self.spec.blend_rows else k.at(source, k.load(taps, I64)), target)

    def row(self, source: Value, taps: Value, scratch: Value) -> None:
        """The blended row of x, into scratch memory."""
        k = self.k
        lanes = k.target.lanes(self.compute)
        pointers, weights, addend = self.taps(source, taps, self.spec.row_taps)
        whole = k.b.and_(self.number["row_elements"], ir.Constant(I64, -lanes))
        for start, stop, width in ((0, whole, lanes), (whole, self.number["row_elements"], 1)):
            with k.loop(start, stop, width) as loop:
                blended = self.blend(pointers, weights, addend, self.dtype, width, k.mul(loop.index, self.dtype.itemsize))
                store_lanes(k, blended, k.at(scratch, k.mul(loop.index, self.compute.itemsize)), self.compute)

    def columns(self, row: Value, target: Value) -> None:
        k, number = self.k, self.number
        size = k.mul(number["inner"], self.result.itemsize)
        with k.loop(0, number["column_count"]) as column:
            entry = k.at(self.base["columns"], k.mul(column.index, (self.spec.column_taps + 1) * TAP_BYTES))
            place = k.at(target, k.mul(column.index, size))
            pointers, weights, addend = self.taps(row, entry, self.spec.column_taps, self.spec.blend_columns)
            if self.spec.step == "one":
                self.element(pointers, weights, addend, place, 1, ir.Constant(I64, 0))
            else:
                self.elements(pointers, weights, addend, place)

    def elements(self, pointers: list[Value], weights: list[Value], addend: Value, place: Value) -> None:
        k = self.k
        width = 1 if self.spec.step == "element" else k.target.lanes(self.compute)
        with k.loop(0, self.number["inner"], width, nonempty=True) as loop:
            self.element(pointers, weights, addend, place, width, loop.index)

    def element(self, pointers: list[Value], weights: list[Value], addend: Value, place: Value, width: int, index: Value) -> None:
        """One element of the result, or one vector of them."""
        k = self.k
        blended = self.blend(pointers, weights, addend, self.row_dtype, width, k.mul(index, self.row_dtype.itemsize))
        result = narrowed(k, blended, self.compute, self.result)
        store_lanes(k, result, k.at(place, k.mul(index, self.result.itemsize)), self.result)

    def taps(self, base: Value, entry: Value, count: int, blends: bool = True) -> tuple[list[Value], list[Value], Value]:
        """Where the taps are, their weights, and the addend."""
        k, kind = self.k, scalar_type(self.compute)
        pointers = [k.at(base, k.load(entry, I64, i * TAP_BYTES)) for i in range(count)]
        if not blends:
            return pointers, [], None
        weights = [k.load(entry, F64, i * TAP_BYTES + 8) for i in range(count + 1)]
        *weights, addend = weights if kind == F64 else [k.b.fptrunc(w, kind) for w in weights]
        return pointers, weights, addend

    def blend(self, pointers: list[Value], weights: list[Value], addend: Value, dtype: np.dtype, width: int, offset: Value) -> Value:
        """addend + sum of weight * value; without weights the value."""
        k = self.k
        values = [convert(k, load_lanes(k, k.at(pointer, offset), dtype, width), dtype, self.compute) for pointer in pointers]
        if not weights:
            return values[0]
        total = k.splat(addend, values[0].type)
        for value, weight in zip(values, weights, strict=True):
            total = k.fma(value, k.splat(weight, total.type), total)
        return total


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """What elements of a dtype are blended in."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def narrowed(k: Emitter, value: Value, compute: np.dtype, dtype: np.dtype) -> Value:
    """A blended register value as the result's dtype; to integers it truncates, and stays within their range."""
    if dtype.kind not in "iu" or compute.kind != "f":
        return convert(k, value, compute, dtype)
    kind = register_type(dtype, value.type.count)
    return k.intrinsic("llvm.fptosi.sat" if dtype.kind == "i" else "llvm.fptoui.sat", kind, [value], [kind, value.type])


@lowers(Resize, PictureResize)
def lower_resize(node: Resize, machine: Machine) -> list[Call]:
    """Rows are the positions along all axes that change but the last, columns those along the last; what follows is inner."""
    plan = _Plan(node)
    kernel, itemsize = plan.kernel(machine), node.x.type.dtype.itemsize
    images = math.prod(node.type.physical_shape[: plan.first])
    row_elements = plan.inner * node.x.type.shape[plan.last]
    scratch = Scratch(aligned(8 * row_elements))
    numbers = {"row_count": len(plan.rows), "column_count": len(plan.columns), "row_elements": row_elements, "inner": plan.inner}
    numbers |= {"source_image": node.x.type.nbytes // images, "target_image": node.type.nbytes // images, "scratch_bytes": scratch.nbytes}
    columns = plan.columns.copy()
    columns["offset"] *= compute_dtype(node.type.dtype).itemsize if kernel.blend_rows else itemsize
    rows = plan.rows.copy()
    rows["offset"] *= itemsize
    places = {"source": node.x, "target": node, "rows": Table(rows), "columns": Table(columns), "scratch": scratch}
    units = images * len(rows)
    seconds = node.type.size * (1e-10 if kernel.step == "vector" else 1e-9) * (kernel.row_taps + kernel.column_taps)
    return [Call(kernel, places | numbers, units, grain_for(units, seconds, machine.threads))]


class _Plan:
    """The axes of a Resize that change, from `first` to `last`, and the tables of taps, with offsets in elements."""

    def __init__(self, node: Resize) -> None:
        x, layout = node.x.type, node.type.layout
        taps = [tables(node, axis) for axis in range(x.rank)]
        changed = [axis for axis, (indices, weights) in enumerate(taps) if not _stays(indices, weights, x.shape[axis])] or [x.rank - 1]
        self.dtype, self.result, self.first, self.last = x.dtype, node.type.dtype, changed[0], changed[-1]
        if x.rank == 0 or layout != x.layout or (layout and self.first <= layout.axis):
            raise NoKernel("a resize of a scalar, or along or across a blocked axis")
        strides = [math.prod(x.physical_shape[axis + 1 :]) for axis in range(x.rank)]
        self.inner = strides[self.last]
        steps = [self.table(*taps[axis], strides[axis], node.extrapolation_value) for axis in range(self.first, self.last + 1)]
        *above, self.columns = steps
        self.rows = functools.reduce(_combine, above) if above else np.array([[(0, 1), (0, 0)]], TAP)

    def table(self, indices: np.ndarray, weights: np.ndarray, stride: int, value: float) -> np.ndarray:
        """The table of one axis: its taps, then the addend, which is `value` where a position lies outside of x."""
        outside = indices < 0
        table = np.zeros((indices.shape[0], indices.shape[1] + 1), TAP)
        table["offset"][:, :-1] = np.maximum(indices, 0) * stride
        table["weight"][:, :-1] = np.where(outside, 0, weights)
        table["weight"][:, -1] = np.where(outside.any(axis=1), value, 0)
        return table

    def kernel(self, machine: Machine) -> ResizeKernel:
        """The kernel for these tables."""
        rows, columns = _blends(self.rows), _blends(self.columns) or self.result != self.dtype
        lanes = machine.target.lanes(compute_dtype(self.result) if rows or columns else self.dtype)
        step = "one" if self.inner == 1 else "element" if self.inner % lanes else "vector"
        dtypes = (self.dtype, self.result) if rows or columns else (np.dtype(f"u{self.dtype.itemsize}"),) * 2
        return ResizeKernel(dtypes[0].str[1:], dtypes[1].str[1:], self.rows.shape[1] - 1, self.columns.shape[1] - 1, rows, columns, step)


def _stays(indices: np.ndarray, weights: np.ndarray, extent: int) -> bool:
    """Whether an axis keeps its elements as they are."""
    return indices.shape == (extent, 1) and bool((indices[:, 0] == np.arange(extent)).all() and (weights == 1).all())


def _blends(table: np.ndarray) -> bool:
    """Whether a table does more than choose."""
    return table.shape[1] != 2 or bool((table["weight"] != (1, 0)).any())


def _combine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The table of two axes, one after the other: every pair of positions, with every pair of taps."""
    rows, taps = len(a) * len(b), (a.shape[1] - 1) * (b.shape[1] - 1)
    table = np.zeros((rows, taps + 1), TAP)
    offsets = a["offset"][:, None, :-1, None] + b["offset"][None, :, None, :-1]
    weights = a["weight"][:, None, :-1, None] * b["weight"][None, :, None, :-1]
    table["offset"][:, :-1], table["weight"][:, :-1] = offsets.reshape(rows, taps), weights.reshape(rows, taps)
    through = np.outer(a["weight"][:, -1], b["weight"][:, :-1].sum(axis=1))
    table["weight"][:, -1] = (through + b["weight"][:, -1]).reshape(rows)
    return table
