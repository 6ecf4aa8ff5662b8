"""Picks channels of blocked values, in any order: y[:, i] = x[:, channel i], a few shuffles for each vector of the result.

It serves what strided copies do not do well inside vectors: every second channel, the shuffle of channel groups, concatenations
that do not meet at blocks.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import llvmlite.ir as ir
import numpy as np

from ...engine.graph import Constant, Node
from ...engine.ops.gather import Gather
from ...engine.ops.shape import Concat, Slice
from .copies import copy
from .emit import I64, POINTER, Emitter, Value
from .kernel import Argument, Call, Kernel, Machine, NoKernel, Table, grain_for, lowers
from .strided import picked
from .view import View

Pattern = tuple[tuple[int, int], ...]
"""For each lane of a vector of y where it comes from: (number of a source vector, its lane); (-1, 0) is zero."""
Channel = tuple[int, int]
"""(number of an operand, channel)."""
TILE_BYTES = 8192
MOST_LANES = 4096
"""Beyond this many lanes in patterns that differ, the code would be larger than the work is worth."""


@dc.dataclass(frozen=True)
class PickLanesKernel(Kernel):
    """Vectors of y from lanes of a few vectors of the sources, all of one pixel.

    Table `blocks` (i64): for each block of y that is made its pattern, its offset in y, then a pair for each source vector: the number
    of the source, and an offset in it. Offsets are bytes; `source0_image` and so on is what lies between two images.
    """

    itemsize: int
    patterns: tuple[Pattern, ...]
    sources: int

    @property
    def signature(self) -> tuple[str, ...]:
        """See Kernel."""
        places = tuple(f"source{i}*" for i in range(self.sources))
        images = tuple(f"source{i}_image" for i in range(self.sources))
        return (*places, *images, "target*", "target_image", "blocks*", "block_count", "pixels", "tile", "tiles")

    @property
    def slots(self) -> int:
        """Source vectors that an entry of the table has room for."""
        return max(number for pattern in self.patterns for number, _ in pattern) + 1

    def write(self, k: Emitter) -> None:
        """See Kernel."""
        sources = [(k.pointer(f"source{i}"), k.argument(f"source{i}_image")) for i in range(self.sources)]
        target, blocks = k.pointer("target"), k.pointer("blocks")
        target_image, block_count, pixels, tile, tiles = map(k.argument, ("target_image", "block_count", "pixels", "tile", "tiles"))
        starts = k.b.alloca(POINTER, self.sources)
        with k.units() as unit:
            rest, number = k.divmod(unit.index, tiles)
            image, block = k.divmod(rest, block_count)
            first = k.mul(number, tile)
            offset = k.mul(first, len(self.patterns[0]) * self.itemsize)
            for i, (source, step) in enumerate(sources):
                k.store(k.at(source, k.add(k.mul(image, step), offset)), starts, 8 * i)
            entry = k.at(blocks, k.mul(block, 8 * (2 + 2 * self.slots)))
            written = k.add(k.add(k.mul(image, target_image), k.load(entry, I64, 8)), offset)
            self.dispatch(k, entry, starts, k.at(target, written), k.minimum(k.sub(pixels, first), tile))

    def dispatch(self, k: Emitter, entry: Value, starts: Value, target: Value, pixels: Value) -> None:
        """The loop over pixels of the block's pattern."""
        after = k.function.append_basic_block("done")
        branches = [k.function.append_basic_block(f"pattern{i}") for i in range(len(self.patterns))]
        switch = k.b.switch(k.load(entry, I64), branches[0])
        for i, (branch, pattern) in enumerate(zip(branches, self.patterns, strict=True)):
            switch.add_case(ir.Constant(I64, i), branch)
            k.b.position_at_end(branch)
            self.pixels(k, pattern, entry, starts, target, pixels)
            k.b.branch(after)
        k.b.position_at_end(after)

    def pixels(self, k: Emitter, pattern: Pattern, entry: Value, starts: Value, target: Value, pixels: Value) -> None:
        """Every pixel of one tile."""
        kind = ir.VectorType(ir.IntType(8 * self.itemsize), len(pattern))
        pointers = []
        for slot in range(max(number for number, _ in pattern) + 1):
            start = k.load(k.at(starts, k.mul(k.load(entry, I64, 16 + 16 * slot), 8)), POINTER)
            pointers.append(k.at(start, k.load(entry, I64, 24 + 16 * slot)))
        with k.loop(0, pixels, nonempty=True) as pixel:
            offset = k.mul(pixel.index, kind.count * self.itemsize)
            k.store(picked(k, [k.load(p, kind, offset) for p in pointers], pattern), target, offset)


@lowers(Slice)
def lower_channel_slice(node: Slice, machine: Machine) -> list[Call]:
    """Some channels of a blocked x, in steps, or from the middle of a block on."""
    layout = node.type.layout
    if layout is None or node.x.type.layout != layout:
        raise NoKernel("the lanes of a value that is not blocked")
    axis = layout.axis
    if not all(node.keeps(i) for i in range(node.type.rank) if i != axis):
        raise NoKernel("a slice along the blocked axis, and along others")
    start, step = node.starts[axis], node.steps[axis]
    if step == 1 and start % layout.block == 0:
        raise NoKernel("a slice of whole blocks")
    return pick_lanes([node.x], node, [(0, start + i * step) for i in range(node.sizes[axis])], machine)


@lowers(Concat)
def lower_channel_concat(node: Concat, machine: Machine) -> list[Call]:
    """Operands along the blocked axis: those that fill blocks of their own are copied, the others picked from."""
    layout, axis = node.type.layout, node.axis
    if layout is None or axis != layout.axis or any(o.type.layout != layout for o in node.inputs):
        raise NoKernel("the lanes of values that are not blocked along the axis that grows")
    calls: list[Call] = []
    channels: list[Channel | None] = []
    for number, operand in enumerate(node.inputs):
        start, extent = len(channels), operand.type.shape[axis]
        is_last = start + extent == node.type.shape[axis]
        whole = operand.type.size and start % layout.block == 0 and (extent % layout.block == 0 or is_last)
        if whole:
            calls += copy(View.of(operand), View.of(node).along(axis, start, extent), machine)
        channels += [None] * extent if whole else [(number, channel) for channel in range(extent)]
    if all(channel is None for channel in channels):
        raise NoKernel("operands that all fill blocks of their own")
    return calls + pick_lanes(node.inputs, node, channels, machine)


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
    return pick_lanes([node.x], node, [(0, channel) for channel in chosen.tolist()], machine)


def pick_lanes(sources: Sequence[Node], y: Node, channels: Sequence[Channel | None], machine: Machine) -> list[Call]:
    """A call that makes channel i of y, along the blocked axis that all have, from channels[i]; None: another call makes its block."""
    layout, itemsize = y.type.layout, y.type.dtype.itemsize
    assert layout is not None
    images, pixels = math.prod(y.type.shape[: layout.axis]), math.prod(y.type.shape[layout.axis + 1 :])
    plane = pixels * layout.block * itemsize
    patterns, rows = _patterns(channels, layout.block)
    if len(patterns) * layout.block > MOST_LANES:
        raise NoKernel(f"{len(patterns)} patterns of channels that differ")
    kernel = PickLanesKernel(itemsize, tuple(patterns), len(sources))
    table = np.zeros((len(rows), 2 + 2 * kernel.slots), np.int64)
    for entry, (pattern, block, vectors) in zip(table, rows, strict=True):
        slots = [value for source, number in vectors for value in (source, number * plane)]
        entry[: 2 + len(slots)] = (pattern, block * plane, *slots)
    tile = max(1, min(pixels, TILE_BYTES // (layout.block * itemsize)))
    arguments: dict[str, Argument] = {f"source{i}": source for i, source in enumerate(sources)}
    arguments |= {f"source{i}_image": source.type.nbytes // images for i, source in enumerate(sources)}
    arguments |= {"target": y, "target_image": y.type.nbytes // images, "blocks": Table(table), "block_count": len(rows)}
    arguments |= {"pixels": pixels, "tile": tile, "tiles": -(-pixels // tile)}
    units = images * len(rows) * -(-pixels // tile)
    return [Call(kernel, arguments, units, grain_for(units, images * len(rows) * plane * 1e-10, machine.threads))]


def _patterns(channels: Sequence[Channel | None], block: int) -> tuple[list[Pattern], list[tuple[int, int, list[Channel]]]]:
    """The distinct patterns, and for each block of y to be made (its pattern, its number, its source vectors)."""
    patterns: dict[Pattern, int] = {}
    rows = []
    for start in range(0, len(channels), block):
        part = [channel for channel in channels[start : start + block] if channel is not None]
        if not part:
            continue
        vectors = list(dict.fromkeys((source, channel // block) for source, channel in part))
        lanes = [(vectors.index((source, channel // block)), channel % block) for source, channel in part]
        pattern = (*lanes, *[(-1, 0)] * (block - len(part)))
        rows.append((patterns.setdefault(pattern, len(patterns)), start // block, vectors))
    return list(patterns), rows
