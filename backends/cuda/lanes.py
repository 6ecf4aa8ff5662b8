"""Threads that work together on one item: how a block is divided among items, and how its threads combine what they found.

The order in which values are combined depends on nothing but the number of lanes, so that results are the same in every run.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence

import numpy as np

from ..common.cuda_functions import register_type
from ..common.kinds import kind_of
from .elements import lines
from .kernel import Extent

WARP = 32
MOST_THREADS = 256
MOST_LANES = 256
THREADS_WANTED = 2**16
"""As many threads keep the largest GPUs busy; with more, items need not be shared."""
NEAR_ITEMS = 8
"""So many neighbouring items of a block share cache lines."""


@dc.dataclass(frozen=True)
class Lanes:
    """A block has `items` items of `count` lanes, a power of two. Neighbouring threads are lanes of an item, or neighbouring items."""

    count: int
    items: int
    neighbours: str
    """"lanes" or "items"."""

    @property
    def block(self) -> Extent:
        """Threads along x and y."""
        return (self.count, self.items, 1) if self.neighbours == "lanes" else (self.items, self.count, 1)

    @property
    def uses_shuffles(self) -> bool:
        """Whether all lanes of an item are in one warp that is whole."""
        return self.neighbours == "lanes" and self.count <= WARP and self.count * self.items % WARP == 0

    def shared(self, values: int) -> int:
        """Bytes of shared memory for combining so many values."""
        return 0 if self.count == 1 or self.uses_shuffles else 8 * values * self.count * self.items

    @property
    def start(self) -> str:
        """Statements that say who a thread is."""
        lane, item = ("x", "y") if self.neighbours == "lanes" else ("y", "x")
        return lines(f"const int lane = threadIdx.{lane};", f"const int item = blockIdx.x * {self.items} + threadIdx.{item};")

    def combine(self, values: Sequence[tuple[str, str]], merge: Callable[[Sequence[str]], str], for_all: bool = True, used: int = 0) -> str:
        """Statements after which every lane has what all lanes of its item found; if not `for_all`, only lane 0.

        `values`: the C type and name of each variable. `merge`: given the names of another lane's, the statement that takes them
        into its own. All threads of the block must come here. `used`: values that were combined before in this kernel.
        """
        if self.count == 1:
            return ""
        others = [f"other_{name}" for _, name in values]
        if self.uses_shuffles:
            taken = [f"const {kind} {o} = shuffle_xor({name}, step);" for (kind, name), o in zip(values, others, strict=True)]
            return lines(f"UNROLL for (int step = {self.count // 2}; step; step /= 2) {{", *taken, merge(others), "}")
        threads = self.count * self.items
        places = [f"(({kind}*)(memory + {8 * (used + i) * threads}))" for i, (kind, _) in enumerate(values)]
        put = [f"{place}[thread] = {name};" for place, (_, name) in zip(places, values, strict=True)]
        distance, first = ("step", "lane") if self.neighbours == "lanes" else (f"step * {self.items}", f"lane * {self.items}")
        taken = [f"const {k} {o} = {p}[thread + {distance}];" for p, (k, _), o in zip(places, values, others, strict=True)]
        halves = [f"for (int step = {self.count // 2}; step; step /= 2) {{", "__syncthreads();", "if (lane < step) {", *taken]
        shared = [f"{name} = {place}[thread - {first}];" for place, (_, name) in zip(places, values, strict=True)]
        return lines(
            "{",
            f"const int thread = threadIdx.y * {self.block[0]} + threadIdx.x;",
            *(*put, *halves, merge(others), *put, "}", "}"),
            *(("__syncthreads();", *shared) if for_all else ()),
            "}",
        )


def lanes_for(items: int, steps: int, neighbours: str) -> Lanes:
    """How the threads of a block work on `items` items of `steps` steps each.

    Where the steps are neighbours in memory, a warp takes an item, or a part of a warp where they are few; a whole block takes one of
    many steps. Where the items are neighbours, there are only as many lanes as the GPU needs to be busy.
    """
    most = 1 << max(0, steps - 1).bit_length()
    if neighbours == "lanes":
        count = min(WARP if most <= 1024 else MOST_LANES, most)
        return Lanes(count, max(1, 128 // count), neighbours)
    near = 1 << max(0, min(items, NEAR_ITEMS) - 1).bit_length()
    needed = 1 << max(0, -(-THREADS_WANTED // max(items, 1)) - 1).bit_length()
    count = max(1, min(most, needed, MOST_THREADS // near, WARP))
    return Lanes(count, min(1 << max(0, items - 1).bit_length(), 128 // count if count < 16 else near), neighbours)


def accumulator(dtype: np.dtype) -> str:
    """The C type in which elements are accumulated: float or double, or an integer of 64 bits."""
    if kind_of(dtype) == "f":
        return register_type(dtype)
    return "uint64" if dtype.kind == "u" and dtype.itemsize == 8 else "int64"
