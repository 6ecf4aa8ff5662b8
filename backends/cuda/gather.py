"""Gathers and scatters by indices that are data.

NumPy raises IndexError for an index outside of its axis. A kernel cannot, so a gather reads the nearest element that there is, and a
scatter leaves such an update out, as in the cpu backend. Negative indices count from the end. A scatter does without atomic
operations: of the threads whose updates meet at one place one applies all of them in their order, so that every run gives the same bits.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import numpy as np

from ...engine.graph import Constant, Node
from ...engine.ops.gather import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from ...engine.tensor import TensorType
from ..common.cuda_functions import PRINTERS, literal, loaded, memory_type, register_type, stored
from .copies import View, copy
from .elements import (
    WIDEST,
    ElementKernel,
    FlatKernel,
    check_plain,
    check_size,
    coordinates,
    lines,
    memory_order,
    padding_of,
    strides_of,
    weighted,
)
from .kernel import Call, Machine, NoKernel, Parameter, lowers

COMBINE = {"add": "add", "mul": "mul", "max": "max", "min": "min"}


@dc.dataclass(frozen=True)
class Indexed:
    """An axis of x that an index counts along: its extent and stride, and where the index is behind the first one of its tuple."""

    extent: int
    stride: int
    position: int

    def place(self, at: str) -> str:
        """The index at this place among the indices, counted from the front; it may be outside."""
        index = f"(int64)indices[{at} + {self.position}]"
        return f"({index} < 0 ? {index} + {self.extent} : {index})"


@dc.dataclass(frozen=True)
class GatherKernel(ElementKernel):
    """y[i] = x[sum of i * x_steps + sum over the indexed axes of indices[sum of i * index_steps] * stride]."""

    x_dtype: np.dtype
    index_dtype: np.dtype
    x_steps: tuple[int, ...]
    index_steps: tuple[int, ...]
    indexed: tuple[Indexed, ...]
    guarded: bool
    """Whether there is nothing to read for the padding lanes."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.x_dtype), Parameter("indices", self.index_dtype), Parameter("y", self.y.dtype, written=True)

    def element(self) -> str:
        names = [f"i{axis}" for axis in range(self.y.rank)]
        at, pack = weighted(names, self.index_steps), f"Pack<{self.y_type}, {self.pack}>"
        found = []
        for d, axis in enumerate(self.indexed):
            found.append(f"const int64 index{d} = {axis.place('first')};")
            found.append(f"const int j{d} = (int)(index{d} < 0 ? 0 : index{d} < {axis.extent} ? index{d} : {axis.extent - 1});")
        terms = [f"j{d}" for d in range(len(self.indexed))]
        source = weighted([*names, *terms], [*self.x_steps, *(axis.stride for axis in self.indexed)])
        load = lines(f"const int first = {at};", *found, f"result = *(const {pack}*)(x + ({source}));", spaces=0)
        if not self.guarded:
            return load
        zero = stored(literal(0, self.y.dtype), self.y.dtype)
        return lines(f"if ({self.is_padding}) {{ result.at[0] = {zero}; }} else {{", load, "}", spaces=0)


@lowers(Gather, GatherElements, GatherND)
def lower_gather(node: Gather | GatherElements | GatherND, machine: Machine) -> list[Call]:
    """One kernel. Only Gather takes channels that are last."""
    x, y, indices = node.x.type, node.type, node.indices.type
    check_size(x, y)
    check_plain(indices, *(() if isinstance(node, Gather) else (x, y)))
    if y.layout and (y.layout.axis != 1 or x.layout is None or (indices.rank != 1 and getattr(node, "axis", 0) <= 1)):
        raise NoKernel(f"a gather of {x} to {y}")
    x_steps, index_steps, indexed = _steps(node)
    if not indexed or any(axis.extent == 0 for axis in indexed):
        raise NoKernel("a gather from an empty axis, or by tuples of no indices")
    guarded = any(padding_of(y)) and (x.layout != y.layout or index_steps[1] != 0)
    width = 1 if guarded else _width(y, x_steps, index_steps, indexed)
    kernel = GatherKernel(y, width, x.dtype, indices.dtype, x_steps, index_steps, indexed, guarded)
    return [Call(kernel, {"x": node.x, "indices": node.indices, "y": node})]


Steps = tuple[tuple[int, ...], tuple[int, ...], tuple[Indexed, ...]]


def _steps(node: Gather | GatherElements | GatherND) -> Steps:
    """For each axis of y how far it moves in x and in the indices; and the axes of x that are indexed."""
    x, strides, index_strides = node.x.type.shape, strides_of(node.x.type), strides_of(node.indices.type)
    match node:
        case Gather(axis=axis):
            x_steps = (*strides[:axis], *(0,) * len(index_strides), *strides[axis + 1 :])
            index_steps = (*(0,) * axis, *index_strides, *(0,) * (len(x) - axis - 1))
            return x_steps, index_steps, (Indexed(x[axis], strides[axis], 0),)
        case GatherElements(axis=axis):
            x_steps = tuple(0 if k == axis else stride for k, stride in enumerate(strides))
            return x_steps, index_strides, (Indexed(x[axis], strides[axis], 0),)
    batch, depth = node.batch_dims, node.indices.type.shape[-1]
    rest = strides[batch + depth :]
    x_steps = (*strides[:batch], *(0,) * (len(index_strides) - 1 - batch), *rest)
    return x_steps, (*index_strides[:-1], *(0,) * len(rest)), tuple(Indexed(x[batch + d], strides[batch + d], d) for d in range(depth))


def _width(y: TensorType, x_steps: Sequence[int], index_steps: Sequence[int], indexed: Sequence[Indexed]) -> int:
    """Neighbours that lie side by side in x as well, in one aligned piece."""
    inner = memory_order(y)[-1] if y.rank else -1
    if inner < 0 or x_steps[inner] != 1 or index_steps[inner] != 0:
        return 1
    others = [step for axis, step in enumerate(x_steps) if axis != inner] + [axis.stride for axis in indexed]
    width = WIDEST // y.dtype.itemsize
    while any(value % width for value in (y.shape[inner] + padding_of(y)[inner], *others)):
        width //= 2
    return width


@dc.dataclass(frozen=True)
class ScatterKernel(FlatKernel):
    """y[place(entry)] = or op= updates[entry], for `entries` in order; places along the `free` dimensions never meet.

    `free`: (extent, step in y, step in the indices, step in the updates) each. The steps of an entry are those in the indices and
    in the updates. `unique`: no two entries have one place.
    """

    dtype: np.dtype
    index_dtype: np.dtype
    reduction: str
    entries: int
    steps: tuple[int, int]
    indexed: tuple[Indexed, ...]
    free: tuple[tuple[int, int, int, int], ...]
    unique: bool

    @property
    def count(self) -> int:
        return self.entries * math.prod(extent for extent, *_ in self.free)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        given = Parameter("updates", self.dtype), Parameter("indices", self.index_dtype)
        return (*given, Parameter("y", self.dtype, written=True))

    def thread(self) -> str:
        entry, *free = coordinates("index", [self.entries, *(extent for extent, *_ in self.free)])
        start, first, given = (weighted(free, [steps[side] for steps in self.free]) for side in (1, 2, 3))
        found = [f"const int64 j{d} = {axis.place('at')};" for d, axis in enumerate(self.indexed)]
        outside = " || ".join(f"j{d} < 0 || j{d} >= {axis.extent}" for d, axis in enumerate(self.indexed))
        offset = weighted([f"(int)j{d}" for d in range(len(self.indexed))], [axis.stride for axis in self.indexed])
        return lines(
            f"const int entry = {entry}, first = {first};",
            "const auto place = [&](int number) -> int {",
            f"  const int at = first + number * {self.steps[0]};",
            *found,
            f"  return {outside} ? -1 : {offset};",
            "};",
            "const int own = place(entry);",
            "if (own < 0) return;",
            f"{memory_type(self.dtype)}* const to = y + ({start}) + own;",
            f"const {memory_type(self.dtype)}* const from = updates + ({given});",
            self._apply(),
            spaces=0,
        )

    def _apply(self) -> str:
        step = self.steps[1]
        if self.reduction == "none":
            later = f"for (int other = entry + 1; other < {self.entries}; other++) if (place(other) == own) return;"
            return lines("" if self.unique else later, f"*to = from[entry * {step}];", spaces=0)
        value = loaded(f"from[other * {step}]", self.dtype)
        combined = f"total = {PRINTERS[COMBINE[self.reduction]](self.dtype, 'total', value)};"
        return lines(
            "" if self.unique else "for (int other = 0; other < entry; other++) if (place(other) == own) return;",
            f"{register_type(self.dtype)} total = {loaded('*to', self.dtype)};",
            f"for (int other = entry; other < {'entry + 1' if self.unique else self.entries}; other++)",
            f"  if (other == entry || place(other) == own) {combined}",
            f"*to = {stored('total', self.dtype)};",
            spaces=0,
        )


@lowers(ScatterElements, ScatterND)
def lower_scatter(node: ScatterElements | ScatterND, machine: Machine) -> list[Call]:
    """x is copied, then a thread for each update finds out whether it is the one that writes its place."""
    check_plain(node.type, *(operand.type for operand in node.operands))
    calls = [copy(View.of(node.x), View.of(node))]
    if node.updates.type.size == 0:
        return calls
    kernel = _scatter(node)
    return [*calls, Call(kernel, {"updates": node.updates, "indices": node.indices, "y": node})]


def _scatter(node: ScatterElements | ScatterND) -> ScatterKernel:
    x, indices = node.x.type.shape, node.indices.type.shape
    strides, index_strides = strides_of(node.x.type), strides_of(node.indices.type)
    dtype, index_dtype, reduction = node.type.dtype, node.indices.type.dtype, node.reduction
    if isinstance(node, ScatterElements):
        axis = node.axis
        free = tuple((n, strides[k], index_strides[k], index_strides[k]) for k, n in enumerate(indices) if k != axis and n != 1)
        indexed = (Indexed(x[axis], strides[axis], 0),)
        steps = index_strides[axis], index_strides[axis]
        return ScatterKernel(dtype, index_dtype, reduction, indices[axis], steps, indexed, free, indices[axis] == 1)
    depth = indices[-1]
    if depth == 0:
        raise NoKernel("a scatter by tuples of no indices")
    inner, entries = math.prod(x[depth:]), math.prod(indices[:-1])
    indexed = tuple(Indexed(x[d], strides[d], d) for d in range(depth))
    return ScatterKernel(
        dtype, index_dtype, reduction, entries, (depth, inner), indexed, ((inner, 1, 0, 1),), _differ(node.indices, x[:depth])
    )


def _differ(indices: Node, shape: Sequence[int]) -> bool:
    """Whether it is known that no two tuples of indices are the same."""
    if not isinstance(indices, Constant):
        return math.prod(indices.type.shape[:-1]) == 1
    tuples = indices.data.reshape(-1, len(shape)).astype(np.int64) % np.array(shape, np.int64)
    return len(np.unique(tuples, axis=0)) == len(tuples)
