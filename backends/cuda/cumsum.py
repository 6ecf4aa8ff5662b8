"""Running sums: each lane of a line sums a piece of it, and starts over from what the lanes before it have found."""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np

from ...engine.ops import CumSum
from ..common.cuda_functions import PRINTERS, convert, loaded, memory_type, stored
from .elements import check_plain, coordinates, lines, weighted
from .kernel import Call, Machine, Parameter, lowers
from .lanes import accumulator, lanes_for
from .reduce import LineKernel, Span, accumulated_dtype, spans_of

LEAST_PIECE = 8
"""Elements that are worth a lane."""


@dc.dataclass(frozen=True)
class CumSumKernel(LineKernel):
    """y[kept, i] = sum of x[kept, j] over j <= i, or j < i where `exclusive`; with `reverse` from the other end."""

    exclusive: bool
    reverse: bool

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.dtype), Parameter("y", self.dtype, written=True)

    @property
    def shared(self) -> int:
        return 8 * self.threads if self.lanes.count > 1 else 0

    def body(self) -> str:
        accumulated = accumulated_dtype("sum", self.dtype)
        kind = accumulator(accumulated)
        place = weighted(coordinates("item", [span.extent for span in self.kept]), [span.x for span in self.kept])
        piece = -(-self.extent // self.lanes.count)
        at = f"({self.extent - 1} - i) * {self.stride}" if self.reverse else f"i * {self.stride}"
        value = convert(loaded(f"from[{at}]", self.dtype), self.dtype, accumulated)
        add = f"total = {PRINTERS['add'](accumulated, 'total', value)};"
        write = f"to[{at}] = {stored(convert('total', accumulated, self.dtype), self.dtype)};"
        return lines(
            "SHARED_MEMORY(memory);" if self.shared else "",
            self.lanes.start,
            f"const bool inside = item < {self.items};",
            f"const {memory_type(self.dtype)}* const from = x + (inside ? {place} : 0);",
            f"{memory_type(self.dtype)}* const to = y + (inside ? {place} : 0);",
            f"const int first = lane * {piece}, last = inside ? min({self.extent}, first + {piece}) : 0;",
            f"{kind} total = 0;",
            self._earlier(kind, add, accumulated),
            "for (int i = first; i < last; i++) {",
            *((write, add) if self.exclusive else (add, write)),
            "}",
        )

    def _earlier(self, kind: str, add: str, accumulated: np.dtype) -> str:
        """The sum of the pieces of the lanes before."""
        if self.lanes.count == 1:
            return ""
        near = self.lanes.neighbours == "lanes"
        step, start = (1, "thread - lane") if near else (self.lanes.items, f"thread - lane * {self.lanes.items}")
        other = PRINTERS["add"](accumulated, "total", f"sums[{start} + before * {step}]")
        return lines(
            f"{kind}* const sums = ({kind}*)memory;",
            f"const int thread = threadIdx.y * {self.block[0]} + threadIdx.x;",
            f"for (int i = first; i < last; i++) {add}",
            "sums[thread] = total;",
            "__syncthreads();",
            "total = 0;",
            f"for (int before = 0; before < lane; before++) total = {other};",
            spaces=0,
        )


@lowers(CumSum)
def lower_cumsum(node: CumSum, machine: Machine) -> list[Call]:
    """One kernel."""
    x, y = node.x.type, node.type
    check_plain(x, y)
    kept, reduced = spans_of(x, y, (node.axis,))
    (row,) = reduced or [Span(1, 1)]
    steps = -(-row.extent // LEAST_PIECE)
    lanes = lanes_for(math.prod(span.extent for span in kept), steps, "items" if row.x > 1 else "lanes")
    kernel = CumSumKernel(x.dtype, tuple(kept), row.extent, row.x, lanes, node.exclusive, node.reverse)
    return [Call(kernel, {"x": node.x, "y": node})]
