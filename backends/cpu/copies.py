"""Copies between views, as calls of the strided kernels: few and long loops, cut into units of work."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Iterator

import numpy as np

from .kernel import Address, Call, Machine, NoKernel, Table, grain_for
from .strided import CopyKernel
from .view import Line, View

F4 = np.dtype(np.float32)
UNIT_BYTES = 16384
"""About what one unit of work moves: a microsecond or two."""
MOST_ALTERNATING = 8
"""Up to so many rows that alternate in memory are taken apart by shuffles of their own."""
SECONDS_PER_BYTE = {"run": 5e-11, "splat": 3e-11, "transpose": 2e-10, "zip": 6e-11, "unzip": 6e-11, "scalar": 5e-10}


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
    for axis, lines in enumerate(zip(target.shape, source.lines, target.lines, strict=True)):
        if _is_askew(*lines):
            return [call for part in _pieces(source, target, axis) for call in copy(*part, machine)]
    spans = _merged([span for dimension in zip(target.shape, source.lines, target.lines, strict=True) for span in _spans(*dimension)])
    plan = _Plan(spans, target.itemsize, machine)
    calls = [plan.call(source, target)]
    padding = target.padding_lanes()
    if padding is not None and any(s.zeros for s in spans) and plan.form != "transpose":
        calls += copy(View.repeat(np.zeros(padding.itemsize, np.uint8).view(f"u{padding.itemsize}"), padding.shape), padding, machine)
    return calls


def _is_askew(extent: int, source: Line, target: Line) -> bool:
    """Whether a dimension must be cut into pieces because blocks begin or end inside it."""
    ends_inside = source.block and target.block and extent % target.block and not target.padding
    return bool(source.phase or target.phase or ends_inside)


def _pieces(source: View, target: View, axis: int) -> Iterator[tuple[View, View]]:
    """The copy as several, each with the blocks of both sides in step along the axis."""
    extent, from_line, to_line = target.shape[axis], source.lines[axis], target.lines[axis]
    block, lane = to_line.block or from_line.block, to_line.phase or from_line.phase
    if from_line.block and from_line.block != block:
        raise NoKernel(f"blocks of {from_line.block} do not fit those of {block}")
    if from_line.block and to_line.block and not to_line.phase and extent >= block:
        cut = extent // block * block
        if lane:
            yield source.split(axis, 0, block - lane, cut // block), target.split(axis, 0, block - lane, cut // block)
            yield source.split(axis, block - lane, lane, cut // block), target.split(axis, block - lane, lane, cut // block)
        else:
            yield source.along(axis, 0, cut), target.along(axis, 0, cut)
    else:
        cut = min(extent, block - lane)
        yield source.along(axis, 0, cut), target.along(axis, 0, cut)
    if cut < extent:
        yield source.along(axis, cut, extent - cut), target.along(axis, cut, extent - cut)


def _spans(extent: int, source: Line, target: Line) -> list[Span]:
    """The spans of one dimension."""
    block = target.block or source.block
    if source.block and target.block:
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
        for form, rows, columns in (("unzip", near, inner), ("zip", inner, near)):
            if rows and columns and _alternates(form, rows, columns):
                return form, rows, columns
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
        factor = rows.extent if self.form in ("zip", "unzip") else 0
        kernel = CopyKernel(self.form, 1 if self.form == "run" else self.itemsize, factor)
        return Call(kernel, places | numbers, units, grain_for(units, moved * SECONDS_PER_BYTE[self.form], self.machine.threads))

    def _tiles(self, rows: Span, columns: Span) -> tuple[int, int]:
        """Extents of a tile of about UNIT_BYTES: long in the columns, or square where a transpose needs whole squares."""
        item = 1 if self.form == "run" else self.itemsize
        limit = UNIT_BYTES // item
        if self.form in ("zip", "unzip"):
            return rows.extent, columns.block or _round_up(limit // rows.extent, 64)
        if self.form != "transpose":
            column_tile = columns.block or min(columns.extent, limit)
            return min(rows.extent, max(1, limit // column_tile)), column_tile
        lanes = self.machine.target.lanes(F4)
        row_tile = rows.block or min(_round_up(rows.extent, lanes), 4 * lanes)
        return row_tile, min(_round_up(columns.extent, lanes), _round_up(limit // row_tile, lanes))


def _alternates(form: str, rows: Span, columns: Span) -> bool:
    """Whether a few rows alternate in the source ("unzip") or in the target ("zip"), element by element."""
    near, far = (rows.source, columns.source) if form == "unzip" else (rows.target, columns.target)
    few = 2 <= rows.extent <= MOST_ALTERNATING and not (rows.block or rows.zeros)
    return few and far == rows.extent * near and columns.extent >= 8


def _numbers(name: str, span: Span, tile: int) -> dict[str, int]:
    """The kernel's numbers about its rows or columns."""
    tiles, tile, source, target = span.tile(tile)
    numbers = {f"{name}s": span.extent, f"{name}_tiles": tiles, f"{name}_tile": tile}
    return numbers | {f"{name}_{side}": value for side, value in zip(_SIDES, (source, target, span.source, span.target), strict=True)}


_SIDES = ("tile_source", "tile_target", "source", "target")


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
