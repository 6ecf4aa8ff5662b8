"""Reduce: sums, means, products and extremes over any axes, in an order that is the same in every run.

Where the innermost dimension stays, neighbouring threads make neighbouring results; where it is reduced, they share one. Few results
of many elements are made in two steps: parts of the sums first, so that all multiprocessors take part, then their sums.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import numpy as np

from ...engine.ops import Reduce
from ...engine.tensor import TensorType
from ..common.cuda_functions import F64, PRINTERS, convert, literal, loaded, memory_type, stored
from ..common.kinds import kind_of
from .elements import BLOCKS_EACH, WIDEST, check_size, coordinates, lines, memory_order, strides_of, weighted
from .kernel import Argument, Call, Extent, Kernel, Machine, NoKernel, Parameter, Scratch, lowers
from .lanes import Lanes, accumulator, lanes_for

COMBINE = {"sum": "add", "mean": "add", "prod": "mul", "max": "max", "min": "min"}
LEAST_SPLIT = 2048
"""Elements of a sum below which its parts are not worth a second step."""
LEAST_PART = 512


@dc.dataclass(frozen=True)
class Span:
    """A dimension of x: its extent, and how far apart its elements are in x and, where it stays, in y."""

    extent: int
    x: int
    y: int = 0


@dc.dataclass(frozen=True)
class ReduceKernel(Kernel):
    """y[kept] = combination over the reduced dimensions of x[kept, reduced], divided by `divisor` where there is one.

    A thread reads packs of neighbours: results beside each other, or elements of one result. With several `parts` y has that many
    rows, each from as many of the reduced elements.
    """

    kind: str
    x_dtype: np.dtype
    y_dtype: np.dtype
    accumulated: np.dtype
    neutral: float | int | bool
    divisor: int
    kept: tuple[Span, ...]
    reduced: tuple[Span, ...]
    pack: int
    lanes: Lanes
    parts: int = 1

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.x_dtype), Parameter("y", self.y_dtype, written=True)

    @property
    def along(self) -> bool:
        """Whether the neighbours of a pack are elements of one result."""
        return self.lanes.neighbours == "lanes"

    @property
    def steps(self) -> int:
        """Packs or elements of one result."""
        return math.prod(span.extent for span in self.reduced) // (self.pack if self.along else 1)

    @property
    def items(self) -> int:
        """Results, or packs of them."""
        return math.prod(span.extent for span in self.kept) // (1 if self.along else self.pack)

    @property
    def grid(self) -> Extent:
        return -(-self.items // self.lanes.items), self.parts, 1

    @property
    def block(self) -> Extent:
        return self.lanes.block

    @property
    def shared(self) -> int:
        return self.lanes.shared(1 if self.along else self.pack)

    def body(self) -> str:
        kind, pack = accumulator(self.accumulated), f"Pack<{memory_type(self.x_dtype)}, {self.pack}>"
        names = [f"total{v}" for v in range(self.pack)]
        taken = [f"{name} = {self._combined(name, self._value(f'given.at[{v}]'))};" for v, name in enumerate(names)]
        chunk = -(-self.steps // self.parts)
        first = f"blockIdx.y * {chunk} + lane" if self.parts > 1 else "lane"
        last = f"min({self.steps}, ((int)blockIdx.y + 1) * {chunk})" if self.parts > 1 else str(self.steps)
        return lines(
            "SHARED_MEMORY(memory);" if self.shared else "",
            self.lanes.start,
            *(f"{kind} {name} = {literal(self.neutral, self.accumulated)};" for name in names),
            f"if (item < {self.items}) {{",
            f"const {memory_type(self.x_dtype)}* const from = x + ({self._at('item', self.kept, 'x', not self.along)});",
            f"for (int step = {first}; step < {last}; step += {self.lanes.count}) {{",
            f"const {pack} given = *(const {pack}*)(from + ({self._at('step', self.reduced, 'x', self.along)}));",
            *taken,
            "}",
            "}",
            self._finish(names, kind),
        )

    def _at(self, index: str, spans: Sequence[Span], side: str, packed: bool) -> str:
        """The offset of a flat index, which counts packs of the innermost dimension."""
        width = self.pack if packed else 1
        extents = [span.extent // (width if i == len(spans) - 1 else 1) for i, span in enumerate(spans)]
        strides = [getattr(span, side) * (width if i == len(spans) - 1 else 1) for i, span in enumerate(spans)]
        return weighted(coordinates(index, extents), strides)

    def _value(self, text: str) -> str:
        return convert(loaded(text, self.x_dtype), self.x_dtype, self.accumulated)

    def _combined(self, a: str, b: str) -> str:
        return PRINTERS[COMBINE[self.kind]](self.accumulated, a, b)

    def _finish(self, names: list[str], kind: str) -> str:
        folded = []
        if self.along:
            folded = [f"{names[0]} = {self._combined(names[0], name)};" for name in names[1:]]
            names = names[:1]

        def merge(others: Sequence[str]) -> str:
            return " ".join(f"{name} = {self._combined(name, other)};" for name, other in zip(names, others, strict=True))

        result = f"Pack<{memory_type(self.y_dtype)}, {len(names)}>"
        row = f"blockIdx.y * {math.prod(span.extent for span in self.kept)} + " if self.parts > 1 else ""
        return lines(
            *folded,
            self.lanes.combine([(kind, name) for name in names], merge, for_all=False),
            f"if (lane == 0 && item < {self.items}) {{",
            f"{result} result;",
            *(f"result.at[{v}] = {self._result(name)};" for v, name in enumerate(names)),
            f"*({result}*)(y + ({row}{self._at('item', self.kept, 'y', not self.along)})) = result;",
            "}",
        )

    def _result(self, name: str) -> str:
        value = f"({name} / ({accumulator(self.accumulated)}){self.divisor})" if self.divisor else name
        return stored(convert(value, self.accumulated, self.y_dtype), self.y_dtype)


@dc.dataclass(frozen=True)
class LineKernel(Kernel):
    """A kernel whose lanes share lines of x: `extent` elements, `stride` from each other, for every place in `kept`."""

    dtype: np.dtype
    kept: tuple[Span, ...]
    extent: int
    stride: int
    lanes: Lanes

    @property
    def items(self) -> int:
        """Lines."""
        return math.prod(span.extent for span in self.kept)

    @property
    def grid(self) -> Extent:
        return -(-self.items // self.lanes.items), 1, 1

    @property
    def block(self) -> Extent:
        return self.lanes.block


@lowers(Reduce)
def lower_reduce(node: Reduce, machine: Machine) -> list[Call]:
    """One kernel, or two where there are few results of many elements each."""
    x, y = node.x.type, node.type
    if y.layout and (x.layout != y.layout or y.layout.axis in node.axes or (not node.keepdims and min(node.axes) < y.layout.axis)):
        raise NoKernel(f"{y} of {x}: a reduction keeps the order of the channels or gives a plain value")
    kept, reduced = spans_of(x, y, node.axes, node.keepdims)
    along = is_along(kept, reduced)
    accumulated = accumulated_dtype(node.kind, x.dtype)
    count = math.prod(span.extent for span in reduced)
    divisor = count if node.kind == "mean" else 0
    pack = _pack(reduced if along else kept, kept + reduced, x, y, along)
    items = math.prod(span.extent for span in kept) // (1 if along else pack)
    lanes = lanes_for(items, count // (pack if along else 1), "lanes" if along else "items")
    kernel = ReduceKernel(
        node.kind, x.dtype, y.dtype, accumulated, neutral(node.kind, x.dtype), divisor, tuple(kept), tuple(reduced), pack, lanes
    )
    parts = parts_for(kernel, count, machine.architecture.multiprocessors)
    return [Call(kernel, {"x": node.x, "y": node})] if parts == 1 else _in_two_steps(kernel, parts, node.x, node)


def _in_two_steps(kernel: ReduceKernel, parts: int, x: Argument, y: Argument) -> list[Call]:
    """Rows of partial results in scratch memory, then the combination of the rows."""
    extents = [span.extent for span in kernel.kept]
    strides = [math.prod(extents[i + 1 :]) for i in range(len(extents))]
    rows = tuple(dc.replace(span, y=stride) for span, stride in zip(kernel.kept, strides, strict=True))
    columns = tuple(dc.replace(span, x=stride) for span, stride in zip(kernel.kept, strides, strict=True))
    dtype, total = kernel.accumulated, math.prod(extents)
    first = dc.replace(kernel, y_dtype=dtype, divisor=0, kept=rows, parts=parts)
    reduced = (Span(parts, total),)
    lanes = lanes_for(total, parts, "items")
    second = dc.replace(kernel, x_dtype=dtype, kept=columns, reduced=reduced, pack=1, lanes=lanes)
    scratch = Scratch(parts * total * dtype.itemsize)
    return [Call(first, {"x": x, "y": scratch}), Call(second, {"x": scratch, "y": y})]


def parts_for(kernel: ReduceKernel, count: int, multiprocessors: int) -> int:
    """How many parts of the elements are reduced by blocks of their own: as many as give every multiprocessor work."""
    blocks, wanted = kernel.grid[0], BLOCKS_EACH * multiprocessors
    if count < LEAST_SPLIT or 2 * blocks > wanted:
        return 1
    return min(wanted // blocks, max(1, count // LEAST_PART))


def spans_of(x: TensorType, y: TensorType, axes: Sequence[int], keepdims: bool = True) -> tuple[list[Span], list[Span]]:
    """The dimensions of x that stay and those that are reduced, outermost first, few and long.

    Channels that lie last in both and stay have their padding lanes; those that are reduced have not.
    """
    check_size(x, y)
    strides, results = strides_of(x), iter(strides_of(y))
    targets = [next(results) if keepdims or axis not in axes else 0 for axis in range(x.rank)]
    kept, reduced = list[Span](), list[Span]()
    for axis in memory_order(x):
        padded = y.layout is not None and axis == y.layout.axis and axis not in axes
        span = Span(y.layout.block if y.layout and padded else x.shape[axis], strides[axis], 0 if axis in axes else targets[axis])
        group = reduced if axis in axes else kept
        last = group[-1] if group else None
        if span.extent == 1:
            continue
        if last and (last.x, last.y) == (span.extent * span.x, span.extent * span.y):
            group[-1] = dc.replace(span, extent=last.extent * span.extent)
        else:
            group.append(span)
    return kept, reduced


def is_along(kept: list[Span], reduced: list[Span]) -> bool:
    """Whether the elements of one result are nearer to each other than those of different ones."""
    near = [min((span.x for span in group), default=1 << 62) for group in (kept, reduced)]
    return near[1] < near[0]


def _pack(inner: list[Span], everything: list[Span], x: TensorType, y: TensorType, along: bool) -> int:
    """Neighbours that a thread reads at once."""
    last = inner[-1] if inner else Span(1, 0, 0)
    width = WIDEST // max(x.dtype.itemsize, 1 if along else y.dtype.itemsize)
    if last.x != 1 or (not along and last.y != 1):
        return 1
    others = [span for span in everything if span is not last]
    strides = [span.x for span in others] + ([] if along else [span.y for span in others])
    while any(value % width for value in (last.extent, *strides)):
        width //= 2
    return width


def accumulated_dtype(kind: str, dtype: np.dtype) -> np.dtype:
    """What elements are accumulated in: float32 or float64, or integers of 64 bits, whose means are taken in float64."""
    if kind_of(dtype) == "f":
        return F64 if dtype == F64 else np.dtype(np.float32)
    return F64 if kind == "mean" else np.dtype(np.uint64 if accumulator(dtype) == "uint64" else np.int64)


def neutral(kind: str, dtype: np.dtype) -> float | int | bool:
    """What leaves anything it is combined with as it is."""
    if kind in ("sum", "mean", "prod"):
        return 1 if kind == "prod" else 0
    if kind_of(dtype) == "f":
        return -math.inf if kind == "max" else math.inf
    if dtype.kind == "b":
        return kind == "min"
    return int(np.iinfo(dtype).min if kind == "max" else np.iinfo(dtype).max)
