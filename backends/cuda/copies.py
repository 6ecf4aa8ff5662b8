"""Strided copies: a view of one value to a view of another, in as few and as wide accesses as their strides allow.

Three forms: packs of neighbours where both sides have them; a pack gathered from a few strided elements; and tiles turned in shared
memory where one side's neighbours are far apart on the other.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import numpy as np

from ...engine.graph import Node
from ...engine.tensor import TensorType
from .elements import WIDEST, coordinates, items_type, lines, padding_of, strides_of, threads_for, weighted
from .kernel import Address, Argument, Call, Extent, Kernel, NoKernel, Parameter

TILE, TILE_ROWS = 32, 8
"""Elements of a tile's side, and rows of it that the threads of a block handle at once."""
LEAST_TURNED = 16
"""Shorter sides are not worth a tile."""
MOST_SOURCES = 8
"""Copies that one launch makes."""
BYTE = np.dtype(np.uint8)


@dc.dataclass(frozen=True)
class View:
    """Part of a value: where its first element is, and how far apart the others are, in elements. `padding` lanes follow each axis."""

    place: Argument
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    offset: int = 0

    @classmethod
    def of(cls, node: Node, kind: TensorType | None = None) -> View:
        """All of a value; `kind`: looked at as this type."""
        kind = kind or node.type
        return cls(node, kind.dtype.itemsize, kind.shape, strides_of(kind), padding_of(kind))

    def along(self, axis: int, start: int, size: int, step: int = 1) -> View:
        """The indices start, start + step, ... of one axis."""
        padding = self.padding[axis] if step == 1 and start + size == self.shape[axis] else 0
        offset = self.offset + start * self.strides[axis]
        return dc.replace(
            self,
            shape=_put(self.shape, axis, size),
            strides=_put(self.strides, axis, self.strides[axis] * step),
            padding=_put(self.padding, axis, padding),
            offset=offset,
        )

    def slice(self, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> View:
        """`along` every axis."""
        view = self
        for axis, (start, size, step) in enumerate(zip(starts, sizes, steps, strict=True)):
            view = view.along(axis, start, size, step)
        return view

    def transpose(self, permutation: Sequence[int]) -> View:
        """The axes in another order."""
        shape, strides, padding = ([given[axis] for axis in permutation] for given in (self.shape, self.strides, self.padding))
        return dc.replace(self, shape=tuple(shape), strides=tuple(strides), padding=tuple(padding))

    def expand(self, shape: Sequence[int]) -> View:
        """Axes of extent 1 and new leading ones repeated to `shape`."""
        new = len(shape) - len(self.shape)
        same = [old == n for old, n in zip(self.shape, shape[new:], strict=True)]
        strides = [stride if kept else 0 for stride, kept in zip(self.strides, same, strict=True)]
        padding = [lanes if kept else 0 for lanes, kept in zip(self.padding, same, strict=True)]
        return dc.replace(self, shape=tuple(shape), strides=(*[0] * new, *strides), padding=(*[0] * new, *padding))


def _put(values: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*values[:axis], value, *values[axis + 1 :])


@dc.dataclass(frozen=True)
class Span:
    """A dimension of a copy: `extent` elements of the target, of which the first `read` come from the source and the others are zero."""

    extent: int
    read: int
    source: int
    target: int


@dc.dataclass(frozen=True)
class Part:
    """One strided copy. A thread writes a pack of neighbours, `inner.extent` elements, at one place along each of the other spans.

    Where the neighbours of the target are neighbours in the source, too, they are read at once.
    """

    itemsize: int
    outer: tuple[Span, ...]
    inner: Span
    source_offset: int
    target_offset: int

    @property
    def items(self) -> int:
        """How many packs are written."""
        return math.prod(span.extent for span in self.outer)

    def text(self, source: str) -> str:
        """The copy of the pack number `index`."""
        element, width = items_type(self.itemsize), self.inner.extent
        texts = coordinates("index", [span.extent for span in self.outer])
        at = weighted(texts, [span.source for span in self.outer])
        to = weighted(texts, [span.target for span in self.outer])
        pack = f"Pack<{element}, {width}>"
        from_text = f"(const {element}*){source} + {self.source_offset} + ({at})"
        if self.inner.source == 1 and self.inner.read == width:
            load = f"value = *(const {pack}*)({from_text});"
        else:
            step = f"from[v * {self.inner.source}]"
            value = f"v < {self.inner.read} ? {step} : ({element})0" if self.inner.read < width else step
            load = f"const {element}* const from = {from_text}; UNROLL for (int v = 0; v < {width}; v++) value.at[v] = {value};"
        if inside := " && ".join(f"{t} < {span.read}" for t, span in zip(texts, self.outer, strict=True) if span.read < span.extent):
            load = f"if ({inside}) {{ {load} }} else {{ UNROLL for (int v = 0; v < {width}; v++) value.at[v] = 0; }}"
        return lines(f"{pack} value;", load, f"*({pack}*)(({element}*)target + {self.target_offset} + ({to})) = value;")


@dc.dataclass(frozen=True)
class CopyKernel(Kernel):
    """Copies of parts of values to parts of one value; blocks with the number y make part y."""

    parts: tuple[Part, ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (*(Parameter(name, BYTE) for name in self.sources), Parameter("target", BYTE, written=True))

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the parameters that are read, one for each part."""
        return ("source",) if len(self.parts) == 1 else tuple(f"source{i}" for i in range(len(self.parts)))

    @property
    def block(self) -> Extent:
        return threads_for(max(part.items for part in self.parts) * len(self.parts)), 1, 1

    @property
    def grid(self) -> Extent:
        return -(-max(part.items for part in self.parts) // self.block[0]), len(self.parts), 1

    def body(self) -> str:
        text = lines(f"const int index = blockIdx.x * {self.block[0]} + threadIdx.x;")
        for number, (part, source) in enumerate(zip(self.parts, self.sources, strict=True)):
            chosen = f"blockIdx.y == {number} && " if len(self.parts) > 1 else ""
            text += lines(f"if ({chosen}index < {part.items}) {{", part.text(source), "}")
        return text


@dc.dataclass(frozen=True)
class TurnKernel(Kernel):
    """A copy whose rows are neighbours in the source and whose columns are neighbours in the target: tile by tile."""

    itemsize: int
    outer: tuple[Span, ...]
    rows: Span
    columns: Span
    source_offset: int
    target_offset: int

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("source", BYTE), Parameter("target", BYTE, written=True)

    @property
    def tiles(self) -> tuple[int, ...]:
        """Blocks along the outer spans, the rows and the columns."""
        return (*(span.extent for span in self.outer), *(-(-span.extent // TILE) for span in (self.rows, self.columns)))

    @property
    def grid(self) -> Extent:
        return math.prod(self.tiles), 1, 1

    @property
    def block(self) -> Extent:
        return TILE, TILE_ROWS, 1

    @property
    def shared(self) -> int:
        return TILE * (TILE + 1) * self.itemsize

    def body(self) -> str:
        element = items_type(self.itemsize)
        *texts, row, column = coordinates("tile_number", self.tiles)
        at, to = (weighted(texts, [getattr(span, side) for span in self.outer]) for side in ("source", "target"))
        value = f"from[c * {self.columns.source} + r]"
        if self.columns.read < self.columns.extent:
            value = f"c < {self.columns.read} ? {value} : ({element})0"
        return lines(
            "SHARED_MEMORY(memory);",
            f"{element}* const tile = ({element}*)memory;",
            "const int tile_number = blockIdx.x;",
            f"const {element}* const from = (const {element}*)source + {self.source_offset} + ({at});",
            f"{element}* const to = ({element}*)target + {self.target_offset} + ({to});",
            f"const int row = {row} * {TILE}, column = {column} * {TILE};",
            f"UNROLL for (int i = threadIdx.y; i < {TILE}; i += {TILE_ROWS}) {{",
            "  const int r = row + threadIdx.x, c = column + i;",
            f"  if (r < {self.rows.extent} && c < {self.columns.extent}) tile[i * {TILE + 1} + threadIdx.x] = {value};",
            "}",
            "__syncthreads();",
            f"UNROLL for (int i = threadIdx.y; i < {TILE}; i += {TILE_ROWS}) {{",
            "  const int r = row + i, c = column + threadIdx.x;",
            f"  if (r < {self.rows.extent} && c < {self.columns.extent}) "
            f"to[r * {self.rows.target} + c] = tile[threadIdx.x * {TILE + 1} + i];",
            "}",
        )


def copy(source: View, target: View) -> Call:
    """The step that makes every element of `target` that of `source`, and the padding lanes behind it finite."""
    return copies([(source, target)])[0]


def copies(pairs: Sequence[tuple[View, View]]) -> list[Call]:
    """Steps for several copies into one value, as many as possible in one launch."""
    calls, parts = list[Call](), list[tuple[Part, View, View]]()
    for given, wanted in pairs:
        source, target = _anchored(given), _anchored(wanted) if len(pairs) == 1 else wanted
        kernel = _kernel(source, target)
        if isinstance(kernel, TurnKernel):
            calls.append(Call(kernel, {"source": source.place, "target": target.place}))
        else:
            parts.append((kernel, source, target))
    for first in range(0, len(parts), MOST_SOURCES):
        group = parts[first : first + MOST_SOURCES]
        joined = CopyKernel(tuple(part for part, _, _ in group))
        places = {name: source.place for name, (_, source, _) in zip(joined.sources, group, strict=True)}
        calls.append(Call(joined, places | {"target": group[0][2].place}))
    return calls


def _anchored(view: View) -> View:
    """The same elements counted from the first one, where that is aligned: so that copies which differ in places only are one kernel."""
    nbytes = view.offset * view.itemsize
    if nbytes <= 0 or nbytes % WIDEST:
        return view
    place, offset = (view.place.place, view.place.offset) if isinstance(view.place, Address) else (view.place, 0)
    return dc.replace(view, place=Address(place, offset + nbytes), offset=0)


def _kernel(source: View, target: View) -> Part | TurnKernel:
    itemsize, offsets = target.itemsize, (source.offset, target.offset)
    if itemsize not in (1, 2, 4, 8):
        raise NoKernel(f"elements of {itemsize} bytes")
    spans = merged_spans(source, target)
    columns = spans[-1] if spans and spans[-1].target == 1 else None
    rows = next((span for span in spans[:-1] if span.source == 1), None)
    turns = rows is not None and columns is not None and min(rows.extent, columns.read) >= LEAST_TURNED and columns.source != 1
    if rows and columns and turns and all(span.read == span.extent for span in spans[:-1]):
        outer = tuple(span for span in spans if span is not rows and span is not columns)
        return TurnKernel(itemsize, outer, rows, columns, *offsets)
    if columns is None:
        return Part(itemsize, tuple(spans), Span(1, 1, 1, 1), *offsets)
    outer, width = spans[:-1], WIDEST // itemsize
    while width > 1 and not _fits(width, outer, columns, offsets):
        width //= 2
    packs = Span(columns.extent // width, -(-columns.read // width), columns.source * width, width)
    inner = Span(width, min(columns.read, width), columns.source, 1)
    return Part(itemsize, (*outer, packs), inner, *offsets)


def _fits(width: int, outer: Sequence[Span], columns: Span, offsets: tuple[int, int]) -> bool:
    """Whether packs of this width are aligned, and every one is read wholly or like the first."""
    sides = [[offsets[1], *(span.target for span in outer)]]
    if columns.source == 1 and columns.read % width == 0:
        sides.append([offsets[0], *(span.source for span in outer)])
    whole = columns.read % width == 0 or columns.extent == width
    return columns.extent % width == 0 and whole and all(value % width == 0 for side in sides for value in side)


def merged_spans(source: View, target: View) -> list[Span]:
    """The dimensions of a copy, few and long, in the order of the target's memory."""
    found = []
    for n, from_stride, to_stride, from_pad, pad in zip(
        target.shape, source.strides, target.strides, source.padding, target.padding, strict=True
    ):
        found.append(Span(n + pad, n + pad if from_pad >= pad else n, from_stride, to_stride))
    merged: list[Span] = []
    for span in sorted((s for s in found if s.extent != 1), key=lambda s: -s.target):
        last = merged[-1] if merged else None
        if last and (last.source, last.target) == (span.extent * span.source, span.extent * span.target) and span.read == span.extent:
            merged[-1] = Span(last.extent * span.extent, last.read * span.extent, span.source, span.target)
        else:
            merged.append(span)
    return merged
