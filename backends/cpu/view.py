"""Strided views of values in memory, as NumPy has them, where the blocked axis of a layout is one dimension like the others."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from typing import Self

import numpy as np

from ...engine.graph import Node
from ...engine.tensor import TensorType
from .kernel import NoKernel, Table
from .space import physical_strides


@dc.dataclass(frozen=True)
class Line:
    """How a dimension lies in memory: index i is i * stride bytes on.

    With blocks it is, for j = i + phase, (j // block) * block_stride + (j % block) * stride bytes on. `padding` lanes follow the
    last index in the last block.
    """

    stride: int
    block: int = 0
    block_stride: int = 0
    phase: int = 0
    padding: int = 0


@dc.dataclass(frozen=True)
class View:
    """Part of a value: where index 0 is, and how each dimension lies from there."""

    place: Node | Table
    itemsize: int
    shape: tuple[int, ...]
    lines: tuple[Line, ...]
    offset: int = 0

    @classmethod
    def of(cls, node: Node, kind: TensorType | None = None) -> Self:
        """All of a node's value, in its layout; `kind` for one with several results."""
        kind = kind or node.type
        if kind.dtype.itemsize not in (1, 2, 4, 8):
            raise NoKernel(f"elements of {kind.dtype.itemsize} bytes")
        return cls(node, kind.dtype.itemsize, kind.shape, lines_of(kind))

    @classmethod
    def repeat(cls, value: np.ndarray, shape: Sequence[int]) -> Self:
        """One number, everywhere in `shape`."""
        return cls(Table(value), value.dtype.itemsize, tuple(shape), (Line(0),) * len(shape))

    def along(self, axis: int, start: int, size: int, step: int = 1) -> View:
        """The indices start, start + step, ... of one dimension. Raises NoKernel for other steps than 1 from block to block."""
        line = self.lines[axis]
        padding = line.padding if step == 1 and start + size == self.shape[axis] else 0
        if not line.block:
            return self._put(axis, size, Line(line.stride * step, padding=padding), start * line.stride)
        block, lane = divmod(start + line.phase, line.block)
        offset = block * line.block_stride
        if 0 <= lane + (size - 1) * step < line.block:
            return self._put(axis, size, Line(line.stride * step, padding=padding), offset + lane * line.stride)
        if step != 1:
            raise NoKernel(f"indices {start}, {start + step}, ... cross blocks of {line.block}")
        return self._put(axis, size, dc.replace(line, phase=lane, padding=padding), offset)

    def _put(self, axis: int, extent: int, line: Line, offset: int) -> View:
        shape = (*self.shape[:axis], extent, *self.shape[axis + 1 :])
        lines = (*self.lines[:axis], line, *self.lines[axis + 1 :])
        return dc.replace(self, shape=shape, lines=lines, offset=self.offset + offset)

    def split(self, axis: int, start: int, lanes: int, blocks: int) -> View:
        """A dimension as two: `lanes` indices from `start` on, which lie in one block, and the same in each of `blocks` blocks."""
        line, part = self.lines[axis], self.along(axis, start, lanes)
        shape = (*self.shape[:axis], blocks, lanes, *self.shape[axis + 1 :])
        return dc.replace(part, shape=shape, lines=(*self.lines[:axis], Line(line.block_stride), *part.lines[axis:]))

    def slice(self, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int] | None = None) -> View:
        """`along` every dimension."""
        view = self
        for axis, (start, size, step) in enumerate(zip(starts, sizes, steps or (1,) * len(sizes), strict=True)):
            view = view.along(axis, start, size, step)
        return view

    def without(self, axis: int) -> View:
        """A dimension of extent 1 left out."""
        return self.transpose([i for i in range(len(self.shape)) if i != axis])

    def transpose(self, permutation: Sequence[int]) -> View:
        """The dimensions in another order."""
        return dc.replace(self, shape=tuple(self.shape[i] for i in permutation), lines=tuple(self.lines[i] for i in permutation))

    def expand(self, shape: Sequence[int]) -> View:
        """Dimensions of extent 1 and new leading ones repeated to `shape`."""
        new = len(shape) - len(self.shape)
        grown = [Line(0) if old == 1 != n else line for old, n, line in zip(self.shape, shape[new:], self.lines, strict=True)]
        return dc.replace(self, shape=tuple(shape), lines=(*[Line(0)] * new, *grown))

    def pair(self, distance: int) -> View:
        """A new leading dimension of extent 2: this view, and the same `distance` bytes on."""
        return dc.replace(self, shape=(2, *self.shape), lines=(Line(distance), *self.lines))

    def spread(self, axis: int, sizes: Sequence[int], steps: Sequence[int]) -> View:
        """A dimension without blocks as several, of which each moves along it in steps of its own."""
        stride = self.lines[axis].stride
        lines = (*self.lines[:axis], *(Line(step * stride) for step in steps), *self.lines[axis + 1 :])
        return dc.replace(self, shape=(*self.shape[:axis], *sizes, *self.shape[axis + 1 :]), lines=lines)

    def with_padding(self) -> View:
        """The padding lanes as ordinary indices of their dimension."""
        shape = tuple(n + line.padding for n, line in zip(self.shape, self.lines, strict=True))
        return dc.replace(self, shape=shape, lines=tuple(dc.replace(line, padding=0) for line in self.lines))

    def padding_lanes(self) -> View | None:
        """Only the padding lanes, where there are any."""
        for axis, line in enumerate(self.lines):
            if line.padding and 0 not in self.shape:
                return self.with_padding().along(axis, self.shape[axis], line.padding)
        return None


def lines_of(kind: TensorType) -> tuple[Line, ...]:
    """How the dimensions of a value of this type lie in memory."""
    strides = physical_strides(kind)
    lines = [Line(stride) for stride in strides[: kind.rank]]
    if kind.layout is not None:
        axis, block = kind.layout.axis, kind.layout.block
        lines[axis] = Line(kind.dtype.itemsize, block, strides[axis], padding=-kind.shape[axis] % block)
    return tuple(lines)
