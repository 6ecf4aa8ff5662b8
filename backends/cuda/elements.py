"""Values as strided arrays, and kernels in which a thread computes an element of the result, or a pack of neighbours.

In channels-last order all channels are one block, so that a step along any axis is a constant stride there, too; behind the last
channel lie the padding lanes.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import numpy as np

from ...engine.tensor import TensorType
from ..common.cuda_expression import memory_type
from .kernel import Extent, Kernel, NoKernel

WIDEST = 16
"""Bytes that one instruction of a thread moves at most."""
MOST_ELEMENTS = 2**31 - 2**16
"""Indices are of 32 bits."""
BLOCKS_EACH = 2
"""Blocks that every multiprocessor should get."""
FLAT_BLOCKS = 264
"""The same for all multiprocessors of a large GPU; a small one loses nothing when it runs more and smaller blocks than it needs."""
THREADS = (256, 128, 64)


def unit(dtype: np.dtype) -> int:
    """Elements that one instruction of a thread moves at most."""
    return WIDEST // dtype.itemsize


def check_size(*kinds: TensorType) -> None:
    """NoKernel for values that an index of 32 bits cannot go through, or with several blocks of channels."""
    for kind in kinds:
        if math.prod(kind.physical_shape) > MOST_ELEMENTS:
            raise NoKernel(f"{kind} has more elements than an index of 32 bits counts")
        if kind.layout and kind.shape[kind.layout.axis] > kind.layout.block:
            raise NoKernel(f"{kind} has several blocks of channels")


def is_channels_last(kind: TensorType) -> bool:
    """Whether all channels of a position follow each other, padded to whole pieces of what a thread moves at a time."""
    layout = kind.layout
    return layout is not None and layout.axis == 1 and layout.block >= kind.shape[1] and layout.block % unit(kind.dtype) == 0


def check_plain(*kinds: TensorType) -> None:
    """NoKernel unless all of these are plain."""
    check_size(*kinds)
    if blocked := [kind for kind in kinds if kind.layout]:
        raise NoKernel(f"{blocked[0]} is not plain")


def strides_of(kind: TensorType) -> tuple[int, ...]:
    """Elements between neighbours along each logical axis."""
    check_size(kind)
    strides = [*kind.physical_strides[: kind.rank]]
    if kind.layout:
        strides[kind.layout.axis] = 1
    return tuple(strides)


def padding_of(kind: TensorType) -> tuple[int, ...]:
    """How many lanes lie behind the last element of each logical axis."""
    return tuple(kind.layout.block - n if kind.layout and axis == kind.layout.axis else 0 for axis, n in enumerate(kind.shape))


def memory_order(kind: TensorType) -> tuple[int, ...]:
    """The logical axes, outermost first."""
    last = (kind.layout.axis,) if kind.layout else ()
    return (*(axis for axis in range(kind.rank) if axis not in last), *last)


def coordinates(index: str, extents: Sequence[int]) -> list[str]:
    """Text of each coordinate of a flat row-major index, which is the name of an int."""
    found = []
    for position, extent in enumerate(extents):
        inner, outer = math.prod(extents[position + 1 :]), math.prod(extents[:position])
        text = f"{index} / {inner}" if inner != 1 else index
        found.append("0" if extent == 1 else f"({text} % {extent})" if outer != 1 else f"({text})")
    return found


def weighted(terms: Sequence[str], strides: Sequence[int]) -> str:
    """Text of the sum of terms times strides."""
    kept = [term if stride == 1 else f"{term} * {stride}" for term, stride in zip(terms, strides, strict=True) if stride and term != "0"]
    return " + ".join(kept) or "0"


def threads_for(count: int) -> int:
    """Threads of a block that give every GPU enough blocks: a flat kernel is the same for all of them."""
    return next((threads for threads in THREADS if count >= threads * FLAT_BLOCKS), THREADS[-1])


def lines(*texts: str, spaces: int = 2) -> str:
    """Statements, each on a line."""
    return "".join(f"{' ' * spaces}{line}\n" for text in texts for line in text.splitlines() if line.strip())


@dc.dataclass(frozen=True)
class FlatKernel(Kernel):
    """A kernel of `count` threads that have nothing to do with each other; each knows its number as `index`."""

    @property
    def count(self) -> int:
        """Threads with work."""
        raise NotImplementedError

    @property
    def grid(self) -> Extent:
        return -(-self.count // self.block[0]), 1, 1

    @property
    def block(self) -> Extent:
        return threads_for(self.count), 1, 1

    def body(self) -> str:
        start = f"const int index = blockIdx.x * {self.block[0]} + threadIdx.x;"
        return lines(start, f"if (index >= {self.count}) return;", self.thread())

    def thread(self) -> str:
        """What one thread does."""
        raise NotImplementedError


@dc.dataclass(frozen=True)
class ElementKernel(FlatKernel):
    """A thread computes `pack` elements of y that follow each other in memory; i0, i1, ... are its place along the logical axes.

    `y` is the parameter of that name; `element` sets `result`, of type Pack, and the rest happens here.
    """

    y: TensorType
    pack: int

    @property
    def count(self) -> int:
        return math.prod(self.y.physical_shape) // self.pack

    @property
    def y_type(self) -> str:
        """An element of y in memory."""
        return memory_type(self.y.dtype)

    def thread(self) -> str:
        order = memory_order(self.y)
        extents = [self.y.shape[axis] + padding_of(self.y)[axis] for axis in order]
        if order:
            extents[-1] //= self.pack
        texts = coordinates("index", extents)
        if order and texts[-1] != "0" and self.pack > 1:
            texts[-1] += f" * {self.pack}"
        places = [f"const int i{axis} = {text};" for axis, text in zip(order, texts, strict=True)]
        result = f"Pack<{self.y_type}, {self.pack}>"
        at = weighted([f"i{axis}" for axis in range(self.y.rank)], strides_of(self.y))
        place = f"(({result}*)y)[index]" if self.y.is_dense else f"*({result}*)(y + ({at}))"
        return lines(*places, f"{result} result;", self.element(), f"{place} = result;", spaces=0)

    def element(self) -> str:
        """Sets `result`."""
        raise NotImplementedError

    @property
    def is_padding(self) -> str:
        """Text that says whether the place is in the padding lanes; empty where there are none."""
        layout = self.y.layout
        return f"i{layout.axis} >= {self.y.shape[layout.axis]}" if layout and any(padding_of(self.y)) else ""


def channel_pack(*kinds: TensorType) -> int:
    """How many channels a thread takes at once: 16 bytes where all values have channels last in one block, else one."""
    layouts = {kind.dense.layout for kind in kinds}
    layout = layouts.pop()
    if layouts or layout is None:
        return 1
    return math.gcd(layout.block, WIDEST // max(kind.dtype.itemsize for kind in kinds))


def items_type(nbytes: int) -> str:
    """A type of so many bytes, for elements whose values do not matter."""
    return f"uint{8 * nbytes}"
