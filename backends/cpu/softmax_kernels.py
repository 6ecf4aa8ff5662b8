"""Kernels of Softmax and its logarithm: across columns, along rows, and many short rows in one vector."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from ..common import llvm_math as vm
from .emit import Emitter, Value
from .kernel import Kernel
from .space import walk, walk_parameters
from .vectors import in_vectors, load_lanes, store_lanes

PAIR = ("x", "y")


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
    """y[row, i] along i for rows of so few elements that a vector holds several: `step` elements of whole rows.

    The rows are contiguous, or (`spread`) each is the start of a vector of its own, as few channels lie in a blocked value; then
    the rest of each vector becomes zero.
    """

    parameters: ClassVar[tuple[str, ...]] = (*walk_parameters(PAIR), "columns", "column_tile")
    dtype: np.dtype
    log: bool
    extent: int
    lanes: int
    spread: bool

    @property
    def rows(self) -> int:
        """Rows in a vector."""
        return self.lanes // self.extent

    def write(self, k: Emitter) -> None:
        columns, tile = k.argument("columns"), k.argument("column_tile")
        step = self.rows if self.spread else self.rows * self.extent
        with walk(k, PAIR) as (inner, pointers):
            first = k.mul(inner, tile)
            last = k.minimum(k.add(first, tile), columns)
            whole = k.sub(last, k.b.urem(k.sub(last, first), k.integer(step)))
            with k.loop(first, whole, step) as loop:
                self.whole(k, pointers, loop.index)
            self.rest(k, pointers, whole, last)

    def whole(self, k: Emitter, pointers: Sequence[Value], first: Value) -> None:
        step = self.rows * self.extent
        if self.spread:
            self.apart(k, pointers, first, self.rows)
        else:
            self.together(k, pointers, first, None if step == self.lanes else k.mask_below(k.integer(step), self.lanes))

    def rest(self, k: Emitter, pointers: Sequence[Value], first: Value, last: Value) -> None:
        if self.spread:
            with k.loop(first, last) as loop:
                self.apart(k, pointers, loop.index, 1)
        else:
            with k.when(k.b.icmp_signed("<", first, last)):
                self.together(k, pointers, first, k.mask_below(k.sub(last, first), self.lanes))

    def together(self, k: Emitter, pointers: Sequence[Value], first: Value, mask: Value | None) -> None:
        """A vector of contiguous rows."""
        x, y = (k.at(p, k.mul(first, self.dtype.itemsize)) for p in pointers)
        store_lanes(k, self.compute(k, load_lanes(k, x, self.dtype, self.lanes, mask)), y, self.dtype, mask)

    def apart(self, k: Emitter, pointers: Sequence[Value], first: Value, rows: int) -> None:
        """The starts of some vectors, moved together and apart again."""
        lanes, extent, size = self.lanes, self.extent, self.lanes * self.dtype.itemsize
        x, y = (k.at(p, k.mul(first, size)) for p in pointers)
        gathered = load_lanes(k, x, self.dtype, lanes)
        for row in range(1, rows):
            start = row * extent
            order = [lanes + i - start if start <= i < start + extent else i for i in range(lanes)]
            gathered = k.shuffle(gathered, load_lanes(k, k.at(x, row * size), self.dtype, lanes), order)
        result = self.compute(k, gathered)
        for row in range(rows):
            order = [row * extent + i if i < extent else lanes for i in range(lanes)]
            store_lanes(k, k.shuffle(result, k.splat(0.0, result.type), order), k.at(y, row * size), self.dtype)

    def compute(self, k: Emitter, value: Value) -> Value:
        shifted = k.b.fsub(value, combine_groups(k, value, self.extent, larger))
        power = vm.exp(k, shifted)
        finish = finisher(k, combine_groups(k, power, self.extent, plus), self.log)
        return finish(shifted if self.log else power)


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
