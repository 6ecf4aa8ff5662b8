"""Weights in the order in which a kernel streams them."""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np

from ...engine.graph import Constant, Node
from .kernel import LateTable, Table


@dc.dataclass(frozen=True)
class Packed:
    """Weights somewhere in memory, and the bytes from one to the next in every direction."""

    place: Table | Node
    groups: tuple[int, ...]
    """Where the weights of each group of output vectors start."""
    row_tap: int
    block: int
    column_tap: int
    channel: int
    image: int = 0


@dc.dataclass(frozen=True)
class Slab:
    """What one group of output vectors reads and writes, in blocks of channels."""

    vectors: range
    blocks: range


def pack(weight: np.ndarray, groups: int, slabs: list[Slab], lanes: int, channels: int, columns_outside: bool) -> Packed:
    """(k, c of a group, *taps) as (slab, row tap, block, column tap, channel, k), zero where an output does not read a channel.

    With `columns_outside` the order is (slab, column tap, row tap, block, channel, k).
    """
    rows, columns = math.prod(weight.shape[2:-1]), weight.shape[-1]
    natural = (len(slabs), len(slabs[0].blocks), channels, rows, columns, len(slabs[0].vectors) * lanes)
    order = (0, 4, 3, 1, 2, 5) if columns_outside else (0, 3, 1, 4, 2, 5)
    source = weight.reshape(*weight.shape[:2], rows, columns)

    def fill(target: np.ndarray) -> None:
        for part, slab in zip(target.transpose(np.argsort(order)), slabs, strict=True):
            _fill(part, source, groups, slab, lanes)

    table = LateTable(tuple(natural[i] for i in order), np.dtype(np.float32), fill)
    sizes = (*table.shape, table.dtype.itemsize)
    stride = {axis: math.prod(sizes[position + 1 :]) for position, axis in enumerate(order)}
    starts = tuple(i * stride[0] for i in range(len(slabs)))
    return Packed(table, starts, row_tap=stride[3], block=stride[1], column_tap=stride[4], channel=stride[2])


def pack_depthwise(weight: np.ndarray, slabs: list[Slab], lanes: int) -> Packed:
    """(c, 1, *taps) as (channel block, row tap, column tap, lane), zero in padding lanes."""
    channels, columns = weight.shape[0], weight.shape[-1]
    packed = np.zeros((len(slabs) * lanes, math.prod(weight.shape[2:-1]), columns), np.float32)
    packed[:channels] = weight.reshape(channels, -1, columns)
    ordered = np.ascontiguousarray(packed.reshape(len(slabs), lanes, -1, columns).transpose(0, 2, 3, 1))
    starts = tuple(i * ordered.strides[0] for i in range(len(slabs)))
    return Packed(Table(ordered), starts, row_tap=ordered.strides[1], block=0, column_tap=ordered.strides[2], channel=0)


def _fill(target: np.ndarray, weight: np.ndarray, groups: int, slab: Slab, lanes: int) -> None:
    """Write into (block, channel, row tap, column tap, k) the weights of every convolution group that the slab touches."""
    k, c = weight.shape[:2]
    per_group, channels = k // groups, target.shape[1]
    begin, end = slab.vectors[0] * lanes, min((slab.vectors[-1] + 1) * lanes, k)
    for group in range(begin // per_group, -(-end // per_group)):
        low, high = max(group * per_group, begin), min((group + 1) * per_group, end)
        start = group * c - slab.blocks[0] * channels
        for first, count, width in _pieces(start, c, channels):
            block, channel = divmod(first, channels)
            part = weight[low:high, first - start : first - start + count * width].reshape(high - low, count, width, *weight.shape[2:])
            target[block : block + count, channel : channel + width, :, :, low - begin : high - begin] = np.moveaxis(part, 0, -1)


def _pieces(start: int, length: int, size: int) -> list[tuple[int, int, int]]:
    """start <= i < start + length, cut where blocks of `size` begin: (first, how many parts, the length of each)."""
    head = min(-start % size, length)
    count, tail = divmod(length - head, size)
    cut = [(start, 1, head), (start + head, count, size), (start + length - tail, 1, tail)]
    return [(first, parts, width) for first, parts, width in cut if parts and width]


def padded_bias(bias: Node | None, k: int, lanes: int) -> Table:
    """The constant bias, or zeros, up to whole vectors."""
    padded = np.zeros(-(-k // lanes) * lanes, np.float32)
    if isinstance(bias, Constant):
        padded[:k] = bias.data
    return Table(padded)
