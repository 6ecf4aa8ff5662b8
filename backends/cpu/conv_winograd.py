"""Winograd convolution F(m×m', r×r') on blocked values: the transforms around one matrix product a frequency."""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar

import numpy as np

from ..common.winograd import Tiling
from .emit import Emitter, Value
from .frequency_product import FrequencyKernel, FrequencyWriter
from .linear import Grid, Put, linear


@dc.dataclass(frozen=True)
class WinogradKernel(FrequencyKernel):
    """y = epilogue(bias + Aᵀ [U ⊙ Bᵀ x B] A, *extras). A part of the input is a block of channels, which has an entry for each phase."""

    geometry: ClassVar[tuple[str, ...]] = (
        *("height", "width", "out_height", "out_width", "pad_top", "pad_left", "tiles_across", "tiles_image"),
    )
    tiling: Tiling

    @property
    def frequencies(self) -> int:
        return self.tiling.frequencies

    @property
    def patch_bytes(self) -> int:
        """Room for one tile of vectors, its columns as far from each other as in the input."""
        return self.frequencies * self.tiling.spacing[1] * self.lanes * 4

    @property
    def room_bytes(self) -> int:
        return 2 * self.patch_bytes

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer(FrequencyWriter):
    """Emits one WinogradKernel."""

    def __init__(self, spec: WinogradKernel, k: Emitter) -> None:
        super().__init__(spec, k)
        self.spec, self.tiling, self.matrices = spec, spec.tiling, spec.tiling.matrices
        self.half, self.patch = self.room, k.at(self.room, spec.patch_bytes)

    def place(self, tile: Value) -> tuple[Value, Value, Value]:
        """Image, and the first output row and column of a tile."""
        image, within = self.k.divmod(tile, self.number["tiles_image"])
        row, column = self.k.divmod(within, self.number["tiles_across"])
        return image, self.first_output(row, 0), self.first_output(column, 1)

    def first_output(self, tile: Value, axis: int) -> Value:
        """Of a tile along an axis; neighbouring tiles belong to neighbouring phases of the dilation."""
        k, m, dilation = self.k, self.tiling.m[axis], self.tiling.dilations[axis]
        if dilation == 1:
            return k.mul(tile, m)
        block, phase = k.divmod(tile, dilation)
        return k.add(k.mul(block, m * dilation), phase)

    def transform_input(self, tile: Value, v: Value, first: Value, last: Value) -> None:
        k, number, (stride, column_stride) = self.k, self.number, self.tiling.strides
        image, row, column = self.place(tile)
        top, left = k.sub(k.mul(row, stride), number["pad_top"]), k.sub(k.mul(column, column_stride), number["pad_left"])
        start = k.at(self.x, k.mul(image, number["x_image"]))
        with k.loop(0, self.tiling.phases, nonempty=True) as phase:
            down, across = k.divmod(phase.index, column_stride)
            target = k.at(v, k.mul(phase.index, self.spec.tiles * self.pixel))
            self.transform_phase(start, k.add(top, down), k.add(left, across), target, first, last)

    def transform_phase(self, start: Value, top: Value, left: Value, target: Value, first: Value, last: Value) -> None:
        """The transform of the inputs from (top, left) on, a stride apart, for some channel blocks; zeros where they lie outside."""
        k, number, (rows, columns) = self.k, self.number, self.matrices
        step, column_step = self.tiling.spacing
        inside = k.b.and_(self.within(top, 0, number["height"]), self.within(left, 1, number["width"]))
        corner = k.at(start, k.mul(k.add(k.mul(top, number["width"]), left), self.pixel))
        patch_row = self.tiling.extent[1] * column_step * self.pixel
        row_stride = k.b.select(inside, k.mul(number["width"], step * self.pixel), k.integer(patch_row))
        with k.loop(first, last, nonempty=True) as channel:
            source = k.at(corner, k.mul(channel.index, number["x_block"]))
            with k.when(k.b.not_(inside)):
                self.copy_patch(source, top, left)
            tile = Grid(k.b.select(inside, source, self.patch), row_stride, column_step * self.pixel)
            there = k.at(target, k.mul(channel.index, self.tiling.phases * self.spec.tiles * self.pixel))
            v = Grid(there, k.mul(number["v_frequency"], self.tiling.extent[1]), number["v_frequency"])
            self.both_ways(rows.input, columns.input, tile, v.putter(k))

    def within(self, start: Value, axis: int, size: Value) -> Value:
        """Whether a tile's input from `start` on lies inside the axis."""
        k, reach = self.k, (self.tiling.extent[axis] - 1) * self.tiling.spacing[axis]
        return k.b.and_(k.b.icmp_signed(">=", start, k.integer(0)), k.b.icmp_signed("<", k.add(start, reach), size))

    def copy_patch(self, source: Value, top: Value, left: Value) -> None:
        """The tile with zeros where it lies outside the input."""
        k, number, (step, column_step) = self.k, self.number, self.tiling.spacing
        zero, (height, width) = k.splat(0.0, self.vector), self.tiling.extent
        with k.loop(0, height, nonempty=True) as i:
            row = k.add(top, k.mul(i.index, step))
            row_inside = k.b.and_(k.b.icmp_signed(">=", row, k.integer(0)), k.b.icmp_signed("<", row, number["height"]))
            line = k.at(source, k.mul(k.mul(i.index, number["width"]), step * self.pixel))
            target_line = k.at(self.patch, k.mul(i.index, width * column_step * self.pixel))
            with k.loop(0, width, nonempty=True) as j:
                position = k.mul(j.index, column_step)
                column, offset = k.add(left, position), k.mul(position, self.pixel)
                column_inside = k.b.and_(k.b.icmp_signed(">=", column, k.integer(0)), k.b.icmp_signed("<", column, number["width"]))
                k.store(zero, target_line, offset)
                with k.when(k.b.and_(row_inside, column_inside)):
                    k.store(k.load(line, self.vector, offset), target_line, offset)

    def both_ways(self, rows: np.ndarray, columns: np.ndarray, source: Grid, put: Put) -> None:
        """rows · source · columnsᵀ: along columns into the half-way tile, then along rows; an axis of one tap needs nothing."""
        half = Grid(self.half, len(columns) * self.pixel, self.pixel)
        if columns.size == 1:
            self.along(rows, source, 1, put)
        elif rows.size == 1:
            self.along(columns, source.turned, 1, lambda column, row, value: put(row, column, value))
        else:
            self.along(columns, source.turned, rows.shape[1], half.turned.putter(self.k))
            self.along(rows, half, len(columns), put)

    def along(self, matrix: np.ndarray, source: Grid, lines: int, put: Put) -> None:
        """put(row, column, value) for every entry of matrix · source, which has so many columns."""
        k = self.k
        with k.loop(0, lines, nonempty=True) as line:
            start = k.at(source.start, k.mul(line.index, source.column))
            values = [k.load(start, self.vector, k.mul(source.row, i)) for i in range(matrix.shape[1])]
            for i, value in enumerate(linear(k, matrix, values)):
                put(i, line.index, value)

    def transform_output(self, tile: Value, t: Value, group: Value) -> None:
        """The outputs of one tile for every vector of the group; of a tile that reaches past the end those that lie inside."""
        k, number, spec = self.k, self.number, self.spec
        image, row, column = self.place(tile)
        height, width = self.tiling.m
        rows, columns = self.inside(row, 0, number["out_height"]), self.inside(column, 1, number["out_width"])
        is_whole = k.b.icmp_signed("==", k.mul(rows, columns), k.integer(height * width))
        corner = k.mul(k.add(k.mul(row, number["out_width"]), column), self.pixel)
        along_rows, along_columns = self.matrices
        patch = Grid(self.patch, width * self.pixel, self.pixel)
        down, across = self.tiling.dilations
        y = Grid(self.y, k.mul(number["out_width"], down * self.pixel), across * self.pixel)
        with k.loop(0, spec.vectors, nonempty=True) as n:
            products = k.at(self.products, k.mul(k.add(k.mul(t, spec.vectors), n.index), self.pixel))
            source = Grid(products, self.tiling.extent[1] * spec.product_stride, spec.product_stride)
            vector = k.add(k.mul(group, spec.vectors), n.index)
            offset = k.add(k.add(k.mul(image, number["y_image"]), k.mul(vector, number["y_block"])), corner)
            finish = self.finisher(image, k.mul(vector, self.pixel), lambda i, j, offset=offset: k.add(offset, y.offset(k, i, j)))
            with k.when(is_whole):
                self.both_ways(along_rows.output, along_columns.output, source, finish)
            with k.when(k.b.not_(is_whole)):
                self.both_ways(along_rows.output, along_columns.output, source, patch.putter(k))
                with k.loop(0, rows) as i, k.loop(0, columns) as j:
                    finish(i.index, j.index, k.load(k.at(patch.start, patch.offset(k, i.index, j.index)), self.vector))

    def inside(self, first: Value, axis: int, size: Value) -> Value:
        """How many of a tile's outputs, the first of which is given, lie inside the axis; none or less where it begins past the end."""
        k, dilation = self.k, self.tiling.dilations[axis]
        left = k.sub(size, first)
        if dilation > 1:
            left = k.b.sdiv(k.add(left, dilation - 1), k.integer(dilation))
        return k.minimum(self.tiling.m[axis], left)
