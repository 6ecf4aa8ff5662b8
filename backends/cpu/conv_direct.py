"""Direct convolution: a tile of pixels × channel vectors stays in registers while taps and input channels stream by.

The same kernel serves Conv, ConvTranspose (phase by phase) and MatMul: what differs are the tables of rows and taps. Padding
costs nothing: a row's list of taps leaves out those above and below the input, and tiles at the left and right border have their
own list of pixels for each column tap.
"""

from __future__ import annotations

import dataclasses as dc
from typing import Any

import numpy as np

from ...engine.expression import IDENTITY, Expression
from ..common.geometry import Segment, TapRun
from ..common.llvm_expression import emit_expression
from .emit import F32, I64, Emitter, Value
from .kernel import Kernel

F4 = np.dtype(np.float32)
TAP_BYTES = 24
ROW_BYTES = 32
GROUP_BYTES = 32


POINTERS = ("x*", "weight*", "bias*", "y*", "rows*", "taps*", "groups*")
NUMBERS = (
    *("group_divisor", "group_count", "row_divisor", "row_units", "row_blocks", "rows_per_unit", "row_count"),
    *("x_image", "y_image", "weight_image", "y_vector", "column_weights"),
)


@dc.dataclass(frozen=True)
class Tiles:
    """Tiles of `pixels` neighbouring outputs whose taps are these runs, offsets in bytes from the tile's first input pixel."""

    pixels: int
    runs: tuple[TapRun, ...]


@dc.dataclass(frozen=True)
class DirectConvKernel(Kernel):
    """y[pixels, vectors] = epilogue(bias + sum over taps and channels of x * weight, *extras).

    Tables (i64): a row is (x offset, y offset, first tap, last tap); a tap is (x offset, weight offset, channel steps); a group of
    channel vectors is (x offset, weight offset, y offset, bias offset). All offsets are bytes.
    """

    lanes: int
    vectors: int
    pixel_stride: int
    """Bytes between the inputs of neighbouring pixels."""
    output_stride: int
    """Bytes between neighbouring output pixels."""
    unroll: int
    """Channels of one step of the inner loop; they lie 4 bytes apart."""
    weight_stride: int
    """Bytes between the weights of neighbouring channels."""
    segments: tuple[Tiles, ...]
    """Kinds of tiles in a row, from left to right."""
    columns_outside: bool
    """Whether column taps are the outer loop, for inputs whose taps hold a single channel."""
    epilogue: Expression = IDENTITY
    extras: tuple[str, ...] = ()
    """For each extra operand of the epilogue: "full" (lies as y does) or "channel" (one value a channel and image)."""

    @property
    def signature(self) -> tuple[str, ...]:
        extras = tuple(f"extra{i}*" for i in range(len(self.extras)))
        images = tuple(f"extra{i}_image" for i in range(len(self.extras)))
        tiles = tuple(f"segment{i}_{what}" for i in range(len(self.segments)) for what in ("start", "tiles"))
        return (*POINTERS, *NUMBERS, *extras, *images, *tiles)

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one DirectConvKernel."""

    def __init__(self, spec: DirectConvKernel, k: Emitter) -> None:
        self.spec, self.k = spec, k
        self.vector = k.vector(F4, spec.lanes)
        self.bytes = spec.lanes * 4
        self.base = {name[:-1]: k.pointer(name[:-1]) for name in POINTERS}
        self.number = {name: k.argument(name) for name in spec.signature if not name.endswith("*")}
        self.extra_base = [k.pointer(f"extra{i}") for i in range(len(spec.extras))]

    def write(self) -> None:
        k, number = self.k, self.number
        with k.units() as unit:
            group = k.b.urem(k.b.udiv(unit.index, number["group_divisor"]), number["group_count"])
            row_unit = k.b.urem(k.b.udiv(unit.index, number["row_divisor"]), number["row_units"])
            image, block = k.divmod(row_unit, number["row_blocks"])
            first = k.mul(block, number["rows_per_unit"])
            last = k.minimum(k.add(first, number["rows_per_unit"]), number["row_count"])
            self.group_pointers(group, image)
            with k.loop(first, last, nonempty=True) as row:
                self.row(row.index)

    def group_pointers(self, group: Value, image: Value) -> None:
        """Everything that is fixed for one image and one group of channel vectors."""
        k, number = self.k, self.number
        entry = k.at(self.base["groups"], k.mul(group, GROUP_BYTES))
        x_offset, weight_offset, y_offset, channel = (self.long(entry, 8 * i) for i in range(4))
        self.x = k.at(self.base["x"], k.add(k.mul(image, number["x_image"]), x_offset))
        self.weight = k.at(self.base["weight"], k.add(k.mul(image, number["weight_image"]), weight_offset))
        self.y_offset = k.add(k.mul(image, number["y_image"]), y_offset)
        biases = k.at(self.base["bias"], channel)
        self.initial = [k.load(biases, self.vector, v * self.bytes) for v in range(self.spec.vectors)]
        self.channel_extras: dict[int, list[Value]] = {}
        for i, kind in enumerate(self.spec.extras):
            if kind == "channel":
                base = k.at(self.extra_base[i], k.add(k.mul(image, number[f"extra{i}_image"]), channel))
                self.channel_extras[i] = [k.load(base, self.vector, v * self.bytes) for v in range(self.spec.vectors)]

    def row(self, index: Value) -> None:
        k = self.k
        entry = k.at(self.base["rows"], k.mul(index, ROW_BYTES))
        x_offset, y_offset, first_tap, last_tap = (self.long(entry, 8 * i) for i in range(4))
        x = k.at(self.x, x_offset)
        for i, kind in enumerate(self.spec.segments):
            start, tiles = (self.number[f"segment{i}_{what}"] for what in ("start", "tiles"))
            with k.loop(0, tiles, nonempty=True) as tile:
                pixel = k.add(start, k.mul(tile.index, kind.pixels))
                values = self.accumulate(kind, k.at(x, k.mul(pixel, self.spec.pixel_stride)), first_tap, last_tap)
                self.finish(kind.pixels, values, k.add(k.add(self.y_offset, y_offset), k.mul(pixel, self.spec.output_stride)))

    def accumulate(self, kind: Tiles, x: Value, first_tap: Value, last_tap: Value) -> list[Value]:
        """The tile's sums, pixel-major: bias, then all taps."""
        values = self.initial * kind.pixels
        if self.spec.columns_outside:
            for run in kind.runs:
                values = self.columns(
                    run, values, x, lambda at, column, kept, run=run: self.tap_list(run, kept, at, column, first_tap, last_tap)
                )
            return values
        k = self.k
        with k.loop(first_tap, last_tap, carried=values) as tap:
            values = list(tap.values)
            entry = k.at(self.base["taps"], k.mul(tap.index, TAP_BYTES))
            here, steps = k.at(x, self.long(entry, 0)), self.long(entry, 16)
            weight = k.at(self.weight, self.long(entry, 8))
            for run in kind.runs:
                values = self.columns(
                    run, values, here, lambda at, column, kept, run=run: self.channels(run, kept, at, k.at(weight, column), steps)
                )
            tap.carry(values)
        return tap.results

    def columns(self, run: TapRun, values: list[Value], x: Value, body: Any) -> list[Value]:
        """Apply `body(x, weight offset, values)` for every column tap of the run to the values of its pixels; the others pass by."""
        k, nv = self.k, self.spec.vectors
        active = values[run.low * nv : run.high * nv]
        if run.count == 1:
            active = body(k.at(x, run.offset), k.mul(run.first, self.number["column_weights"]), active)
        else:
            with k.loop(0, run.count, carried=active, nonempty=True) as column:
                position = k.add(column.index, run.first)
                moved = k.at(k.at(x, k.mul(column.index, run.spacing)), run.offset)
                column.carry(body(moved, k.mul(position, self.number["column_weights"]), list(column.values)))
            active = column.results
        return [*values[: run.low * nv], *active, *values[run.high * nv :]]

    def tap_list(self, run: TapRun, values: list[Value], x: Value, column: Value, first_tap: Value, last_tap: Value) -> list[Value]:
        """All row taps of one column tap, a single channel each."""
        k = self.k
        weight = k.at(self.weight, column)
        with k.loop(first_tap, last_tap, carried=values) as tap:
            entry = k.at(self.base["taps"], k.mul(tap.index, TAP_BYTES))
            here, there = k.at(x, self.long(entry, 0)), k.at(weight, self.long(entry, 8))
            tap.carry(self.multiply(run, list(tap.values), here, there))
        return tap.results

    def channels(self, run: TapRun, values: list[Value], x: Value, weight: Value, steps: Value) -> list[Value]:
        """All channels of one tap, `unroll` at a time: more would make LLVM keep broadcasts alive and spill."""
        k, spec = self.k, self.spec
        with k.loop(0, steps, carried=values, nonempty=True) as loop:
            here = k.at(x, k.mul(loop.index, spec.unroll * 4))
            there = k.at(weight, k.mul(loop.index, spec.unroll * spec.weight_stride))
            kept = list(loop.values)
            for c in range(spec.unroll):
                kept = self.multiply(run, kept, here, there, c)
            loop.carry(kept)
        return loop.results

    def multiply(self, run: TapRun, values: list[Value], x: Value, weight: Value, channel: int = 0) -> list[Value]:
        """values += x[pixel] * weight[vector] for the run's pixels and one channel."""
        k, spec = self.k, self.spec
        weights = [k.load(weight, self.vector, channel * spec.weight_stride + v * self.bytes) for v in range(spec.vectors)]
        result = []
        for pixel in range(run.low, run.high):
            broadcast = k.splat(k.load(x, F32, pixel * spec.pixel_stride + channel * 4), self.vector)
            kept = values[(pixel - run.low) * spec.vectors :]
            result.extend(k.fma(broadcast, weights[v], kept[v]) for v in range(spec.vectors))
        return result

    def finish(self, pixels: int, values: list[Value], y_offset: Value) -> None:
        """Epilogue and store."""
        k, spec = self.k, self.spec
        dtypes = [F4] * (1 + len(spec.extras))
        for v in range(spec.vectors):
            offset = k.add(y_offset, k.mul(self.number["y_vector"], v))
            y = k.at(self.base["y"], offset)
            full = {i: k.at(self.extra_base[i], offset) for i, kind in enumerate(spec.extras) if kind == "full"}
            for pixel in range(pixels):
                here = pixel * spec.output_stride
                operands = [values[pixel * spec.vectors + v]]
                for i in range(len(spec.extras)):
                    operands.append(k.load(full[i], self.vector, here) if i in full else self.channel_extras[i][v])
                k.store(emit_expression(k, spec.epilogue, operands, dtypes), y, here)

    def long(self, pointer: Value, offset: int) -> Value:
        return self.k.load(pointer, I64, offset, align=8)


def tiles_of(segment: Segment, input_pixel: int) -> Tiles:
    """A segment with offsets in bytes, for input pixels that lie `input_pixel` bytes apart."""
    runs = (dc.replace(run, offset=run.offset * input_pixel, spacing=run.spacing * input_pixel) for run in segment.runs)
    return Tiles(segment.pixels, tuple(runs))


@dc.dataclass(frozen=True)
class DepthwiseConvKernel(DirectConvKernel):
    """The same with one input channel an output channel: x comes in vectors, and a row of column taps shares their loads."""

    def write(self, k: Emitter) -> None:
        _DepthwiseWriter(self, k).write()


class _DepthwiseWriter(_Writer):
    """Emits one DepthwiseConvKernel."""

    def accumulate(self, kind: Tiles, x: Value, first_tap: Value, last_tap: Value) -> list[Value]:
        k = self.k
        with k.loop(first_tap, last_tap, carried=self.initial * kind.pixels) as tap:
            values = list(tap.values)
            entry = k.at(self.base["taps"], k.mul(tap.index, TAP_BYTES))
            here, weights = k.at(x, self.long(entry, 0)), k.at(self.weight, self.long(entry, 8))
            for run in kind.runs:
                for column in range(run.count):
                    weight = k.load(weights, self.vector, (run.first + column) * self.bytes)
                    for pixel in range(run.low, run.high):
                        read = run.offset + column * run.spacing + pixel * self.spec.pixel_stride
                        values[pixel] = k.fma(k.load(here, self.vector, read), weight, values[pixel])
            tap.carry(values)
        return tap.results
