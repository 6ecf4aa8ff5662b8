"""Resize: a thread sums the taps of its elements, which tables of constants name, over all axes that change at once.

Where that would be many taps (antialiasing), one axis after the other, in the order in which most is saved, through scratch memory.
"""

from __future__ import annotations

import dataclasses as dc
import itertools
import math
from collections.abc import Sequence

import numpy as np

from ...engine.memory import aligned
from ...engine.ops import Resize
from ...engine.ops.resize import interpolation_tables
from ...engine.tensor import TensorType
from ..common.cuda_functions import F32, F64, convert, literal, loaded, memory_type, register_type, stored
from ..common.kinds import kind_of
from .elements import ElementKernel, channel_pack, check_size, lines, strides_of, weighted
from .kernel import Address, Argument, Call, Machine, NoKernel, Parameter, Scratch, Table, lowers

MOST_TAPS = 36
"""Taps of one element up to which all axes are resized at once."""
INT32 = np.dtype(np.int32)


@dc.dataclass(frozen=True)
class Axis:
    """A resized axis: how many taps each position has, whether they have weights, and whether some lie outside of x."""

    axis: int
    taps: int
    blends: bool
    outside: bool
    indices: int
    """Where in the table its indices start."""
    weights: int


@dc.dataclass(frozen=True)
class ResizeKernel(ElementKernel):
    """y[i] = sum over the taps of every resized axis of their weights times x[indices], or `value` where one of them is outside."""

    x: TensorType
    axes: tuple[Axis, ...]
    value: float
    compute: np.dtype

    @property
    def blends(self) -> bool:
        """Whether elements are summed, not only chosen."""
        return any(axis.blends for axis in self.axes) or self.x.dtype != self.y.dtype

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        weights = (Parameter("weights", self.compute),) if any(axis.blends for axis in self.axes) else ()
        return Parameter("x", self.x.dtype), Parameter("indices", INT32), *weights, Parameter("y", self.y.dtype, written=True)

    def element(self) -> str:
        kind, each = register_type(self.compute), f"UNROLL for (int v = 0; v < {self.pack}; v++)"
        start = [f"{kind} total[{self.pack}];", f"{each} total[v] = 0;"] if self.blends else []
        end = [f"{each} result.at[v] = {self._narrowed('total[v]')};"] if self.blends else []
        return lines(*start, "bool inside = true;", self._loops(), *end, self._outside(each), spaces=0)

    def _loops(self) -> str:
        text = []
        for axis in self.axes:
            number, at = axis.axis, f"{axis.indices} + i{axis.axis} * {axis.taps} + r{axis.axis}"
            unroll = "UNROLL " if axis.taps <= MOST_TAPS else ""
            text.append(f"{unroll}for (int r{number} = 0; r{number} < {axis.taps}; r{number}++) {{")
            text.append(f"const int p{number} = indices[{at}];")
            text += [f"inside = inside && p{number} >= 0;"] if axis.outside else []
            if axis.blends:
                text.append(f"const {memory_type(self.compute)} w{number} = weights[{at} + {axis.weights - axis.indices}];")
        return lines(*text, self._tap(), "}" * len(self.axes), spaces=0)

    def _tap(self) -> str:
        resized = {axis.axis: f"max(p{axis.axis}, 0)" if axis.outside else f"p{axis.axis}" for axis in self.axes}
        at = weighted([resized.get(axis, f"i{axis}") for axis in range(self.x.rank)], strides_of(self.x))
        pack = f"Pack<{memory_type(self.x.dtype)}, {self.pack}>"
        given = f"*(const {pack}*)(x + ({at}))"
        if not self.blends:
            return f"result = {given};"
        weights = [f"w{axis.axis}" for axis in self.axes if axis.blends]
        one = convert(loaded("given.at[v]", self.x.dtype), self.x.dtype, self.compute)
        product = " * ".join([f"({' * '.join(weights)})", one]) if weights else one
        return f"const {pack} given = {given};\nUNROLL for (int v = 0; v < {self.pack}; v++) total[v] += {product};"

    def _narrowed(self, text: str) -> str:
        """Integers stay within their range and are cut off."""
        if self.y.dtype.kind in "iu":
            low, high = (literal(bound, self.compute) for bound in limits(self.y.dtype))
            text = f"minimum<{register_type(self.compute)}>(maximum<{register_type(self.compute)}>({text}, {low}), {high})"
        return stored(convert(text, self.compute, self.y.dtype), self.y.dtype)

    def _outside(self, each: str) -> str:
        if not any(axis.outside for axis in self.axes):
            return ""
        dtype = self.compute if self.blends else self.y.dtype
        value = literal(self.value, dtype)
        return f"if (!inside) {each} result.at[v] = {self._narrowed(value) if self.blends else stored(value, dtype)};"


def limits(dtype: np.dtype) -> tuple[float, float]:
    """The least and the largest float64 that the integers hold."""
    low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return low, float(np.nextafter(high, 0)) if dtype.itemsize == 8 else high


@lowers(Resize)
def lower_resize(node: Resize, machine: Machine) -> list[Call]:
    """One kernel, or one for each axis."""
    x, y = node.x.type, node.type
    check_size(x, y)
    tables = {axis: interpolation_tables(node, axis) for axis in range(x.rank)}
    changed = [axis for axis, (indices, weights) in tables.items() if not _stays(indices, weights, x.shape[axis])]
    if x.dense.layout != y.dense.layout or (x.layout and x.layout.axis in changed):
        raise NoKernel(f"{y} of {x}: a resize keeps the layout, and channels that are last")
    taps = math.prod(tables[axis][0].shape[1] for axis in changed)
    if taps <= MOST_TAPS or len(changed) == 1:
        return [_call(node, tables, changed, (node.x, x), (node, y))]
    changed.sort(key=lambda axis: y.shape[axis] / x.shape[axis])
    return _one_by_one(node, tables, changed)


Tables = dict[int, tuple[np.ndarray, np.ndarray]]


def _one_by_one(node: Resize, tables: Tables, changed: Sequence[int]) -> list[Call]:
    """A call for each axis; what lies between two of them alternates between the halves of one piece of scratch memory."""
    types, shape = [node.x.type], list(node.x.type.shape)
    for axis in changed[:-1]:
        shape[axis] = node.type.shape[axis]
        types.append(TensorType(compute_dtype(node.type.dtype), tuple(shape), node.type.dense.layout))
    half = aligned(max(kind.nbytes for kind in types[1:]))
    scratch = Scratch(2 * half)
    places: list[Argument] = [node.x, *(Address(scratch, half * (i % 2)) for i in range(len(changed) - 1)), node]
    values = list(zip(places, [*types, node.type], strict=True))
    return [_call(node, tables, [axis], *pair) for axis, pair in zip(changed, itertools.pairwise(values), strict=True)]


def _call(node: Resize, tables: Tables, axes: Sequence[int], x: tuple[Argument, TensorType], y: tuple[Argument, TensorType]) -> Call:
    compute = compute_dtype(node.type.dtype)
    specs, indices, weights = list[Axis](), list[np.ndarray](), list[np.ndarray]()
    for axis in axes:
        found, shares = tables[axis]
        blends = shares.shape[1] > 1 or bool((shares != 1).any())
        starts = sum(map(len, indices)), sum(map(len, weights))
        specs.append(Axis(axis, found.shape[1], blends, bool((found < 0).any()), *starts))
        indices.append(found.ravel())
        weights += [shares.ravel()] if blends else []
    kernel = ResizeKernel(y[1], channel_pack(x[1], y[1]), x[1], tuple(specs), node.extrapolation_value, compute)
    arguments: dict[str, Argument] = {"x": x[0], "y": y[0], "indices": Table(np.concatenate(indices or [np.zeros(1)]).astype(INT32))}
    return Call(kernel, arguments | ({"weights": Table(np.concatenate(weights).astype(compute))} if weights else {}))


def _stays(indices: np.ndarray, weights: np.ndarray, extent: int) -> bool:
    """Whether an axis keeps its elements as they are."""
    return indices.shape == (extent, 1) and bool((indices[:, 0] == np.arange(extent)).all() and (weights == 1).all())


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """What elements are summed in: integers as in NumPy in float64, since they are cut off at the end."""
    return F64 if kind_of(dtype) != "f" or dtype == F64 else F32
