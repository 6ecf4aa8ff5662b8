"""Softmax and its logarithm along any axis: across columns, along rows, and many short rows in one vector."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from ...engine.ops import Softmax
from ..common import llvm_math as vm
from .emit import Emitter, Value
from .kernel import Call, Kernel, Machine, NoKernel, grain_for, lowers
from .space import UNIT_SECONDS, Dimension, collapse, dimensions, physical_strides, walk, walk_arguments, walk_parameters
from .vectors import in_vectors, load_lanes, store_lanes

SECONDS_PER_VECTOR = 1e-8
PAIR = ("x", "y")
F16 = np.dtype(np.float16)


@dc.dataclass(frozen=True)
class SoftmaxColumnsKernel(Kernel):
    """y[row, i, column] along i, `stride` bytes apart; vectors run across the columns, which are contiguous."""

    parameters: ClassVar[tuple[str, ...]] = (*walk_parameters(PAIR), "columns", "column_tile", "extent", "stride")
    dtype: np.dtype
    log: bool

    def write(self, k: Emitter) -> None:
        columns, tile, extent, stride = map(k.argument, ("columns", "column_tile", "extent", "stride"))
        lanes = k.target.lanes(self.dtype)
        with walk(k, PAIR) as (inner, pointers):

            def some(first: Value, vectors: int, mask: Value | None) -> None:
                x, y = (k.at(p, k.mul(first, self.dtype.itemsize)) for p in pointers)
                pieces = [Piece(k.integer(0), extent, mask)]
                Passes(k, self.dtype, self.log, (x, y), stride, pieces, vectors, lanes).run(lambda value, _: value)

            first = k.mul(inner, tile)
            in_vectors(k, first, k.minimum(k.add(first, tile), columns), lanes, some, wide=2)


@dc.dataclass(frozen=True)
class SoftmaxRowsKernel(Kernel):
    """y[row, i] along i, which runs through the lanes of vectors `stride` bytes apart: `whole` ones and, up to `end`, a partial one.

    The lanes of the last one from `rest` on are memory of somebody else, or they are `padding`, in which zeros are written.
    """

    parameters: ClassVar[tuple[str, ...]] = (*walk_parameters(PAIR), "whole", "end", "rest", "stride")
    dtype: np.dtype
    log: bool
    lanes: int
    padding: bool

    def write(self, k: Emitter) -> None:
        whole, end, rest, stride = map(k.argument, ("whole", "end", "rest", "stride"))
        pieces = [Piece(k.integer(0), whole, None), Piece(whole, end, k.mask_below(rest, self.lanes))]
        with walk(k, PAIR) as (_, pointers):
            passes = Passes(k, self.dtype, self.log, pointers, stride, pieces, 1, self.lanes, self.padding)
            passes.run(lambda value, combine: combine_groups(k, value, self.lanes, combine))


@dc.dataclass(frozen=True)
class SoftmaxShortKernel(Kernel):
    """y[row, i] along i for contiguous rows of so few elements that a vector holds whole ones."""

    parameters: ClassVar[tuple[str, ...]] = (*walk_parameters(PAIR), "columns", "column_tile")
    dtype: np.dtype
    log: bool
    extent: int

    def write(self, k: Emitter) -> None:
        columns, tile, lanes = k.argument("columns"), k.argument("column_tile"), k.target.lanes(self.dtype)
        step = lanes // self.extent * self.extent
        inside = None if step == lanes else k.mask_below(k.integer(step), lanes)
        with walk(k, PAIR) as (inner, (x, y)):
            first = k.mul(inner, tile)
            last = k.minimum(k.add(first, tile), columns)
            whole = k.sub(last, k.b.urem(k.sub(last, first), k.integer(step)))
            with k.loop(first, whole, step) as loop:
                self.vector(k, x, y, loop.index, inside)
            with k.when(k.b.icmp_signed("<", whole, last)):
                self.vector(k, x, y, whole, k.mask_below(k.sub(last, whole), lanes))

    def vector(self, k: Emitter, x: Value, y: Value, first: Value, mask: Value | None) -> None:
        offset, lanes = k.mul(first, self.dtype.itemsize), k.target.lanes(self.dtype)
        value = load_lanes(k, k.at(x, offset), self.dtype, lanes, mask)
        shifted = k.b.fsub(value, combine_groups(k, value, self.extent, larger))
        power = vm.exp(k, shifted)
        finish = finisher(k, combine_groups(k, power, self.extent, plus), self.log)
        store_lanes(k, finish(shifted if self.log else power), k.at(y, offset), self.dtype, mask)


Combine = Callable[[Emitter, Value, Value], Value]


def larger(k: Emitter, a: Value, b: Value) -> Value:
    """The maximum in one instruction. NaN may get lost in it: the sum of the powers is NaN whenever an element is."""
    return k.b.select(k.b.fcmp_ordered(">", a, b), a, b)


def plus(k: Emitter, a: Value, b: Value) -> Value:
    return k.b.fadd(a, b)


def finisher(k: Emitter, total: Value, log: bool) -> Callable[[Value], Value]:
    """What makes the result of exp(x - m), or of x - m for the logarithm, once the sum of the powers is known."""
    if log:
        logarithm = vm.log(k, total)
        return lambda shifted: k.b.fsub(shifted, logarithm)
    inverse = k.b.fdiv(k.splat(1.0, total.type), total)
    return lambda power: k.b.fmul(power, inverse)


def combine_groups(k: Emitter, value: Value, extent: int, combine: Combine) -> Value:
    """In every lane the combination over its group of `extent` lanes, of which as many as fit lie side by side.

    `window` combines `width` neighbours, counted round the group; the result takes those widths that add up to the extent.
    """
    lanes, result, window, done, width, left = value.type.count, None, value, 0, 1, extent

    def rotated(source: Value, distance: int) -> Value:
        whole = lanes // extent * extent
        order = [i // extent * extent + (i % extent + distance) % extent if i < whole else i for i in range(lanes)]
        return k.shuffle(source, source, order)

    while left:
        if left & 1:
            result = window if result is None else combine(k, result, rotated(window, done))
            done += width
        left >>= 1
        if left:
            window = combine(k, window, rotated(window, width))
            width *= 2
    return result


@dc.dataclass(frozen=True)
class Piece:
    """Vectors start <= index < stop of an axis, and which of their lanes take part."""

    start: Value
    stop: Value
    mask: Value | None


class Passes:
    """Three passes over an axis: the maximum; the powers and their sum; the results. y may be x itself."""

    def __init__(
        self,
        k: Emitter,
        dtype: np.dtype,
        log: bool,
        pointers: Sequence[Value],
        stride: Value,
        pieces: Sequence[Piece],
        vectors: int,
        lanes: int,
        padding: bool = False,
    ) -> None:
        """vectors: how many neighbouring ones are done side by side. padding: lanes that take no part are ours and become zero."""
        self.k, self.dtype, self.log, (self.x, self.y) = k, dtype, log, pointers
        self.stride, self.pieces, self.vectors, self.lanes, self.padding = stride, pieces, vectors, lanes, padding
        self.lowest, self.zero = (k.splat(v, k.vector(dtype, lanes)) for v in (-math.inf, 0.0))

    def run(self, across: Callable[[Value, Combine], Value]) -> None:
        """Emit them. across(value, combine): what combines the lanes that belong together."""
        k = self.k

        def find_largest(values: list[Value], index: Value, mask: Value | None) -> list[Value]:
            return [larger(k, a, b) for a, b in zip(values, self.load(self.x, index, mask), strict=True)]

        largest = [across(v, larger) for v in self.sweep([self.lowest] * self.vectors, find_largest)]

        def add_powers(values: list[Value], index: Value, mask: Value | None) -> list[Value]:
            shifted = [k.b.fsub(v, m) for v, m in zip(self.load(self.x, index, mask), largest, strict=True)]
            powers = [vm.exp(k, v) for v in shifted]
            self.store(shifted if self.log else powers, index, mask)
            return [plus(k, a, b) for a, b in zip(values, powers, strict=True)]

        totals = [across(v, plus) for v in self.sweep([self.zero] * self.vectors, add_powers)]
        finish = [finisher(k, total, self.log) for total in totals]

        def store_results(_: list[Value], index: Value, mask: Value | None) -> list[Value]:
            self.store([f(v) for f, v in zip(finish, self.load(self.y, index, mask), strict=True)], index, mask)
            return []

        self.sweep([], store_results)

    def sweep(self, carried: list[Value], body: Callable[[list[Value], Value, Value | None], list[Value]]) -> list[Value]:
        """One pass: values = body(values, index, mask) over all pieces."""
        for piece in self.pieces:
            with self.k.loop(piece.start, piece.stop, carried=carried) as loop:
                loop.carry(body(loop.values, loop.index, piece.mask))
            carried = loop.results
        return carried

    def at(self, base: Value, index: Value, vector: int) -> Value:
        return self.k.at(self.k.at(base, self.k.mul(index, self.stride)), vector * self.lanes * self.dtype.itemsize)

    def load(self, base: Value, index: Value, mask: Value | None) -> list[Value]:
        """The vectors at an index; lanes that take no part hold minus infinity."""
        outside = None if self.padding else mask
        values = [load_lanes(self.k, self.at(base, index, v), self.dtype, self.lanes, outside) for v in range(self.vectors)]
        return values if mask is None else [self.k.b.select(mask, v, self.lowest) for v in values]

    def store(self, values: Sequence[Value], index: Value, mask: Value | None) -> None:
        for v, value in enumerate(values):
            if mask is not None and self.padding:
                value = self.k.b.select(mask, value, self.zero)
            store_lanes(self.k, value, self.at(self.y, index, v), self.dtype, None if self.padding else mask)


@lowers(Softmax)
def lower_softmax(node: Softmax, machine: Machine) -> list[Call]:
    """One call, of the family that fits the axis."""
    kind = node.type
    if kind.size == 0:
        return []
    if node.x.type.layout != kind.layout or kind.dtype == F16:
        raise NoKernel(f"expected float32 or float64 and one layout, got {node.x.type} and {kind}")
    shape, strides = kind.physical_shape, physical_strides(kind)
    everything = dimensions(shape, strides, strides)
    outer, axis, inner = everything[: node.axis], everything[node.axis], everything[node.axis + 1 :]
    lanes = machine.target.lanes(kind.dtype)
    if kind.layout is not None and kind.layout.axis == node.axis:
        return [_rows(node, [*outer, *inner[:-1]], axis.strides[0], kind.layout.block, True, machine)]
    if math.prod(d.extent for d in inner) > 1:
        return [_columns(node, outer, axis, collapse(inner)[0], machine)]
    if axis.extent > lanes:
        return [_rows(node, outer, lanes * kind.dtype.itemsize, lanes, False, machine)]
    kernel = SoftmaxShortKernel(kind.dtype, node.log, axis.extent)
    tile = max(1, round(UNIT_SECONDS / SECONDS_PER_VECTOR)) * (lanes // axis.extent * axis.extent)
    numbers = {"columns": kind.size, "column_tile": tile}
    return [_call(node, kernel, [], numbers, tile // lanes, -(-kind.size // tile), machine)]


def _rows(node: Softmax, kept: list[Dimension], stride: int, lanes: int, padding: bool, machine: Machine) -> Call:
    extent = node.type.shape[node.axis]
    kernel = SoftmaxRowsKernel(node.type.dtype, node.log, lanes, padding)
    numbers = {"whole": extent // lanes, "end": -(-extent // lanes), "rest": extent % lanes, "stride": stride}
    return _call(node, kernel, collapse(kept), numbers, -(-extent // lanes), 1, machine)


def _columns(node: Softmax, outer: list[Dimension], axis: Dimension, columns: Dimension, machine: Machine) -> Call:
    dtype, lanes = node.type.dtype, machine.target.lanes(node.type.dtype)
    vectors = max(1, round(UNIT_SECONDS / SECONDS_PER_VECTOR / axis.extent / 2)) * 2
    tile = min(columns.extent, vectors * lanes)
    numbers = {"columns": columns.extent, "column_tile": tile, "extent": axis.extent, "stride": axis.strides[0]}
    work = axis.extent * -(-tile // lanes)
    return _call(node, SoftmaxColumnsKernel(dtype, node.log), collapse(outer), numbers, work, -(-columns.extent // tile), machine)


def _call(
    node: Softmax, kernel: Kernel, kept: list[Dimension], numbers: dict[str, int], vectors: int, inner_tiles: int, machine: Machine
) -> Call:
    """vectors: how many one row of a tile has."""
    seconds = vectors * SECONDS_PER_VECTOR
    walked, units = walk_arguments(PAIR, kept, seconds, inner_tiles)
    total = seconds * inner_tiles * math.prod(d.extent for d in kept)
    return Call(kernel, {"x": node.x, "y": node} | walked | numbers, units, grain_for(units, total, machine.threads))
