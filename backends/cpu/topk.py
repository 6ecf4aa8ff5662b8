"""TopK: few elements by insertion, many by a stable merge sort. NaN counts as larger than any number, as in NumPy's order."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ...engine.ops import TopK
from ..common.storage import result_offset
from .kernel import Address, Argument, Call, Machine, NoKernel, Scratch, grain_for, lowers
from .numba_kernel import Array, NumbaKernel, inlined

FEW = 32
"""Up to so many elements insertion is faster than sorting everything."""


def larger_first(a: Any, b: Any) -> bool:
    """Whether a comes before b among the largest."""
    return (a > b) | ((a != a) & (b == b))


def smaller_first(a: Any, b: Any) -> bool:
    """Whether a comes before b among the smallest."""
    return (a < b) | ((b != b) & (a == a))


@dc.dataclass(frozen=True)
class _TopKKernel(NumbaKernel):
    """values, indices[row, 0 .. k, column] = the first k of x[row, 0 .. extent, column] in order; unit = row * columns + column."""

    parameters: ClassVar[tuple[str, ...]] = ("x*", "values*", "indices*", "scratch*", "extent", "columns", "k")
    dtype: np.dtype
    largest: bool

    @property
    def dtypes(self) -> dict[str, Any]:
        """See NumbaKernel."""
        return {"x": self.dtype, "values": self.dtype, "indices": np.int64, "scratch": np.int64}


@dc.dataclass(frozen=True)
class InsertTopKKernel(_TopKKernel):
    """Every element moves up from the end of the list as far as it is better."""

    def body(self) -> Callable[..., None]:
        """See NumbaKernel."""
        precedes = inlined(larger_first if self.largest else smaller_first)

        def insert(
            begin: int, end: int, thread: int, x: Array, values: Array, indices: Array, scratch: Array, extent: int, columns: int, k: int
        ) -> None:
            for unit in range(begin, end):
                row, column = unit // columns, unit % columns
                source, target = row * extent * columns + column, row * k * columns + column
                for j in range(extent):
                    value, place = x[source + j * columns], min(j, k)
                    while place > 0 and precedes(value, values[target + (place - 1) * columns]):
                        if place < k:
                            values[target + place * columns] = values[target + (place - 1) * columns]
                            indices[target + place * columns] = indices[target + (place - 1) * columns]
                        place -= 1
                    if place < k:
                        values[target + place * columns] = value
                        indices[target + place * columns] = j

        return insert


@dc.dataclass(frozen=True)
class SortTopKKernel(_TopKKernel):
    """Positions are merged in runs of 1, 2, 4 ... between two halves of scratch memory."""

    def body(self) -> Callable[..., None]:
        """See NumbaKernel."""
        precedes = inlined(larger_first if self.largest else smaller_first)

        def sort(
            begin: int, end: int, thread: int, x: Array, values: Array, indices: Array, scratch: Array, extent: int, columns: int, k: int
        ) -> None:
            for unit in range(begin, end):
                row, column = unit // columns, unit % columns
                source, target = row * extent * columns + column, row * k * columns + column
                old = 2 * extent * thread
                new = old + extent
                for j in range(extent):
                    scratch[old + j] = j
                width = 1
                while width < extent:
                    for start in range(0, extent, 2 * width):
                        left, middle, last = start, min(start + width, extent), min(start + 2 * width, extent)
                        right = middle
                        for place in range(start, last):
                            if left < middle and (
                                right >= last
                                or not precedes(x[source + scratch[old + right] * columns], x[source + scratch[old + left] * columns])
                            ):
                                scratch[new + place] = scratch[old + left]
                                left += 1
                            else:
                                scratch[new + place] = scratch[old + right]
                                right += 1
                    old, new = new, old
                    width *= 2
                for j in range(k):
                    indices[target + j * columns] = scratch[old + j]
                    values[target + j * columns] = x[source + scratch[old + j] * columns]

        return sort


@lowers(TopK)
def lower_topk(node: TopK, machine: Machine) -> list[Call]:
    """One call, a unit a list."""
    x = node.x.type
    if x.layout or x.dtype == np.float16:
        raise NoKernel(f"the top of {x}, which is blocked or float16")
    extent = x.shape[node.axis]
    units, columns = x.size // extent, math.prod(x.shape[node.axis + 1 :])
    kernel = (InsertTopKKernel if node.k <= FEW else SortTopKKernel)(x.dtype, node.largest)
    places: dict[str, Argument] = {name: Address(node, result_offset(node, i)) for i, name in enumerate(("values", "indices"))}
    places |= {"x": node.x, "scratch": Scratch(16 * extent if node.k > FEW else 64)}
    work = units * extent * (2e-9 if node.k <= FEW else 5e-9 * math.log2(extent))
    return [Call(kernel, places | {"extent": extent, "columns": columns, "k": node.k}, units, grain_for(units, work, machine.threads))]
