"""ArgReduce: vectors of the best values so far and of where they were; across the axis, or along it where it is contiguous."""

from __future__ import annotations

import dataclasses as dc
import math
from typing import ClassVar

import llvmlite.ir as ir
import numpy as np

from ...engine.ops import ArgReduce
from ..common.llvm_convert import register_bytes
from .emit import I32, I64, Emitter, Value
from .kernel import Call, Kernel, Machine, NoKernel, grain_for, lowers
from .vectors import in_vectors, load_lanes, load_splat

SECONDS_PER_VECTOR = 1e-9
TILE_VECTORS = 64


@dc.dataclass(frozen=True)
class ArgReduceKernel(Kernel):
    """y[row, column] = position of the best of x[row, 0 .. extent, column]; `along`: there is one column.

    As in NumPy a NaN is better than any number. Of equals the first is taken, or with `last` the last.
    """

    parameters: ClassVar[tuple[str, ...]] = ("x*", "y*", "extent", "columns", "tile", "tiles")
    kind: str
    dtype: np.dtype
    last: bool
    along: bool

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one ArgReduceKernel."""

    def __init__(self, spec: ArgReduceKernel, k: Emitter) -> None:
        self.spec, self.k, self.size = spec, k, spec.dtype.itemsize
        self.lanes = k.target.vector_bytes // max(4, register_bytes(spec.dtype))
        self.index_type = ir.VectorType(I32, self.lanes)

    def write(self) -> None:
        k = self.k
        x, y = k.pointer("x"), k.pointer("y")
        self.extent, self.columns, tile, tiles = map(k.argument, ("extent", "columns", "tile", "tiles"))
        with k.units() as unit:
            row, number = k.divmod(unit.index, tiles)
            start = k.at(x, k.mul(k.mul(row, k.mul(self.extent, self.columns)), self.size))
            target = k.at(y, k.mul(k.mul(row, self.columns), 8))
            if self.spec.along:
                self.row_along(start, target)
            else:
                first = k.mul(number, tile)
                last = k.minimum(k.add(first, tile), self.columns)
                in_vectors(k, first, last, self.lanes, lambda at, _, mask: self.across(start, target, at, mask))

    def across(self, x: Value, y: Value, column: Value, mask: Value | None) -> None:
        """A vector of columns."""
        k = self.k
        x, y = k.at(x, k.mul(column, self.size)), k.at(y, k.mul(column, 8))
        step = k.mul(self.columns, self.size)
        initial = [load_lanes(k, x, self.spec.dtype, self.lanes, mask), k.splat(0, self.index_type)]
        with k.loop(1, self.extent, carried=initial) as loop:
            value = load_lanes(k, k.at(x, k.mul(loop.index, step)), self.spec.dtype, self.lanes, mask)
            position = k.splat(k.b.trunc(loop.index, I32), self.index_type)
            loop.carry(self.chosen(self.replaces(value, loop.values[0]), [value, position], loop.values))
        positions = k.b.zext(loop.results[1], ir.VectorType(I64, self.lanes))
        if mask is None:
            k.store(positions, y)
        else:
            k.masked_store(positions, y, mask)

    def row_along(self, x: Value, y: Value) -> None:
        """One row: every lane keeps its own best, then they are compared."""
        k = self.k
        numbers = ir.Constant(self.index_type, list(range(self.lanes)))
        initial = [load_splat(k, x, self.spec.dtype, self.lanes), k.splat(0, self.index_type)]
        whole = k.sub(self.extent, k.b.urem(self.extent, k.integer(self.lanes)))
        with k.loop(0, whole, self.lanes, carried=initial) as loop:
            loop.carry(self.advanced(x, loop.index, numbers, None, loop.values))
        with k.loop(whole, self.extent, self.lanes, carried=loop.results) as rest:
            rest.carry(self.advanced(x, rest.index, numbers, k.mask_below(k.sub(self.extent, whole), self.lanes), rest.values))
        best = rest.results
        while best[0].type.count > 1:
            half = best[0].type.count // 2
            low, high = ([k.shuffle(v, v, list(range(s, s + half))) for v in best] for s in (0, half))
            best = self.chosen(self.precedes(high, low), high, low)
        k.store(k.b.zext(k.b.extract_element(best[1], ir.Constant(I32, 0)), I64), y)

    def advanced(self, x: Value, index: Value, numbers: Value, mask: Value | None, best: list[Value]) -> list[Value]:
        """The best after one more vector of a row."""
        k = self.k
        value = load_lanes(k, k.at(x, k.mul(index, self.size)), self.spec.dtype, self.lanes, mask)
        position = k.b.add(numbers, k.splat(k.b.trunc(index, I32), self.index_type))
        better = self.replaces(value, best[0])
        return self.chosen(better if mask is None else k.b.and_(better, mask), [value, position], best)

    def chosen(self, condition: Value, new: list[Value], old: list[Value]) -> list[Value]:
        return [self.k.b.select(condition, a, b) for a, b in zip(new, old, strict=True)]

    def replaces(self, new: Value, old: Value) -> Value:
        """Whether a later value takes the place of an earlier one."""
        return self.k.b.not_(self.better(old, new)) if self.spec.last else self.better(new, old)

    def precedes(self, a: list[Value], b: list[Value]) -> Value:
        """Whether (value, position) a wins over b, in whatever order they lie."""
        b_ = self.k.b
        nearer = b_.icmp_signed(">" if self.spec.last else "<", a[1], b[1])
        return b_.or_(self.better(a[0], b[0]), b_.and_(b_.not_(self.better(b[0], a[0])), nearer))

    def better(self, a: Value, b: Value) -> Value:
        """Whether a is better than b: never of equals, nor of two NaN."""
        build, sign = self.k.b, ">" if self.spec.kind == "max" else "<"
        if self.spec.dtype.kind == "f":
            return build.and_(build.fcmp_unordered(sign, a, b), build.fcmp_ordered("ord", b, b))
        return (build.icmp_signed if self.spec.dtype.kind == "i" else build.icmp_unsigned)(sign, a, b)


@lowers(ArgReduce)
def lower_arg_reduce(node: ArgReduce, machine: Machine) -> list[Call]:
    """One call: rows are what lies before the axis, columns what lies behind."""
    x = node.x.type
    if x.layout or node.type.layout:
        raise NoKernel("an arg-reduction of a blocked value")
    if x.shape[node.axis] >= 2**31:
        raise NoKernel("an axis of more than 2**31 elements")
    rows, columns = math.prod(x.shape[: node.axis]), math.prod(x.shape[node.axis + 1 :])
    lanes = machine.target.vector_bytes // max(4, register_bytes(x.dtype))
    tile = min(columns, TILE_VECTORS * lanes)
    units = rows * -(-columns // tile)
    numbers = {"extent": x.shape[node.axis], "columns": columns, "tile": tile, "tiles": -(-columns // tile)}
    seconds = x.size / lanes * SECONDS_PER_VECTOR
    kernel = ArgReduceKernel(node.kind, x.dtype, node.last_index, columns == 1)
    return [Call(kernel, {"x": node.x, "y": node} | numbers, units, grain_for(units, seconds, machine.threads))]
