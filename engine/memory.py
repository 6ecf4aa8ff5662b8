"""Where each value of a run lives inside one arena: values that are not alive at the same time share memory."""

from __future__ import annotations

import bisect
import dataclasses as dc
from collections.abc import Iterable, Sequence

ALIGNMENT = 64
STRETCHES = 16


@dc.dataclass(frozen=True)
class Buffer:
    """`nbytes` that are in use from step `first` to step `last`, both included."""

    nbytes: int
    first: int
    last: int


def assign(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """(offset of each buffer, size of the arena): the best of four greedy orders, each placing a buffer in the tightest gap.

    No order is best for every network: the largest first, as they are executed, those of the fullest steps first, or those
    that hold most memory for longest first. An order that meets the lower bound ends the search.
    """
    bound = lower_bound(buffers)
    best: tuple[list[int], int] = [], 0
    for order in orders(buffers):
        offsets, total = place(buffers, order)
        if not best[0] or total < best[1]:
            best = offsets, total
        if total == bound:
            break
    return best


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """The bytes that the fullest step needs; no arena can be smaller."""
    return max(breadths(buffers), default=0)


def aligned(nbytes: int) -> int:
    """What a buffer takes up: every one starts on a cache line."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def breadths(buffers: Sequence[Buffer]) -> list[int]:
    """The bytes in use at each step."""
    changes = [0] * (2 + max((b.last for b in buffers), default=0))
    for buffer in buffers:
        changes[buffer.first] += aligned(buffer.nbytes)
        changes[buffer.last + 1] -= aligned(buffer.nbytes)
    for step in range(1, len(changes)):
        changes[step] += changes[step - 1]
    return changes


def orders(buffers: Sequence[Buffer]) -> Iterable[list[int]]:
    """The four orders to try, as indices."""
    every = range(len(buffers))
    full = breadths(buffers)
    yield sorted(every, key=lambda i: (-buffers[i].nbytes, buffers[i].first))
    yield sorted(every, key=lambda i: (-max(full[buffers[i].first : buffers[i].last + 1]), -buffers[i].nbytes))
    yield sorted(every, key=lambda i: -(buffers[i].last - buffers[i].first + 1) * buffers[i].nbytes)
    yield sorted(every, key=lambda i: (buffers[i].first, -buffers[i].nbytes))


def place(buffers: Sequence[Buffer], order: Sequence[int]) -> tuple[list[int], int]:
    """Offsets and arena size when buffers are placed in this order, each in the tightest gap between those alive with it.

    Buffers that live within one stretch of steps, as most do, are compared with those of that stretch only.
    """
    offsets = [0] * len(buffers)
    total = 0
    length = max((b.last for b in buffers), default=0) // STRETCHES + 1
    everywhere: list[tuple[int, int, int, int]] = []
    stretches: list[list[tuple[int, int, int, int]]] = [[] for _ in range(STRETCHES)]
    for index in order:
        buffer = buffers[index]
        size = aligned(buffer.nbytes)
        first, last = buffer.first, buffer.last
        touched = stretches[first // length : last // length + 1]
        near = touched[0] if len(touched) == 1 else everywhere
        offset = tightest_gap([(low, high) for low, high, start, end in near if start <= last and end >= first], size)
        offsets[index] = offset
        total = max(total, offset + size)
        for entries in (everywhere, *touched):
            bisect.insort(entries, (offset, offset + size, first, last))
    return offsets, total


def tightest_gap(taken: Iterable[tuple[int, int]], size: int) -> int:
    """The start of the smallest gap of at least `size` between ranges sorted by their start; past them all when there is none."""
    reached, best, room = 0, -1, 0
    for low, high in taken:
        if low - reached >= size and (best < 0 or low - reached < room):
            best, room = reached, low - reached
        reached = max(reached, high)
    return best if best >= 0 else reached
