"""Pooling with windows: a thread makes one result, or those of a few neighbouring channels where channels lie last."""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np

from ...engine.ops import ArgMaxPool, AveragePool, MaxPool
from ...engine.ops.pool import Pool, lowest
from ...engine.tensor import TensorType
from ..common.cuda_functions import PRINTERS, literal, loaded, memory_type, register_type, stored
from .elements import ElementKernel, channel_pack, check_size, lines, strides_of, weighted
from .kernel import Call, Machine, NoKernel, Parameter, lowers

MOST_UNROLLED = 32
"""Taps up to which all loads of a window are issued together."""


@dc.dataclass(frozen=True)
class PoolKernel(ElementKernel):
    """y[n,c,o] = maximum, its position, or sum over the count, of x[n,c,o*stride - pad + r*dilation] over the taps r inside x."""

    kind: str
    """"max", "average", "position", or "position_column_major"."""
    x: TensorType
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]
    include_pad: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.x.dtype), Parameter("y", self.y.dtype, written=True)

    @property
    def value(self) -> str:
        """What a window is accumulated in."""
        return register_type(self.x.dtype)

    def element(self) -> str:
        memory, strides = memory_type(self.x.dtype), strides_of(self.x)
        start = "0" if self.kind == "average" else literal(lowest(self.x.dtype), self.x.dtype)
        position = "int64 found[1] = {-1};" if self.y.dtype == np.int64 and self.kind.startswith("position") else ""
        return lines(
            f"const {memory}* const from = x + ({weighted(['i0', 'i1'], strides[:2])});",
            f"{self.value} total[{self.pack}];",
            f"UNROLL for (int v = 0; v < {self.pack}; v++) total[v] = {start};",
            position,
            self._windows(strides[2:]),
            self._finish(),
            spaces=0,
        )

    def _windows(self, strides: tuple[int, ...]) -> str:
        unroll = "UNROLL " if math.prod(self.kernel) <= MOST_UNROLLED else ""
        text = []
        for axis, (taps, step, (before, _), spread) in enumerate(zip(self.kernel, self.strides, self.pads, self.dilations, strict=True)):
            text.append(f"{unroll}for (int r{axis} = 0; r{axis} < {taps}; r{axis}++) {{")
            text.append(f"const int p{axis} = i{axis + 2} * {step} - {before} + r{axis} * {spread};")
            text.append(f"if (p{axis} >= 0 && p{axis} < {self.x.shape[axis + 2]}) {{")
        pack = f"Pack<{memory_type(self.x.dtype)}, {self.pack}>"
        at = weighted([f"p{axis}" for axis in range(len(strides))], strides)
        text.append(f"const {pack} given = *(const {pack}*)(from + {at});")
        text.append(f"UNROLL for (int v = 0; v < {self.pack}; v++) {{")
        text += [f"const {self.value} one = {loaded('given.at[v]', self.x.dtype)};", self._combine(), "}"]
        return lines(*text, "}" * (2 * len(strides)), spaces=0)

    def _combine(self) -> str:
        if self.kind == "average":
            return "total[v] += one;"
        if self.kind == "max":
            return f"total[v] = {PRINTERS['max'](self.x.dtype, 'total[v]', 'one')};"
        spatial = self.x.shape[2:]
        steps = [math.prod(spatial[:axis] if self.kind.endswith("major") else spatial[axis + 1 :]) for axis in range(len(spatial))]
        inside = weighted([f"p{axis}" for axis in range(len(spatial))], steps)
        plane = f"(int64)(i0 * {self.x.shape[1]} + i1) * {math.prod(spatial)}"
        return f"if (found[v] < 0 || one > total[v]) {{ total[v] = one; found[v] = {plane} + {inside}; }}"

    def _finish(self) -> str:
        counts = [self._count(axis) for axis in range(len(self.kernel))] if self.kind == "average" else []
        finished = f"total[v] / ({self.value})({' * '.join(f'count{axis}' for axis in range(len(counts)))})" if counts else "total[v]"
        value = "found[v]" if self.kind.startswith("position") else stored(finished, self.y.dtype)
        return lines(*counts, f"UNROLL for (int v = 0; v < {self.pack}; v++) result.at[v] = {value};", spaces=0)

    def _count(self, axis: int) -> str:
        """How many taps of the window along an axis count, at least one."""
        taps, spread, (before, after) = self.kernel[axis], self.dilations[axis], self.pads[axis]
        size = self.x.shape[axis + 2]
        low, high = (-before, size + after) if self.include_pad else (0, size)
        start = f"i{axis + 2} * {self.strides[axis]} - {before}"
        first = f"max(0, ({low} - start{axis} + {spread - 1}) / {spread})"
        last = f"min({taps}, ({high} - start{axis} + {spread - 1}) / {spread})"
        return f"const int start{axis} = {start}; const int count{axis} = max(1, {last} - {first});"


@lowers(MaxPool, AveragePool, ArgMaxPool)
def lower_pool(node: Pool, machine: Machine) -> list[Call]:
    """One kernel."""
    x, y = node.x.type, node.type
    check_size(x, y)
    if x.dense.layout != y.dense.layout and not isinstance(node, ArgMaxPool):
        raise NoKernel(f"{y} of {x}: a pool keeps the layout")
    if y.layout and (y.layout.axis != 1 or isinstance(node, ArgMaxPool)):
        raise NoKernel(f"a pool that writes {y}")
    kind = "max" if isinstance(node, MaxPool) else "average" if isinstance(node, AveragePool) else "position"
    kind += "_column_major" if getattr(node, "column_major", False) else ""
    pack = channel_pack(x, y) if kind in ("max", "average") else 1
    include = getattr(node, "count_include_pad", False)
    kernel = PoolKernel(y, pack, kind, x, node.kernel, node.strides, node.pads, node.dilations, include)
    return [Call(kernel, {"x": node.x, "y": node})]
