"""Strided views of values in memory, as NumPy has them, with the blocked axis of a layout as one dimension; and copies between them."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence
from typing import Self, TypeVar

import numpy as np

from ...engine.graph import Node, TensorType
from .kernel import Address, Call, Machine, NoKernel, Table, grain_for
from .strided import CopyKernel

_Item = TypeVar("_Item")
F4 = np.dtype(np.float32)
UNIT_BYTES = 16384
"""About what one unit of work moves: a microsecond or two."""
SECONDS_PER_BYTE = {"run": 5e-11, "splat": 3e-11, "transpose": 2e-10, "scalar": 5e-10}


@dc.dataclass(frozen=True)
class Line:
    """How a dimension lies in memory: index i is (i // block) * block_stride + (i % block) * stride bytes on; block 0 means no blocks.

    `padding` lanes follow its last index in the last block.
    """

    stride: int
    block: int = 0
    block_stride: int = 0
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
        """The indices start, start + step, ... of one dimension. Raises NoKernel where they cross blocks askew."""
        line, extent = self.lines[axis], self.shape[axis]
        if not line.block:
            offset, line = start * line.stride, Line(line.stride * step)
        else:
            lane = start % line.block
            offset = start // line.block * line.block_stride + lane * line.stride
            padding = line.padding if step == 1 and start + size == extent else 0
            if 0 <= lane + (size - 1) * step < line.block:
                line = Line(line.stride * step, padding=padding)
            elif lane or step != 1:
                raise NoKernel(f"indices {start}, {start + step}, ... cross the blocks of {line.block} askew")
            else:
                line = dc.replace(line, padding=padding)
        return dc.replace(self, offset=self.offset + offset, shape=_put(self.shape, axis, size), lines=_put(self.lines, axis, line))

    def slice(self, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int] | None = None) -> View:
        """`along` every dimension."""
        view = self
        for axis, (start, size, step) in enumerate(zip(starts, sizes, steps or (1,) * len(sizes), strict=True)):
            view = view.along(axis, start, size, step)
        return view

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
    physical, itemsize = kind.physical_shape, kind.dtype.itemsize
    strides = [itemsize * math.prod(physical[i + 1 :]) for i in range(len(physical))]
    lines = [Line(stride) for stride in strides[: kind.rank]]
    if kind.layout is not None:
        axis, block = kind.layout.axis, kind.layout.block
        lines[axis] = Line(itemsize, block, strides[axis], -kind.shape[axis] % block)
    return tuple(lines)


@dc.dataclass(frozen=True)
class Span:
    """A dimension of a copy: how each side lies along it (bytes); the tile strides of one that a layout splits; zeros to append."""

    extent: int
    source: int
    target: int
    block: int = 0
    source_block: int = 0
    target_block: int = 0
    zeros: int = 0

    def tile(self, size: int) -> tuple[int, int, int, int]:
        """(tiles, extent, source stride, target stride) of its tiles of `size`, or of what the layout dictates."""
        if self.block:
            return -(-(self.extent + self.zeros) // self.block), self.block, self.source_block, self.target_block
        return -(-(self.extent + self.zeros) // size), size, size * self.source, size * self.target


def copy(source: View, target: View, machine: Machine) -> list[Call]:
    """Calls that make every element of `target` that of `source`, and the padding lanes of its last block zero."""
    if 0 in target.shape:
        return []
    spans = _merged([span for dimension in zip(target.shape, source.lines, target.lines, strict=True) for span in _spans(*dimension)])
    plan = _Plan(spans, target.itemsize, machine)
    calls = [plan.call(source, target)]
    padding = target.padding_lanes()
    if padding is not None and any(s.zeros for s in spans) and plan.form != "transpose":
        calls += copy(View.repeat(np.zeros(padding.itemsize, np.uint8).view(f"u{padding.itemsize}"), padding.shape), padding, machine)
    return calls


def _spans(extent: int, source: Line, target: Line) -> list[Span]:
    """The spans of one dimension."""
    block = target.block or source.block
    if source.block and target.block:
        if source.block != target.block or (extent % block and not target.padding):
            raise NoKernel(f"blocks of {source.block} do not fit those of {target.block}")
        return [Span(-(-extent // block), source.block_stride, target.block_stride), Span(block, source.stride, target.stride)]
    jumps = [line.block_stride or block * line.stride for line in (source, target)]
    split = (block, *jumps) if extent > block > 0 else (0, 0, 0)
    return [Span(extent, source.stride, target.stride, *split, zeros=target.padding)]


def _merged(spans: list[Span]) -> list[Span]:
    """Fewer spans for the same copy, far strides of the target first."""
    spans = [s for s in spans if s.extent != 1 or s.zeros]
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: -abs(s.target)):
        last = merged[-1] if merged else None
        fits = last and (last.source, last.target) == (span.extent * span.source, span.extent * span.target)
        if last and fits and not (last.block or last.zeros or span.block or span.zeros):
            merged[-1] = Span(last.extent * span.extent, span.source, span.target)
        else:
            merged.append(span)
    return merged


class _Plan:
    """Which form of the kernel makes a copy, what are its rows and columns, and how large its tiles."""

    def __init__(self, spans: list[Span], itemsize: int, machine: Machine) -> None:
        self.machine, self.spans, self.itemsize = machine, list(spans), itemsize
        self._widen()
        self.form, self.rows, self.columns = self._choose()
        self.outer = [s for s in self.spans if s is not self.rows and s is not self.columns]
        if any(s.block for s in self.outer):
            raise NoKernel("a copy between three blocked dimensions")

    def _widen(self) -> None:
        """Short runs of a power of two become the element."""
        for span in self.spans:
            size = span.extent * self.itemsize
            if span.source == span.target == self.itemsize and not (span.block or span.zeros) and size in (2, 4, 8):
                self.spans.remove(span)
                self.itemsize = size
                break

    def _choose(self) -> tuple[str, Span, Span]:
        size, spans = self.itemsize, self.spans
        single = Span(1, size, size)
        for span in spans:
            if span.source == span.target == size:
                return "run", self._rows(span), span
        inner = next((s for s in spans if s.target == size), None)
        if inner and inner.source == 0:
            return "splat", self._rows(inner), inner
        near = next((s for s in spans if s.source == size and s is not inner), None)
        if inner and near and min(inner.extent + inner.zeros, near.extent) >= 4:
            return "transpose", near, inner
        if not spans:
            return "run", single, single
        return "scalar", self._rows(spans[-1]), spans[-1]

    def _rows(self, columns: Span) -> Span:
        """The span to walk between columns and units: a split one, else a near one that is long enough, else the longest."""
        rest = [s for s in self.spans if s is not columns]
        split = [s for s in rest if s.block]
        near = [s for s in reversed(rest) if s.extent >= 8]
        return [*split, *near, *sorted(rest, key=lambda s: -s.extent), Span(1, 0, 0)][0]

    def call(self, source: View, target: View) -> Call:
        """The step that does it."""
        rows, columns = self.rows, self.columns
        if self.form != "transpose":
            rows, columns = dc.replace(rows, zeros=0), dc.replace(columns, zeros=0)
        if self.form == "run":
            extent, block = columns.extent * self.itemsize, columns.block * self.itemsize
            columns = Span(extent, 1, 1, block, columns.source_block, columns.target_block)
        row_tile, column_tile = self._tiles(rows, columns)
        numbers = _numbers("row", rows, row_tile) | _numbers("column", columns, column_tile)
        numbers |= {"columns": columns.extent + columns.zeros, "columns_read": columns.extent, "rank": len(self.outer)}
        outer = np.array([(s.extent, s.source, s.target) for s in self.outer] or [(1, 0, 0)], np.int64)
        places = {"source": Address(source.place, source.offset), "target": Address(target.place, target.offset), "outer": Table(outer)}
        units = math.prod(s.extent for s in self.outer) * numbers["row_tiles"] * numbers["column_tiles"]
        moved = math.prod(s.extent + s.zeros for s in self.spans) * self.itemsize
        kernel = CopyKernel(self.form, 1 if self.form == "run" else self.itemsize)
        return Call(kernel, places | numbers, units, grain_for(units, moved * SECONDS_PER_BYTE[self.form], self.machine.threads))

    def _tiles(self, rows: Span, columns: Span) -> tuple[int, int]:
        """Extents of a tile of about UNIT_BYTES: long in the columns, or square where a transpose needs whole squares."""
        item = 1 if self.form == "run" else self.itemsize
        limit = UNIT_BYTES // item
        if self.form != "transpose":
            column_tile = columns.block or min(columns.extent, limit)
            return min(rows.extent, max(1, limit // column_tile)), column_tile
        lanes = self.machine.target.lanes(F4)
        row_tile = rows.block or min(_round_up(rows.extent, lanes), 4 * lanes)
        return row_tile, min(_round_up(columns.extent, lanes), _round_up(limit // row_tile, lanes))


def _numbers(name: str, span: Span, tile: int) -> dict[str, int]:
    """The kernel's numbers about its rows or columns."""
    tiles, tile, source, target = span.tile(tile)
    numbers = {f"{name}s": span.extent, f"{name}_tiles": tiles, f"{name}_tile": tile}
    return numbers | {f"{name}_{side}": value for side, value in zip(_SIDES, (source, target, span.source, span.target), strict=True)}


_SIDES = ("tile_source", "tile_target", "source", "target")


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _put(items: tuple[_Item, ...], index: int, value: _Item) -> tuple[_Item, ...]:
    return (*items[:index], value, *items[index + 1 :])
