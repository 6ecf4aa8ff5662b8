"""Picks channels of a blocked value, in any order: y[:, i] = x[:, channels[i]], a few shuffles for each vector of the result.

It serves what a strided copy cannot do inside vectors: every second channel, or the shuffle of channel groups.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence
from typing import ClassVar

import llvmlite.ir as ir
import numpy as np

from ...engine.graph import Constant, Node
from ...engine.ops.gather import Gather
from ...engine.ops.shape import Slice
from .emit import I64, Emitter, Value
from .kernel import Call, Kernel, Machine, NoKernel, Table, grain_for, lowers
from .strided import picked

Pattern = tuple[tuple[int, int], ...]
"""For each lane of a vector of y where it comes from: (number of a source vector, its lane); (-1, 0) is zero."""
TILE_BYTES = 8192
MOST_LANES = 4096
"""Beyond this many lanes in patterns that differ, the code would be larger than the work is worth."""


@dc.dataclass(frozen=True)
class PickLanesKernel(Kernel):
    """Every vector of y from lanes of a few vectors of x, all of one pixel.

    Table of blocks (i64): for each block of y the number of its pattern, then the offsets in bytes of its source vectors.
    """

    parameters: ClassVar[tuple[str, ...]] = (
        *("source*", "target*", "blocks*", "block_count", "tiles", "tile"),
        *("pixels", "source_image", "target_image", "target_block"),
    )
    itemsize: int
    patterns: tuple[Pattern, ...]

    @property
    def slots(self) -> int:
        """Source vectors that an entry of the table has room for."""
        return max(number for pattern in self.patterns for number, _ in pattern) + 1

    def write(self, k: Emitter) -> None:
        base = {name: k.pointer(name) for name in ("source", "target", "blocks")}
        number = {name: k.argument(name) for name in self.parameters if not name.endswith("*")}
        vector_bytes = len(self.patterns[0]) * self.itemsize
        with k.units() as unit:
            rest, tile = k.divmod(unit.index, number["tiles"])
            image, block = k.divmod(rest, number["block_count"])
            first = k.mul(tile, number["tile"])
            count = k.minimum(k.sub(number["pixels"], first), number["tile"])
            entry = k.at(base["blocks"], k.mul(block, 8 * (1 + self.slots)))
            source = k.at(base["source"], k.add(k.mul(image, number["source_image"]), k.mul(first, vector_bytes)))
            written = k.add(k.mul(image, number["target_image"]), k.mul(block, number["target_block"]))
            target = k.at(base["target"], k.add(written, k.mul(first, vector_bytes)))
            self.dispatch(k, entry, source, target, count)

    def dispatch(self, k: Emitter, entry: Value, source: Value, target: Value, count: Value) -> None:
        """The loop over pixels of the block's pattern."""
        after = k.function.append_basic_block("done")
        blocks = [k.function.append_basic_block(f"pattern{i}") for i in range(len(self.patterns))]
        switch = k.b.switch(k.load(entry, I64), blocks[0])
        for i, (block, pattern) in enumerate(zip(blocks, self.patterns, strict=True)):
            switch.add_case(ir.Constant(I64, i), block)
            k.b.position_at_end(block)
            self.pixels(k, pattern, entry, source, target, count)
            k.b.branch(after)
        k.b.position_at_end(after)

    def pixels(self, k: Emitter, pattern: Pattern, entry: Value, source: Value, target: Value, pixels: Value) -> None:
        kind = ir.VectorType(ir.IntType(8 * self.itemsize), len(pattern))
        count = max(number for number, _ in pattern) + 1
        pointers = [k.at(source, k.load(entry, I64, 8 * (1 + number))) for number in range(count)]
        with k.loop(0, pixels, nonempty=True) as pixel:
            offset = k.mul(pixel.index, kind.count * self.itemsize)
            k.store(picked(k, [k.load(p, kind, offset) for p in pointers], pattern), target, offset)


@lowers(Slice)
def lower_channel_slice(node: Slice, machine: Machine) -> list[Call]:
    """Some channels of a blocked x, in steps."""
    layout = node.type.layout
    if layout is None or node.x.type.layout != layout:
        raise NoKernel("the lanes of a value that is not blocked")
    axis = layout.axis
    if any(n != m for i, (n, m) in enumerate(zip(node.x.type.shape, node.sizes, strict=True)) if i != axis):
        raise NoKernel("a slice along the blocked axis with a step, and along others")
    return pick_lanes(
        node.x, node, range(node.starts[axis], node.starts[axis] + node.sizes[axis] * node.steps[axis], node.steps[axis]), machine
    )


@lowers(Gather)
def lower_channel_gather(node: Gather, machine: Machine) -> list[Call]:
    """Channels of a blocked x by constant indices."""
    layout, indices = node.type.layout, node.indices
    if layout is None or node.x.type.layout != layout or node.axis != layout.axis:
        raise NoKernel("the lanes of a value that is not blocked along the axis of the indices")
    if not isinstance(indices, Constant) or indices.type.rank != 1:
        raise NoKernel("a choice of channels that is not a constant list")
    extent = node.x.type.shape[node.axis]
    chosen = np.where(indices.data < 0, indices.data + extent, indices.data)
    if chosen.min(initial=0) < 0 or chosen.max(initial=0) >= extent:
        raise NoKernel(f"an index outside of the axis of extent {extent}")
    return pick_lanes(node.x, node, chosen.tolist(), machine)


def pick_lanes(x: Node, y: Node, channels: Sequence[int], machine: Machine) -> list[Call]:
    """Calls for y[..., i, ...] = x[..., channels[i], ...] along the blocked axis that both have."""
    layout, itemsize = y.type.layout, y.type.dtype.itemsize
    assert layout is not None
    if y.type.size == 0:
        return []
    block = layout.block
    outer, count = math.prod(y.type.shape[: layout.axis]), y.type.physical_shape[layout.axis]
    pixels = math.prod(y.type.shape[layout.axis + 1 :])
    patterns, rows = _patterns(channels, block)
    if len(patterns) * block > MOST_LANES:
        raise NoKernel(f"{len(patterns)} patterns of channels that differ")
    kernel = PickLanesKernel(itemsize, tuple(patterns))
    table = np.zeros((count, 1 + kernel.slots), np.int64)
    for entry, (pattern, vectors) in zip(table, rows, strict=True):
        entry[: 1 + len(vectors)] = (pattern, *(v * pixels * block * itemsize for v in vectors))
    tile = max(1, min(pixels, TILE_BYTES // (block * itemsize)))
    numbers = {"block_count": count, "tiles": -(-pixels // tile), "tile": tile, "pixels": pixels}
    numbers |= {"source_image": x.type.nbytes // outer, "target_image": y.type.nbytes // outer, "target_block": pixels * block * itemsize}
    units = outer * count * numbers["tiles"]
    grain = grain_for(units, y.type.nbytes * 1e-10, machine.threads)
    return [Call(kernel, {"source": x, "target": y, "blocks": Table(table)} | numbers, units, grain)]


def _patterns(channels: Sequence[int], block: int) -> tuple[list[Pattern], list[tuple[int, list[int]]]]:
    """The distinct patterns, and for each block of y (its pattern, the blocks of x that are its source vectors)."""
    patterns: dict[Pattern, int] = {}
    rows = []
    for start in range(0, len(channels), block):
        part = channels[start : start + block]
        vectors = list(dict.fromkeys(channel // block for channel in part))
        lanes = [(vectors.index(channel // block), channel % block) for channel in part]
        pattern = (*lanes, *[(-1, 0)] * (block - len(part)))
        rows.append((patterns.setdefault(pattern, len(patterns)), vectors))
    return list(patterns), rows
