"""Winograd convolution F(m×m', r×r') on blocked values: input transform, one matrix product a frequency, output transform.

Tiles go in blocks, whose transformed input V and products M are small enough for the caches. Modes: "fused" does a block from input to
output; "input" and "product" are the two halves, for layers with so few tiles that threads must share a block's output channels.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable

import numpy as np

from ...engine.expression import Expression
from ..common.llvm_expression import emit_expression
from ..common.winograd import Tiling
from .emit import Emitter, Value
from .frequency_product import F4, FrequencyProduct
from .kernel import Kernel
from .linear import Grid, Put, linear

POINTERS = ("x*", "weight*", "bias*", "y*", "v*", "work*")
NUMBERS = (
    *("tiles", "blocks", "groups", "channel_blocks", "x_image", "x_block", "y_image", "y_block"),
    *("v_block", "v_thread", "work_thread", "weight_group"),
    *("height", "width", "out_height", "out_width", "pad_top", "pad_left", "tiles_across", "tiles_image"),
)


@dc.dataclass(frozen=True)
class WinogradKernel(Kernel):
    """y = epilogue(bias + Aᵀ [U ⊙ Bᵀ x B] A, *extras) for `tiles` tiles at a time and `vectors` output vectors at a time."""

    lanes: int
    tiling: Tiling
    tiles: int
    vectors: int
    mode: str
    epilogue: Expression
    extras: tuple[str, ...]

    @property
    def signature(self) -> tuple[str, ...]:
        extras = tuple(f"extra{i}*" for i in range(len(self.extras)))
        images = tuple(f"extra{i}_image" for i in range(len(self.extras)))
        return (*POINTERS, *NUMBERS, *FrequencyProduct.parameters, *extras, *images)

    @property
    def product(self) -> FrequencyProduct:
        """What it does between the transforms."""
        return FrequencyProduct(self.lanes, self.tiles, self.vectors, self.tiling.frequencies)

    @property
    def patch_bytes(self) -> int:
        """Room for one tile of vectors, its columns as far from each other as in the input."""
        return self.tiling.frequencies * self.tiling.spacing[1] * self.lanes * 4

    @property
    def work_bytes(self) -> int:
        """Scratch memory of one thread: two tiles and the products of a block."""
        return 2 * self.patch_bytes + self.product.nbytes

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one WinogradKernel."""

    def __init__(self, spec: WinogradKernel, k: Emitter) -> None:
        self.spec, self.k = spec, k
        self.vector = k.vector(F4, spec.lanes)
        self.pixel = spec.lanes * 4
        self.tiling, self.matrices = spec.tiling, spec.tiling.matrices
        base = {name[:-1]: k.pointer(name[:-1]) for name in POINTERS}
        self.x, self.weight, self.bias, self.y = (base[name] for name in ("x", "weight", "bias", "y"))
        self.number = {name: k.argument(name) for name in spec.signature if not name.endswith("*")}
        self.extra_base = [k.pointer(f"extra{i}") for i in range(len(spec.extras))]
        self.v = k.at(base["v"], k.mul(k.thread, self.number["v_thread"]))
        self.half = k.at(base["work"], k.mul(k.thread, self.number["work_thread"]))
        self.patch = k.at(self.half, spec.patch_bytes)
        self.products = k.at(self.patch, spec.patch_bytes)

    def write(self) -> None:
        k, number = self.k, self.number
        with k.units() as unit:
            if self.spec.mode == "input":
                block, channel = k.divmod(unit.index, number["channel_blocks"])
                self.transform_inputs(block, channel, k.add(channel, 1))
            elif self.spec.mode == "product":
                group, block = k.divmod(unit.index, number["blocks"])
                self.outputs(block, group)
            else:
                self.transform_inputs(unit.index, k.integer(0), number["channel_blocks"])
                with k.loop(0, number["groups"], nonempty=True) as group:
                    self.outputs(unit.index, group.index)

    def transform_inputs(self, block: Value, first: Value, last: Value) -> None:
        """V of a block of tiles for some channel blocks; past the last tile the last one is repeated."""
        k, number = self.k, self.number
        v = k.at(self.v, k.mul(block, number["v_block"]))
        with k.loop(0, self.spec.tiles, nonempty=True) as t:
            tile = k.minimum(k.add(k.mul(block, self.spec.tiles), t.index), k.sub(number["tiles"], 1))
            self.transform_input(tile, k.at(v, k.mul(t.index, self.pixel)), first, last)

    def outputs(self, block: Value, group: Value) -> None:
        """Products of a block of tiles and a group of output vectors, then their outputs."""
        k, number, spec = self.k, self.number, self.spec
        v = k.at(self.v, k.mul(block, number["v_block"]))
        spec.product.emit(k, number, v, k.at(self.weight, k.mul(group, number["weight_group"])), self.products)
        with k.loop(0, spec.tiles, nonempty=True) as t:
            tile = k.add(k.mul(block, spec.tiles), t.index)
            with k.when(k.b.icmp_signed("<", tile, number["tiles"])):
                self.transform_output(tile, t.index, group)

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
        """V of one tile, whose place in V is given, for some channel blocks."""
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
            source = Grid(products, self.tiling.extent[1] * spec.product.stride, spec.product.stride)
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

    def finisher(self, image: Value, channel: Value, offset: Callable[[Value | int, Value | int], Value]) -> Put:
        """What adds the bias to an output, applies the epilogue and stores it at offset(i, j) in y; `channel` is a vector's offset."""
        k, spec = self.k, self.spec
        bias, fixed = k.load(k.at(self.bias, channel), self.vector), dict[int, Value]()
        for i, kind in enumerate(spec.extras):
            if kind == "channel":
                per_image = k.mul(image, self.number[f"extra{i}_image"])
                fixed[i] = k.load(k.at(self.extra_base[i], k.add(per_image, channel)), self.vector)

        def finish(row: Value | int, column: Value | int, value: Value) -> None:
            at = offset(row, column)
            extras = [fixed[i] if i in fixed else k.load(base, self.vector, at) for i, base in enumerate(self.extra_base)]
            operands = [k.b.fadd(value, bias), *extras]
            k.store(emit_expression(k, spec.epilogue, operands, [F4] * len(operands)), self.y, at)

        return finish
