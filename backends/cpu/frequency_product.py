"""What algorithms have in common that multiply fewer matrices: transform the input, one matrix product a frequency, transform back.

Tiles go in blocks of `tiles`. A block's transformed input V (frequency, entry, tile, lane) and its products M (frequency, tile, vector,
lane) are small enough for the caches; an entry is a block of channels that one frequency sums over. Modes: "fused" does a block from
input to output; "input" and "product" are the two halves, for layers with so few tiles that threads must share a block's output channels.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from ...engine.expression import Expression
from ..common.llvm_expression import emit_expression
from .emit import F32, Emitter, Value
from .kernel import Kernel
from .linear import Put

F4 = np.dtype(np.float32)
UNROLL = 4
"""Channels of one step of the product's inner loop."""
AHEAD = 16384
"""Weights are asked for so many bytes before they are read: each is read once or twice, and most come from memory."""
POINTERS = ("x*", "weight*", "bias*", "y*", "v*", "work*")
NUMBERS = (
    *("tiles", "blocks", "groups", "input_parts", "entries", "entries_full", "channels_last"),
    *("x_image", "x_block", "y_image", "y_block"),
    *("v_frequency", "v_block", "v_thread", "work_thread", "weight_frequency", "weight_group"),
)


@dc.dataclass(frozen=True)
class FrequencyKernel(Kernel):
    """`tiles` tiles at a time and `vectors` output vectors at a time."""

    geometry: ClassVar[tuple[str, ...]] = ()
    """Names of further numbers that the transforms need."""
    lanes: int
    tiles: int
    vectors: int
    mode: str
    epilogue: Expression
    extras: tuple[str, ...]

    @property
    def signature(self) -> tuple[str, ...]:
        extras = tuple(f"extra{i}*" for i in range(len(self.extras)))
        images = tuple(f"extra{i}_image" for i in range(len(self.extras)))
        return (*POINTERS, *NUMBERS, *self.geometry, *extras, *images)

    @property
    def frequencies(self) -> int:
        """How many products there are."""
        raise NotImplementedError

    @property
    def room_bytes(self) -> int:
        """What the transforms need of a thread's scratch memory."""
        return 0

    @property
    def product_stride(self) -> int:
        """Bytes between the products of neighbouring frequencies; an odd number of cache lines spreads them over the cache's sets."""
        lines = -(-self.tiles * self.vectors * self.lanes * 4 // 64)
        return 64 * (lines | 1)

    @property
    def work_bytes(self) -> int:
        """Scratch memory of one thread: room for the transforms, and the products of a block."""
        return self.room_bytes + self.frequencies * self.product_stride


class FrequencyWriter:
    """Emits one FrequencyKernel; the two transforms are those of a subclass."""

    def __init__(self, spec: FrequencyKernel, k: Emitter) -> None:
        self.shape, self.k = spec, k
        self.vector = k.vector(F4, spec.lanes)
        self.pixel = spec.lanes * 4
        base = {name[:-1]: k.pointer(name[:-1]) for name in POINTERS}
        self.x, self.weight, self.bias, self.y = (base[name] for name in ("x", "weight", "bias", "y"))
        self.number = {name: k.argument(name) for name in spec.signature if not name.endswith("*")}
        self.extra_base = [k.pointer(f"extra{i}") for i in range(len(spec.extras))]
        self.v = k.at(base["v"], k.mul(k.thread, self.number["v_thread"]))
        self.room = k.at(base["work"], k.mul(k.thread, self.number["work_thread"]))
        self.products = k.at(self.room, spec.room_bytes)

    def write(self) -> None:
        k, number = self.k, self.number
        with k.units() as unit:
            if self.shape.mode == "input":
                block, part = k.divmod(unit.index, number["input_parts"])
                self.transform_inputs(block, part, k.add(part, 1))
            elif self.shape.mode == "product":
                group, block = k.divmod(unit.index, number["blocks"])
                self.product(block, group)
            else:
                self.transform_inputs(unit.index, k.integer(0), number["input_parts"])
                with k.loop(0, number["groups"], nonempty=True) as group:
                    self.product(unit.index, group.index)

    def transform_inputs(self, block: Value, first: Value, last: Value) -> None:
        """V of a block of tiles for some parts of the channels; past the last tile the last one is repeated."""
        k, number = self.k, self.number
        v = k.at(self.v, k.mul(block, number["v_block"]))
        with k.loop(0, self.shape.tiles, nonempty=True) as t:
            tile = k.minimum(k.add(k.mul(block, self.shape.tiles), t.index), k.sub(number["tiles"], 1))
            self.transform_input(tile, k.at(v, k.mul(t.index, self.pixel)), first, last)

    def transform_input(self, tile: Value, v: Value, first: Value, last: Value) -> None:
        """V of one tile, whose place in V is given, for some parts of the channels."""
        raise NotImplementedError

    def transform_output(self, tile: Value, t: Value, group: Value) -> None:
        """The outputs of one tile, number t of its block, for every vector of the group."""
        raise NotImplementedError

    def product(self, block: Value, group: Value) -> None:
        """Products of all frequencies for a block of tiles and a group of output vectors, then their outputs."""
        k, number, spec = self.k, self.number, self.shape
        v = k.at(self.v, k.mul(block, number["v_block"]))
        weight = k.at(self.weight, k.mul(group, number["weight_group"]))
        with k.loop(0, spec.frequencies, nonempty=True) as frequency:
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
        k, number, spec = self.k, self.number, self.shape
        zeros = [k.splat(0.0, self.vector)] * (spec.tiles * spec.vectors)
        with k.loop(0, number["entries"], carried=zeros, nonempty=True) as channel:
            is_last = k.b.icmp_signed(">=", channel.index, number["entries_full"])
            steps = k.b.select(is_last, number["channels_last"], k.integer(spec.lanes // UNROLL))
            here = k.at(v, k.mul(channel.index, spec.tiles * self.pixel))
            there = k.at(weight, k.mul(channel.index, spec.lanes * spec.vectors * self.pixel))
            with k.loop(0, steps, carried=channel.values, nonempty=True) as step:
                values = list(step.values)
                a = k.at(here, k.mul(step.index, UNROLL * 4))
                b = k.at(there, k.mul(step.index, UNROLL * spec.vectors * self.pixel))
                for c in range(UNROLL):
                    weights = [k.load(b, self.vector, (c * spec.vectors + n) * self.pixel) for n in range(spec.vectors)]
                    for n in range(spec.vectors):
                        k.prefetch(b, (c * spec.vectors + n) * self.pixel + AHEAD)
                    for t in range(spec.tiles):
                        broadcast = k.splat(k.load(a, F32, t * self.pixel + c * 4), self.vector)
                        for n in range(spec.vectors):
                            at = t * spec.vectors + n
                            values[at] = k.fma(broadcast, weights[n], values[at])
                step.carry(values)
            channel.carry(step.results)
        return channel.results

    def finisher(self, image: Value, channel: Value, offset: Callable[[Value | int, Value | int], Value]) -> Put:
        """What adds the bias to an output, applies the epilogue and stores it at offset(i, j) in y; `channel` is a vector's offset."""
        k, spec = self.k, self.shape
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
