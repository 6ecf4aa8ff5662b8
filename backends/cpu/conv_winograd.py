"""Winograd convolution F(m×m, 3×3) on blocked values: input transform, one matrix product a frequency, output transform.

Tiles go in blocks of `tiles`. A block's transformed input V (frequency, channel block, tile, lane) and its products M (frequency,
tile, vector, lane) are small enough for the caches. Modes: "fused" does a block from input to output; "input" and "product" are
the two halves, for layers with so few tiles that threads must share a block's output channels.
"""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ...engine.expression import IDENTITY, Expression
from ..common.llvm_expression import emit_expression
from ..common.winograd import transform
from .emit import F32, Emitter, Value
from .kernel import Kernel

F4 = np.dtype(np.float32)
UNROLL = 4
"""Channels of one step of the product's inner loop."""
POINTERS = ("x*", "weight*", "bias*", "y*", "v*", "work*")
NUMBERS = (
    *("height", "width", "out_height", "out_width", "pad_top", "pad_left", "tiles_across", "tiles_image", "tiles"),
    *("x_image", "x_block", "y_image", "y_block", "channel_blocks", "channels_last", "groups", "blocks"),
    *("v_frequency", "v_block", "v_thread", "work_thread", "weight_frequency", "weight_group"),
)


@dc.dataclass(frozen=True)
class WinogradKernel(Kernel):
    """y = epilogue(bias + Aᵀ [U ⊙ Bᵀ x B] A, *extras) for `tiles` tiles at a time and `vectors` output vectors at a time."""

    lanes: int
    m: int
    tiles: int
    vectors: int
    mode: str
    epilogue: Expression = IDENTITY
    extras: tuple[str, ...] = ()

    @property
    def signature(self) -> tuple[str, ...]:
        extras = tuple(f"extra{i}*" for i in range(len(self.extras)))
        images = tuple(f"extra{i}_image" for i in range(len(self.extras)))
        return (*POINTERS, *NUMBERS, *extras, *images)

    @property
    def extent(self) -> int:
        """Input positions of a tile along one axis."""
        return transform(self.m).extent

    @property
    def product_stride(self) -> int:
        """Bytes between the products of neighbouring frequencies; an odd number of cache lines spreads them over the cache's sets."""
        lines = -(-self.tiles * self.vectors * self.lanes * 4 // 64)
        return 64 * (lines | 1)

    @property
    def patch_bytes(self) -> int:
        """Room for one tile of vectors."""
        return self.extent**2 * self.lanes * 4

    @property
    def work_bytes(self) -> int:
        """Scratch memory of one thread: two tiles and the products of a block."""
        return 2 * self.patch_bytes + self.extent**2 * self.product_stride

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one WinogradKernel."""

    def __init__(self, spec: WinogradKernel, k: Emitter) -> None:
        self.spec, self.k = spec, k
        self.vector = k.vector(F4, spec.lanes)
        self.pixel = spec.lanes * 4
        self.matrices = transform(spec.m)
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
                self.transform_input(block, channel, k.add(channel, 1))
            elif self.spec.mode == "product":
                group, block = k.divmod(unit.index, number["blocks"])
                self.product(block, group)
            else:
                self.transform_input(unit.index, k.integer(0), number["channel_blocks"])
                with k.loop(0, number["groups"], nonempty=True) as group:
                    self.product(unit.index, group.index)

    def place(self, tile: Value) -> tuple[Value, Value, Value]:
        """Image, and the first output row and column of a tile."""
        image, within = self.k.divmod(tile, self.number["tiles_image"])
        row, column = self.k.divmod(within, self.number["tiles_across"])
        return image, self.k.mul(row, self.spec.m), self.k.mul(column, self.spec.m)

    def transform_input(self, block: Value, first: Value, last: Value) -> None:
        """V of a block of tiles for some channel blocks; past the last tile the last one is repeated."""
        k, number, a = self.k, self.number, self.spec.extent
        v = k.at(self.v, k.mul(block, number["v_block"]))
        with k.loop(0, self.spec.tiles, nonempty=True) as t:
            tile = k.minimum(k.add(k.mul(block, self.spec.tiles), t.index), k.sub(number["tiles"], 1))
            image, row, column = self.place(tile)
            top, left = k.sub(row, number["pad_top"]), k.sub(column, number["pad_left"])
            inside = k.b.and_(self.within(top, number["height"]), self.within(left, number["width"]))
            corner = k.at(self.x, k.add(k.mul(image, number["x_image"]), k.mul(k.add(k.mul(top, number["width"]), left), self.pixel)))
            stride = k.b.select(inside, k.mul(number["width"], self.pixel), k.integer(a * self.pixel))
            with k.loop(first, last, nonempty=True) as channel:
                source = k.at(corner, k.mul(channel.index, number["x_block"]))
                with k.when(k.b.not_(inside)):
                    self.copy_patch(source, top, left)
                tile_of = k.b.select(inside, source, self.patch)
                offset = k.mul(k.add(k.mul(channel.index, self.spec.tiles), t.index), self.pixel)
                self.both_ways(self.matrices.input, tile_of, stride, self.pixel, k.at(v, offset), number["v_frequency"])

    def within(self, start: Value, size: Value) -> Value:
        """Whether a tile's input from `start` on lies inside the axis."""
        k = self.k
        return k.b.and_(k.b.icmp_signed(">=", start, k.integer(0)), k.b.icmp_signed("<=", k.add(start, self.spec.extent), size))

    def copy_patch(self, source: Value, top: Value, left: Value) -> None:
        """The tile with zeros where it lies outside the input."""
        k, number, a = self.k, self.number, self.spec.extent
        zero = k.splat(0.0, self.vector)
        for i in range(a):
            row = k.add(top, i)
            row_inside = k.b.and_(k.b.icmp_signed(">=", row, k.integer(0)), k.b.icmp_signed("<", row, number["height"]))
            line = k.at(source, k.mul(number["width"], i * self.pixel))
            with k.loop(0, a, nonempty=True) as j:
                column = k.add(left, j.index)
                column_inside = k.b.and_(k.b.icmp_signed(">=", column, k.integer(0)), k.b.icmp_signed("<", column, number["width"]))
                offset = k.mul(j.index, self.pixel)
                target = k.at(self.patch, k.add(offset, i * a * self.pixel))
                k.store(zero, target)
                with k.when(k.b.and_(row_inside, column_inside)):
                    k.store(k.load(line, self.vector, offset), target)

    def both_ways(self, matrix: np.ndarray, source: Value, row_stride: Value, stride: int, target: Value, target_stride: Value) -> None:
        """target[i, j] = (matrix · source · matrixᵀ)[i, j]: rows into the half-way tile, then columns.

        `target_stride` are the bytes between neighbouring entries of the target, row-major.
        """
        k, (n, a) = self.k, matrix.shape
        with k.loop(0, a, nonempty=True) as i:
            line, out = k.at(source, k.mul(i.index, row_stride)), k.at(self.half, k.mul(i.index, n * self.pixel))
            values = [k.load(line, self.vector, j * stride) for j in range(a)]
            for j, value in enumerate(linear(k, matrix, values)):
                k.store(value, out, j * self.pixel)
        with k.loop(0, n, nonempty=True) as j:
            line, out = k.at(self.half, k.mul(j.index, self.pixel)), k.at(target, k.mul(j.index, target_stride))
            values = [k.load(line, self.vector, i * n * self.pixel) for i in range(a)]
            for i, value in enumerate(linear(k, matrix, values)):
                k.store(value, out, k.mul(target_stride, i * n))

    def product(self, block: Value, group: Value) -> None:
        """Products of all frequencies for a block of tiles and a group of output vectors, then their outputs."""
        k, number, spec = self.k, self.number, self.spec
        v = k.at(self.v, k.mul(block, number["v_block"]))
        weight = k.at(self.weight, k.mul(group, number["weight_group"]))
        with k.loop(0, spec.extent**2, nonempty=True) as frequency:
            here = k.at(v, k.mul(frequency.index, number["v_frequency"]))
            there = k.at(weight, k.mul(frequency.index, number["weight_frequency"]))
            sums = self.multiply(here, there)
            out = k.at(self.products, k.mul(frequency.index, spec.product_stride))
            for position, value in enumerate(sums):
                k.store(value, out, position * self.pixel)
        with k.loop(0, spec.tiles, nonempty=True) as t:
            tile = k.add(k.mul(block, spec.tiles), t.index)
            with k.when(k.b.icmp_signed("<", tile, number["tiles"])):
                self.transform_output(tile, t.index, group)

    def multiply(self, v: Value, weight: Value) -> list[Value]:
        """Sums over all channels, tile-major."""
        k, number, spec = self.k, self.number, self.spec
        zeros = [k.splat(0.0, self.vector)] * (spec.tiles * spec.vectors)
        last = k.sub(number["channel_blocks"], 1)
        with k.loop(0, number["channel_blocks"], carried=zeros, nonempty=True) as channel:
            is_last = k.b.icmp_signed("==", channel.index, last)
            steps = k.b.select(is_last, number["channels_last"], k.integer(spec.lanes // UNROLL))
            here = k.at(v, k.mul(channel.index, spec.tiles * self.pixel))
            there = k.at(weight, k.mul(channel.index, spec.lanes * spec.vectors * self.pixel))
            with k.loop(0, steps, carried=channel.values, nonempty=True) as step:
                values = list(step.values)
                a = k.at(here, k.mul(step.index, UNROLL * 4))
                b = k.at(there, k.mul(step.index, UNROLL * spec.vectors * self.pixel))
                for c in range(UNROLL):
                    weights = [k.load(b, self.vector, (c * spec.vectors + n) * self.pixel) for n in range(spec.vectors)]
                    for t in range(spec.tiles):
                        broadcast = k.splat(k.load(a, F32, t * self.pixel + c * 4), self.vector)
                        for n in range(spec.vectors):
                            at = t * spec.vectors + n
                            values[at] = k.fma(broadcast, weights[n], values[at])
                step.carry(values)
            channel.carry(step.results)
        return channel.results

    def transform_output(self, tile: Value, t: Value, group: Value) -> None:
        """The outputs of one tile for every vector of the group: as many as lie inside."""
        k, number, spec = self.k, self.number, self.spec
        image, row, column = self.place(tile)
        rows = k.minimum(spec.m, k.sub(number["out_height"], row))
        columns = k.minimum(spec.m, k.sub(number["out_width"], column))
        corner = k.mul(k.add(k.mul(row, number["out_width"]), column), self.pixel)
        with k.loop(0, spec.vectors, nonempty=True) as n:
            products = k.at(self.products, k.mul(k.add(k.mul(t, spec.vectors), n.index), self.pixel))
            a = spec.extent
            self.both_ways(
                self.matrices.output, products, k.integer(a * spec.product_stride), spec.product_stride, self.patch, k.integer(self.pixel)
            )
            vector = k.add(k.mul(group, spec.vectors), n.index)
            offset = k.add(k.add(k.mul(image, number["y_image"]), k.mul(vector, number["y_block"])), corner)
            self.finish(image, k.mul(vector, self.pixel), offset, rows, columns)

    def finish(self, image: Value, channel: Value, offset: Value, rows: Value, columns: Value) -> None:
        """Bias, epilogue and store of one vector of a tile."""
        k, spec = self.k, self.spec
        bias = k.load(k.at(self.bias, channel), self.vector)
        fixed = {}
        for i, kind in enumerate(spec.extras):
            if kind == "channel":
                per_image = k.mul(image, self.number[f"extra{i}_image"])
                fixed[i] = k.load(k.at(self.extra_base[i], k.add(per_image, channel)), self.vector)
        with k.loop(0, rows, nonempty=True) as i:
            line = k.add(offset, k.mul(k.mul(i.index, self.number["out_width"]), self.pixel))
            source = k.at(self.patch, k.mul(i.index, spec.m * self.pixel))
            with k.loop(0, columns, nonempty=True) as j:
                here = k.mul(j.index, self.pixel)
                at = k.add(line, here)
                operands = [k.b.fadd(k.load(source, self.vector, here), bias)]
                for i_extra, base in enumerate(self.extra_base):
                    operands.append(fixed[i_extra] if i_extra in fixed else k.load(base, self.vector, at))
                k.store(emit_expression(k, spec.epilogue, operands, [F4] * len(operands)), self.y, at)


def linear(k: Emitter, matrix: np.ndarray, values: list[Value]) -> list[Value]:
    """matrix · values; rows that differ only in the signs of some columns share the sums of their even and odd parts."""
    rows: dict[int, Value] = {}
    for i in range(len(matrix)):
        for j in range(i + 1, len(matrix)):
            if i in rows or j in rows or not np.array_equal(np.abs(matrix[i]), np.abs(matrix[j])):
                continue
            even = weighted_sum(k, np.where(matrix[i] == matrix[j], matrix[i], 0), values)
            odd = weighted_sum(k, np.where(matrix[i] == matrix[j], 0, matrix[i]), values)
            if even is not None and odd is not None:
                rows[i], rows[j] = k.b.fadd(even, odd), k.b.fsub(even, odd)
    for i in range(len(matrix)):
        if i not in rows:
            rows[i] = weighted_sum(k, matrix[i], values) or k.splat(0.0, values[0].type)
    return [rows[i] for i in range(len(matrix))]


def weighted_sum(k: Emitter, weights: np.ndarray, values: list[Value]) -> Value | None:
    """The sum of weight · value over the weights that are not zero; None where all are."""
    total = None
    order = sorted(np.flatnonzero(weights), key=lambda j: abs(weights[j]) != 1)
    for j in order:
        weight, value = float(weights[j]), values[j]
        if total is None:
            total = value if weight == 1 else k.b.fmul(value, k.splat(weight, value.type))
        elif abs(weight) == 1:
            total = k.b.fadd(total, value) if weight == 1 else k.b.fsub(total, value)
        else:
            total = k.fma(value, k.splat(weight, value.type), total)
    return total
