"""MaxPool and AveragePool on blocked values: a tile of neighbouring outputs stays in registers.

First every input column that the tile needs is reduced over the taps of all axes but the last, then neighbouring columns are
combined. Padding costs nothing: the lists of taps leave out what is outside, and the tiles at both ends leave out columns.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ...engine.ops import AveragePool, MaxPool
from ..common.llvm_functions import EMITTERS
from .emit import I64, Emitter, Value
from .kernel import Call, Kernel, Machine, NoKernel, Table, grain_for, lowers
from .vectors import load_lanes, load_splat, store_lanes

F4 = np.dtype(np.float32)
ROW_BYTES = 24
MOST_OUTPUTS = 16
SPARE_REGISTERS = 4
UNIT_SECONDS, SECONDS_PER_VECTOR = 3e-6, 1e-9

Columns = tuple[int, int]
"""The range of a tile's columns that lie inside the input."""


@dc.dataclass(frozen=True)
class PoolKernel(Kernel):
    """y[row, o] = max or mean over taps t and r of x[row + t, o * stride + r * dilation], for vectors of `lanes` channels.

    Tables: a row (3 i64) is (bytes from the plane to its first tap's column 0, first tap, last tap); a tap (i64) is bytes from there.
    For means, `row_scales` and `column_scales` are float32 factors whose product is one over the count.
    """

    parameters: ClassVar[tuple[str, ...]]
    kind: str
    dtype: np.dtype
    lanes: int
    outputs: int
    stride: int
    dilation: int
    taps: int
    """Along the last axis."""
    segments: tuple[Columns, ...]

    @property
    def signature(self) -> tuple[str, ...]:
        numbers = (f"segment{i}_{what}" for i in range(len(self.segments)) for what in ("start", "tiles"))
        addresses = ("x*", "y*", "rows*", "tap_offsets*", "row_scales*", "column_scales*")
        return (*addresses, "row_count", "row_tile", "row_tiles", "x_plane", "y_plane", "y_row", "last", "pad", *numbers)

    @property
    def step(self) -> int:
        """Bytes from one vector to the next."""
        return self.lanes * self.dtype.itemsize

    @property
    def columns(self) -> list[int]:
        """Every column that some output of a tile reads."""
        return tile_columns(self.outputs, self.stride, self.dilation, self.taps)

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one PoolKernel."""

    def __init__(self, spec: PoolKernel, k: Emitter) -> None:
        self.spec, self.k = spec, k
        self.base = {name.rstrip("*"): k.pointer(name.rstrip("*")) for name in spec.signature if name.endswith("*")}
        self.number = {name: k.argument(name) for name in spec.signature if not name.endswith("*")}
        self.step = spec.step

    def write(self) -> None:
        k, number = self.k, self.number
        with k.units() as unit:
            plane, tile = k.divmod(unit.index, number["row_tiles"])
            x = k.at(self.base["x"], k.sub(k.mul(plane, number["x_plane"]), k.mul(number["pad"], self.step)))
            y = k.at(self.base["y"], k.mul(plane, number["y_plane"]))
            start = k.mul(tile, number["row_tile"])
            with k.loop(start, k.minimum(k.add(start, number["row_tile"]), number["row_count"]), nonempty=True) as row:
                self.row(row.index, x, k.at(y, k.mul(row.index, number["y_row"])))

    def row(self, index: Value, x: Value, y: Value) -> None:
        k, spec = self.k, self.spec
        entry = k.at(self.base["rows"], k.mul(index, ROW_BYTES))
        offset, self.first, self.last = (k.load(entry, I64, 8 * i) for i in range(3))
        x = k.at(x, offset)
        scale = load_splat(k, k.at(self.base["row_scales"], k.mul(index, 4)), F4, spec.lanes) if spec.kind == "average" else None
        for i, inside in enumerate(spec.segments):
            with k.loop(0, self.number[f"segment{i}_tiles"], nonempty=True) as tile:
                place = k.add(self.number[f"segment{i}_start"], k.mul(tile.index, spec.outputs))
                first = k.minimum(place, self.number["last"])
                values = self.reduce_columns(k.at(x, k.mul(first, spec.stride * self.step)), inside)
                self.finish(values, first, y, scale)

    def reduce_columns(self, x: Value, inside: Columns) -> dict[int, Value]:
        """The columns inside the input, reduced over all taps but those of the last axis."""
        k = self.k
        columns = [c for c in self.spec.columns if inside[0] <= c < inside[1]]

        def loaded(tap: Value) -> list[Value]:
            start = k.at(x, k.load(k.at(self.base["tap_offsets"], k.mul(tap, 8)), I64))
            return [load_lanes(k, k.at(start, c * self.step), self.spec.dtype, self.spec.lanes) for c in columns]

        with k.loop(k.add(self.first, 1), self.last, carried=loaded(self.first)) as tap:
            tap.carry([self.combine(a, b) for a, b in zip(tap.values, loaded(tap.index), strict=True)])
        return dict(zip(columns, tap.results, strict=True))

    def combine(self, a: Value, b: Value) -> Value:
        return EMITTERS["max" if self.spec.kind == "max" else "add"](self.k, self.spec.dtype, a, b)

    def finish(self, values: dict[int, Value], first: Value, y: Value, scale: Value | None) -> None:
        """Combine the columns of each output and store it."""
        k, spec = self.k, self.spec
        y = k.at(y, k.mul(first, self.step))
        for j in range(spec.outputs):
            own = [values[c] for r in range(spec.taps) if (c := j * spec.stride + r * spec.dilation) in values]
            total: Value = functools.reduce(self.combine, own)
            if scale is not None:
                place = k.at(self.base["column_scales"], k.mul(k.add(first, j), 4))
                factor: Value = k.b.fmul(scale, load_splat(k, place, F4, spec.lanes))
                total = k.b.fmul(total, factor if total.type == factor.type else k.b.fpext(factor, total.type))
            store_lanes(k, total, k.at(y, j * self.step), spec.dtype)


def tile_columns(outputs: int, stride: int, dilation: int, taps: int) -> list[int]:
    """Every column that `outputs` neighbouring windows read, from the first one's first."""
    return sorted({j * stride + r * dilation for j in range(outputs) for r in range(taps)})


@dc.dataclass(frozen=True)
class Axis:
    """One spatial axis of a pooling."""

    size: int
    out: int
    kernel: int
    stride: int
    before: int
    dilation: int
    counts: np.ndarray
    """For each output how many taps count in a mean."""

    def inside(self, output: int) -> list[int]:
        """The input positions of an output's taps that are inside."""
        start = output * self.stride - self.before
        return [p for r in range(self.kernel) if 0 <= (p := start + r * self.dilation) < self.size]


WHOLE = Axis(1, 1, 1, 1, 0, 1, np.ones(1, np.int64))
"""An axis of extent one."""


@lowers(MaxPool, AveragePool)
def lower_pool(node: MaxPool | AveragePool, machine: Machine) -> list[Call]:
    """One call."""
    x, y = node.x.type, node.type
    layout = x.layout
    if layout is None or layout.axis != 1 or y.layout != layout:
        raise NoKernel(f"expected blocked channels, got {x} and {y}")
    axes = pool_axes(node)
    if any(not axis.inside(o) for axis in axes for o in range(axis.out)):
        raise NoKernel("a window lies outside the input")
    registers = max(1, machine.target.registers * machine.target.lanes(x.dtype) // layout.block - SPARE_REGISTERS)
    *outer, last = axes if outputs_for(axes[-1], registers) else (*axes, WHOLE)
    outputs = outputs_for(last, registers)
    segments = tile_segments(last, outputs)
    kind = "max" if isinstance(node, MaxPool) else "average"
    inside = tuple(columns for _, _, columns in segments)
    kernel = PoolKernel(kind, x.dtype, layout.block, outputs, last.stride, last.dilation, last.kernel, inside)
    numbers = pool_numbers(kernel, outer, last, segments)
    units = math.prod(y.physical_shape[:2]) * numbers["row_tiles"]
    tables = row_tables(outer, last, kernel.step)
    seconds = units * numbers["row_tile"] * row_seconds(kernel, outer, last)
    return [Call(kernel, {"x": node.x, "y": node} | tables | numbers, units, grain_for(units, seconds, machine.threads))]


def pool_numbers(kernel: PoolKernel, outer: Sequence[Axis], last: Axis, segments: Sequence[tuple[int, int, Columns]]) -> dict[str, int]:
    """The numbers among the kernel's arguments."""
    rows, step = math.prod(axis.out for axis in outer), kernel.step
    x_plane = math.prod(axis.size for axis in (*outer, last)) * step
    tile = max(1, min(rows, round(UNIT_SECONDS / row_seconds(kernel, outer, last))))
    numbers = {"row_count": rows, "row_tile": tile, "row_tiles": -(-rows // tile), "last": last.out - kernel.outputs, "pad": last.before}
    numbers |= {"x_plane": x_plane, "y_plane": rows * last.out * step, "y_row": last.out * step}
    for i, (start, tiles, _) in enumerate(segments):
        numbers |= {f"segment{i}_start": start, f"segment{i}_tiles": tiles}
    return numbers


def row_seconds(kernel: PoolKernel, outer: Sequence[Axis], last: Axis) -> float:
    """The time of one row of outputs."""
    return SECONDS_PER_VECTOR * math.prod(a.kernel for a in outer) * len(kernel.columns) * -(-last.out // kernel.outputs)


def pool_axes(node: MaxPool | AveragePool) -> list[Axis]:
    """The spatial axes, outermost first."""
    axes = []
    for i, (size, out) in enumerate(zip(node.x.type.shape[2:], node.type.shape[2:], strict=True)):
        counts = node.counts(i) if isinstance(node, AveragePool) else np.ones(out, np.int64)
        axes.append(Axis(size, out, node.kernel[i], node.strides[i], node.pads[i][0], node.dilations[i], counts))
    return axes


def outputs_for(axis: Axis, registers: int) -> int:
    """Outputs of a tile whose columns fit into registers, in equal tiles; 0 where not even one does."""
    fitting = [
        n for n in range(1, min(axis.out, MOST_OUTPUTS) + 1) if len(tile_columns(n, axis.stride, axis.dilation, axis.kernel)) <= registers
    ]
    return -(-axis.out // -(-axis.out // fitting[-1])) if fitting else 0


def tile_segments(axis: Axis, outputs: int) -> list[tuple[int, int, Columns]]:
    """Runs of tiles that have the same columns inside the input: (first output, tiles, columns). The last tile overlaps the one before."""
    span = tile_columns(outputs, axis.stride, axis.dilation, axis.kernel)[-1] + 1
    tiles = []
    for start in range(0, axis.out, outputs):
        origin = min(start, axis.out - outputs) * axis.stride - axis.before
        tiles.append((start, (max(0, -origin), min(span, axis.size - origin))))
    groups = [list(group) for _, group in itertools.groupby(tiles, key=lambda tile: tile[1])]
    return [(group[0][0], len(group), group[0][1]) for group in groups]


def row_tables(outer: Sequence[Axis], last: Axis, step: int) -> dict[str, Table]:
    """The tables that PoolKernel describes; rows with the same taps share their list."""
    strides = [step * last.size * math.prod(a.size for a in outer[i + 1 :]) for i in range(len(outer))]
    taps: list[int] = []
    known: dict[tuple[int, ...], int] = {}
    rows = []
    for outputs in itertools.product(*(range(a.out) for a in outer)):
        positions = itertools.product(*(a.inside(o) for a, o in zip(outer, outputs, strict=True)))
        offsets = [sum(p * s for p, s in zip(position, strides, strict=True)) for position in positions]
        relative = tuple(offset - offsets[0] for offset in offsets)
        if relative not in known:
            known[relative] = len(taps)
            taps += relative
        rows.append((offsets[0], known[relative], known[relative] + len(relative)))
    counts = [math.prod(c) for c in itertools.product(*(a.counts.tolist() for a in outer))]
    scales = {"row_scales": 1 / np.array(counts), "column_scales": 1 / last.counts}
    tables = {"rows": np.array(rows, np.int64), "tap_offsets": np.array(taps, np.int64)}
    return {name: Table(array) for name, array in (tables | {n: s.astype(F4) for n, s in scales.items()}).items()}
