"""The one kernel family that moves data: y[i, j, k...] = x[i, j, k...], each side with its own stride along every dimension."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence
from typing import ClassVar

import llvmlite.ir as ir
import numpy as np

from .emit import I8, I64, Emitter, Value
from .kernel import Kernel
from .space import outer_offsets

F4 = np.dtype(np.float32)
SIDES = ("source", "target")


@dc.dataclass(frozen=True)
class CopyKernel(Kernel):
    """A copy of many dimensions; the last two, rows and columns, are walked in tiles; a table has the others. All strides are bytes.

    form: "run" copies columns that are contiguous on both sides (their unit is the byte); "splat" repeats one element along
    contiguous columns; "transpose" has rows contiguous in the source and columns contiguous in the target; "scalar" does any.
    "unzip" and "zip" are transposes with `factor` rows that alternate on one side: [a0 b0 c0 a1 b1 c1 ...] to or from rows a, b, c.
    A tile has its own strides, so that a dimension that a blocked layout splits is still one dimension here.
    A transpose reads `columns_read` columns and writes zeros in those from there to `columns`.
    """

    parameters: ClassVar[tuple[str, ...]] = (
        *("source*", "target*", "outer*", "rank"),
        *("rows", "row_tiles", "row_tile", "row_tile_source", "row_tile_target", "row_source", "row_target"),
        *("columns", "column_tiles", "column_tile", "column_tile_source", "column_tile_target", "column_source", "column_target"),
        "columns_read",
    )
    form: str
    itemsize: int
    factor: int = 0

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one CopyKernel."""

    def __init__(self, spec: CopyKernel, k: Emitter) -> None:
        self.k, self.itemsize, self.factor = k, spec.itemsize, spec.factor
        self.element = ir.IntType(8 * spec.itemsize)
        self.base = {name: k.pointer(name) for name in ("source", "target", "outer")}
        self.number = {name: k.argument(name) for name in spec.parameters if not name.endswith("*")}
        self.body: Callable[[Value, Value, Value, Value, Value], None] = getattr(self, spec.form)

    def write(self) -> None:
        k, number = self.k, self.number
        with k.units() as unit:
            rest, column = k.divmod(unit.index, number["column_tiles"])
            rest, row = k.divmod(rest, number["row_tiles"])
            moved = outer_offsets(k, self.base["outer"], number["rank"], rest, arrays=2)
            source, target = (k.add(offset, self.tile_offset(row, column, side)) for offset, side in zip(moved, SIDES, strict=True))
            rows = self.left("rows", row, "row_tile")
            columns, read = self.left("columns", column, "column_tile"), self.left("columns_read", column, "column_tile")
            self.body(k.at(self.base["source"], source), k.at(self.base["target"], target), rows, columns, read)

    def tile_offset(self, row: Value, column: Value, side: str) -> Value:
        k, number = self.k, self.number
        return k.add(k.mul(row, number[f"row_tile_{side}"]), k.mul(column, number[f"column_tile_{side}"]))

    def left(self, extent: str, tile: Value, size: str) -> Value:
        """How many of an extent's elements lie in this tile."""
        k = self.k
        return k.minimum(k.sub(self.number[extent], k.mul(tile, self.number[size])), self.number[size])

    def run(self, source: Value, target: Value, rows: Value, columns: Value, _: Value) -> None:
        k, number = self.k, self.number
        with k.loop(0, rows, nonempty=True) as row:
            copy_bytes(
                k, k.at(source, k.mul(row.index, number["row_source"])), k.at(target, k.mul(row.index, number["row_target"])), columns
            )

    def splat(self, source: Value, target: Value, rows: Value, columns: Value, _: Value) -> None:
        k, number = self.k, self.number
        lanes = k.target.vector_bytes // self.itemsize
        with k.loop(0, rows, nonempty=True) as row:
            start = k.at(target, k.mul(row.index, number["row_target"]))
            value = k.load(k.at(source, k.mul(row.index, number["row_source"])), self.element)
            values = k.splat(value, ir.VectorType(self.element, lanes))

            def piece(first: Value, count: int, start: Value = start, value: Value = value, values: Value = values) -> None:
                part = value if count == 1 else values if count == lanes else k.shuffle(values, values, [0] * count)
                k.store(part, start, k.mul(first, self.itemsize), align=self.itemsize)

            in_pieces(k, columns, lanes, piece)

    def scalar(self, source: Value, target: Value, rows: Value, columns: Value, _: Value) -> None:
        k, number = self.k, self.number
        with k.loop(0, rows, nonempty=True) as row:
            begin = k.at(source, k.mul(row.index, number["row_source"]))
            start = k.at(target, k.mul(row.index, number["row_target"]))
            with k.loop(0, columns, nonempty=True) as column:
                value = k.load(begin, self.element, k.mul(column.index, number["column_source"]))
                k.store(value, start, k.mul(column.index, number["column_target"]))

    def unzip(self, source: Value, target: Value, _rows: Value, columns: Value, _: Value) -> None:
        self.alternate(columns, (source, None), (target, self.number["row_target"]))

    def zip(self, source: Value, target: Value, _rows: Value, columns: Value, _: Value) -> None:
        self.alternate(columns, (source, self.number["row_source"]), (target, None))

    def alternate(self, columns: Value, source: tuple[Value, Value | None], target: tuple[Value, Value | None]) -> None:
        """Between rows a stride apart and, where that is None, memory in which they alternate: whole vectors, then single columns."""
        k, factor = self.k, self.factor
        lanes = k.target.vector_bytes // self.itemsize
        kind = ir.VectorType(self.element, lanes)
        elements = range(lanes * factor)
        if source[1] is None:
            patterns = [[divmod(e, lanes) for e in elements if e % factor == row] for row in range(factor)]
        else:
            patterns = [[(e % factor, e // factor) for e in elements if e // lanes == vector] for vector in range(factor)]
        whole = k.b.and_(columns, ir.Constant(I64, -lanes))
        with k.loop(0, whole, lanes) as loop:
            loaded = [k.load(self.part(source, loop.index, i, lanes), kind) for i in range(factor)]
            for i, pattern in enumerate(patterns):
                k.store(picked(k, loaded, pattern), self.part(target, loop.index, i, lanes))
        with k.loop(whole, columns) as rest:
            for i in range(factor):
                k.store(k.load(self.part(source, rest.index, i, 1), self.element), self.part(target, rest.index, i, 1))

    def part(self, side: tuple[Value, Value | None], column: Value, number: int, lanes: int) -> Value:
        """Row `number` at a column, or the vector `number` of those that begin there."""
        k, (pointer, stride) = self.k, side
        if stride is not None:
            return k.at(pointer, k.add(k.mul(stride, number), k.mul(column, self.itemsize)))
        return k.at(pointer, k.add(k.mul(column, self.factor * self.itemsize), number * lanes * self.itemsize))

    def transpose(self, source: Value, target: Value, rows: Value, columns: Value, read: Value) -> None:
        k, number = self.k, self.number
        lanes = k.target.lanes(F4)
        with k.loop(0, columns, lanes, nonempty=True) as column, k.loop(0, rows, lanes, nonempty=True) as row:
            begin = k.add(k.mul(column.index, number["column_source"]), k.mul(row.index, self.itemsize))
            start = k.add(k.mul(row.index, number["row_target"]), k.mul(column.index, self.itemsize))
            counts = [k.sub(count, column.index) for count in (columns, read)]
            self.block(k.at(source, begin), k.at(target, start), k.sub(rows, row.index), *counts)

    def block(self, source: Value, target: Value, rows: Value, columns: Value, read: Value) -> None:
        """One square of at most lanes × lanes elements: without masks where it is whole."""
        k, lanes = self.k, self.k.target.lanes(F4)
        kind = ir.VectorType(self.element, lanes)
        is_whole = k.b.icmp_signed(">=", k.minimum(k.minimum(rows, columns), read), ir.Constant(I64, lanes))
        with k.b.if_else(is_whole) as (whole, partial):
            with whole:
                loaded = [k.load(self.line(source, "column_source", j), kind) for j in range(lanes)]
                for i, line in enumerate(transposed(k, loaded, self.itemsize)):
                    k.store(line, self.line(target, "row_target", i))
            with partial:
                loaded = [self.partial_load(source, kind, j, rows, read) for j in range(lanes)]
                for i, line in enumerate(transposed(k, loaded, self.itemsize)):
                    mask = k.mask_below(self.unless_past(i, rows, columns), lanes)
                    k.masked_store(line, self.line(target, "row_target", i), mask)

    def partial_load(self, source: Value, kind: ir.VectorType, line: int, rows: Value, read: Value) -> Value:
        mask = self.k.mask_below(self.unless_past(line, read, rows), kind.count)
        return self.k.masked_load(self.line(source, "column_source", line), kind, mask)

    def line(self, pointer: Value, stride: str, index: int) -> Value:
        return self.k.at(pointer, self.k.mul(self.number[stride], index) if index else 0)

    def unless_past(self, line: int, lines: Value, count: Value) -> Value:
        """`count` for a line among the first `lines`, else 0."""
        return self.k.b.select(self.k.b.icmp_signed(">", lines, ir.Constant(I64, line)), count, ir.Constant(I64, 0))


def copy_bytes(k: Emitter, source: Value, target: Value, count: Value) -> None:
    """Copy `count` contiguous bytes."""

    def piece(first: Value, size: int) -> None:
        kind = I8 if size == 1 else ir.VectorType(I8, size)
        k.store(k.load(source, kind, first), target, first)

    in_pieces(k, count, k.target.vector_bytes, piece)


def in_pieces(k: Emitter, count: Value, lanes: int, piece: Callable[[Value, int], None]) -> None:
    """Cover range(count): `piece(first, lanes)` again and again, then each smaller power of two at most once."""
    quads = k.b.and_(count, ir.Constant(I64, -4 * lanes))
    whole = k.b.and_(count, ir.Constant(I64, -lanes))
    with k.loop(0, quads, 4 * lanes) as loop:
        for i in range(4):
            piece(k.add(loop.index, i * lanes), lanes)
    with k.loop(quads, whole, lanes) as loop:
        piece(loop.index, lanes)
    size = lanes // 2
    while size:
        with k.when(k.b.icmp_signed("!=", k.b.and_(count, ir.Constant(I64, size)), ir.Constant(I64, 0))):
            piece(k.b.and_(count, ir.Constant(I64, -2 * size)), size)
        size //= 2


def picked(k: Emitter, vectors: Sequence[Value], pattern: Sequence[tuple[int, int]]) -> Value:
    """Lane by lane (number of a vector, its lane); number -1 is zero."""
    kept, lanes = ir.Constant(vectors[0].type, [0] * len(pattern)), len(pattern)
    for number, vector in enumerate(vectors):
        kept = k.shuffle(kept, vector, [lanes + lane if own == number else i for i, (own, lane) in enumerate(pattern)])
    return kept


def transposed(k: Emitter, lines: list[Value], itemsize: int) -> list[Value]:
    """The columns of a square of elements, given its rows as vectors.

    First inside groups of 128 bits, by interleaving lines; then between the groups, by picking even and odd ones: each is one
    cheap shuffle on every vector unit.
    """
    lanes = len(lines)
    group = min(lanes, 16 // itemsize)
    inside = [_interleaved(k, lines[start : start + group]) for start in range(0, lanes, group)]
    columns = [_unzipped(k, [block[j] for block in inside], group) for j in range(group)]
    return [columns[j][g] for g in range(lanes // group) for j in range(group)]


def _interleaved(k: Emitter, lines: list[Value]) -> list[Value]:
    """Within each group of len(lines) lanes: the transposed square."""
    group, lanes = len(lines), lines[0].type.count
    half = group // 2
    low = [lane for g in range(0, lanes, group) for i in range(half) for lane in (g + i, lanes + g + i)]
    high = [lane + half for lane in low]
    for _ in range(group.bit_length() - 1):
        lines = [k.shuffle(lines[i], lines[i + half], order) for i in range(half) for order in (low, high)]
    return lines


def _unzipped(k: Emitter, lines: list[Value], group: int) -> list[Value]:
    """Line g of the result: group g of every line, side by side."""
    if len(lines) == 1:
        return lines
    lanes = lines[0].type.count
    even = [lane for lane in range(2 * lanes) if lane // group % 2 == 0]
    odd = [lane + group for lane in even]
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    halves = [_unzipped(k, [k.shuffle(a, b, order) for a, b in pairs], group) for order in (even, odd)]
    return [line for pair in zip(*halves, strict=True) for line in pair]
