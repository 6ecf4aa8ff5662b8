"""Reduce over the channels of a blocked value, whose lanes lie across the vectors: each result is one vector's lanes combined."""

from __future__ import annotations

import dataclasses as dc
import functools
import math
from typing import ClassVar

import numpy as np

from ...engine.ops import Reduce
from ..common.llvm_convert import splat
from ..common.llvm_functions import EMITTERS
from .emit import I64, Emitter, Value
from .kernel import Argument, Call, Kernel, Machine, NoKernel, Table, grain_for, lowers
from .reduce import CHAINS, COMBINE, SECONDS_PER_VECTOR, neutral, reduced_space, reduction
from .space import UNIT_SECONDS, Dimension, collapse, walk, walk_arguments, walk_parameters
from .vectors import in_vectors, store_lanes

F4 = np.dtype(np.float32)
PARTS = ("whole", "last")
"""Blocks of which every lane is a channel, and the last one of which only some are."""


@dc.dataclass(frozen=True)
class ReduceLanesKernel(Kernel):
    """y[row, column] = combination over points, steps and lanes of x[row, point, step, column, lane].

    A point is an offset in bytes in a table, once for the whole blocks and once for the last one, of which `rest` lanes count; steps
    lie a stride in bytes apart, columns `column_stride` in x; in y they are contiguous. With `alone` there is one column.
    """

    parameters: ClassVar[tuple[str, ...]] = (
        *walk_parameters(("x", "y")),
        *(f"{part}_{name}" for part in PARTS for name in ("points*", "count", "steps", "stride")),
        *("rest", "columns", "column_stride", "column_tile", "count"),
    )
    kind: str
    alone: bool

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one ReduceLanesKernel."""

    def __init__(self, spec: ReduceLanesKernel, k: Emitter) -> None:
        self.spec, self.k, self.lanes = spec, k, k.target.lanes(F4)
        self.neutral = splat(k, neutral(spec.kind, F4), F4, self.lanes)

    def write(self) -> None:
        k = self.k
        self.column_stride, self.count = k.argument("column_stride"), k.argument("count")
        columns, tile = k.argument("columns"), k.argument("column_tile")
        last_mask = k.mask_below(k.argument("rest"), self.lanes)
        self.parts = [self.part(name, mask) for name, mask in zip(PARTS, (None, last_mask), strict=True)]
        with walk(k, ("x", "y")) as (inner, (x, y)):
            if self.spec.alone:
                self.single(x, y)
            else:
                first = k.mul(inner, tile)
                some = functools.partial(self.several, x, y, k.sub(columns, 1))
                in_vectors(k, first, k.minimum(k.add(first, tile), columns), self.lanes, some)

    def part(self, name: str, mask: Value | None) -> Part:
        k = self.k
        count, steps, stride = (k.argument(f"{name}_{number}") for number in ("count", "steps", "stride"))
        return Part(k.pointer(f"{name}_points"), count, steps, stride, mask)

    def several(self, x: Value, y: Value, last: Value, first: Value, _: int, mask: Value | None) -> None:
        """As many columns as there are lanes, one accumulator each. Where there are fewer, the last one is read again."""
        k = self.k
        columns = [k.add(first, i) for i in range(self.lanes)]
        places = [k.at(x, k.mul(k.minimum(c, last) if mask else c, self.column_stride)) for c in columns]
        values = [self.neutral] * self.lanes
        for part in self.parts:
            with k.loop(0, part.count, carried=values) as point:
                offset = k.load(k.at(part.points, k.mul(point.index, 8)), I64)
                with k.loop(0, part.steps, carried=point.values) as step:
                    at = k.add(offset, k.mul(step.index, part.stride))
                    step.carry([self.combine(v, self.load(k.at(p, at), part.mask)) for v, p in zip(step.values, places, strict=True)])
                point.carry(step.results)
            values = point.results
        store_lanes(k, self.finished(self.gathered(values)), k.at(y, k.mul(first, F4.itemsize)), F4, mask)

    def single(self, x: Value, y: Value) -> None:
        """One column, in several chains over the steps."""
        k, values = self.k, [self.neutral] * CHAINS
        for part in self.parts:
            with k.loop(0, part.count, carried=values) as point:
                start = k.at(x, k.load(k.at(part.points, k.mul(point.index, 8)), I64))
                whole = k.sub(part.steps, k.b.urem(part.steps, k.integer(CHAINS)))
                with k.loop(0, whole, CHAINS, carried=point.values) as loop:
                    places = [k.at(start, k.mul(k.add(loop.index, c), part.stride)) for c in range(CHAINS)]
                    loop.carry([self.combine(v, self.load(p, part.mask)) for v, p in zip(loop.values, places, strict=True)])
                with k.loop(whole, part.steps, carried=loop.results[:1]) as rest:
                    value = self.load(k.at(start, k.mul(rest.index, part.stride)), part.mask)
                    rest.carry([self.combine(rest.values[0], value)])
                point.carry([*rest.results, *loop.results[1:]])
            values = point.results
        total = functools.reduce(self.combine, values)
        while total.type.count > 1:
            half = total.type.count // 2
            total = self.combine(*(k.shuffle(total, total, list(range(s, s + half))) for s in (0, half)))
        store_lanes(k, self.finished(total), y, F4)

    def gathered(self, values: list[Value]) -> Value:
        """Lane i of the result is all lanes of vector i combined: halves of groups of lanes meet, and groups get twice as many."""
        width = self.lanes
        while width > 1:
            half = len(values) // 2
            starts = [source + group for group in range(0, self.lanes, width) for source in (0, self.lanes)]
            orders = [[s + lane for s in starts for lane in range(first, first + width // 2)] for first in (0, width // 2)]
            pairs = zip(values[:half], values[half:], strict=True)
            values = [self.combine(*(self.k.shuffle(a, b, order) for order in orders)) for a, b in pairs]
            width //= 2
        return values[0]

    def load(self, pointer: Value, mask: Value | None) -> Value:
        """A vector, its padding replaced by the neutral element."""
        value = self.k.load(pointer, self.neutral.type)
        return value if mask is None else self.k.b.select(mask, value, self.neutral)

    def combine(self, a: Value, b: Value) -> Value:
        return EMITTERS[COMBINE[self.spec.kind]](self.k, F4, a, b)

    def finished(self, total: Value) -> Value:
        """The result from what was accumulated."""
        k = self.k
        if self.spec.kind != "mean":
            return total
        return k.b.fdiv(total, k.splat(k.b.sitofp(self.count, total.type.element), total.type))


@dc.dataclass(frozen=True)
class Part:
    """What is combined for one result: points of a table, steps at each; the lanes that count, all where there is no mask."""

    points: Value
    count: Value
    steps: Value
    stride: Value
    mask: Value | None


@lowers(Reduce)
def lower_reduce_of_lanes(node: Reduce, machine: Machine) -> list[Call]:
    """One call, for float32 values that are reduced over their blocked axis."""
    x, y, lanes = node.x.type, node.type, machine.target.lanes(F4)
    layout = x.layout
    if layout is None or layout.axis not in node.axes or y.layout is not None or x.dtype != F4 or layout.block != lanes or not x.size:
        raise NoKernel(f"expected float32 values, not {x}, reduced over the axis that is blocked by {lanes}, to plain ones")
    space = reduced_space(node)[:-1]
    before, blocks, after = collapse(space[: layout.axis]), space[layout.axis], collapse(space[layout.axis + 1 :])
    kept, reduced = ([d for d in (*before, *after) if (d.strides[1] != 0) is stays] for stays in (True, False))
    columns = kept.pop() if any(d.strides[1] for d in after) else Dimension(1, (0, 0))
    whole, rest = divmod(x.shape[layout.axis], lanes)
    starts = (0, whole), (whole * blocks.strides[0], min(rest, 1))
    parts = [(offset, [Dimension(count, blocks.strides), *reduced]) for offset, count in starts]
    numbers: dict[str, Argument] = {"x": node.x, "y": node, "rest": rest, "count": math.prod(x.shape[a] for a in node.axes)}
    for name, (offset, dimensions) in zip(PARTS, parts, strict=True):
        points, steps = reduction(dimensions)
        numbers |= {f"{name}_points": Table(points + offset), f"{name}_count": len(points)}
        numbers |= {f"{name}_steps": steps.extent, f"{name}_stride": steps.strides[0]}
    deep = sum(math.prod(d.extent for d in dimensions) for _, dimensions in parts) * SECONDS_PER_VECTOR
    return [_call(node.kind, numbers, kept, columns, deep, machine)]


def _call(kind: str, numbers: dict[str, Argument], kept: list[Dimension], columns: Dimension, deep: float, machine: Machine) -> Call:
    """deep: seconds for one column."""
    lanes = machine.target.lanes(F4)
    tile = min(columns.extent, max(1, round(UNIT_SECONDS / deep / lanes)) * lanes)
    walked, units = walk_arguments(("x", "y"), kept, deep * tile, -(-columns.extent // tile))
    walked |= {"columns": columns.extent, "column_stride": columns.strides[0], "column_tile": tile}
    total = deep * columns.extent * math.prod(d.extent for d in kept)
    kernel = ReduceLanesKernel(kind, columns.extent == 1)
    return Call(kernel, numbers | walked, units, grain_for(units, total, machine.threads))
