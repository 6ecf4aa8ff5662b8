"""Softmax along any axis: the largest element, the sum of the powers, and the quotients, by lanes that share a row."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

from ...engine.ops import Softmax
from ..common.cuda_functions import PRINTERS, literal, loaded, memory_type, register_type, stored
from .elements import coordinates, lines, padding_of, weighted
from .kernel import Call, Machine, NoKernel, Parameter, lowers
from .lanes import lanes_for
from .reduce import LineKernel, Span, is_along, spans_of

MOST_HELD = 16
"""Elements of a lane up to which they stay in registers; more are read again."""


@dc.dataclass(frozen=True)
class SoftmaxKernel(LineKernel):
    """y = exp(x - max x) / sum of exp(x - max x), or its logarithm, along `extent` elements; after them come `padding` lanes."""

    log: bool
    padding: int

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.dtype), Parameter("y", self.dtype, written=True)

    @property
    def shared(self) -> int:
        return self.lanes.shared(2)

    @property
    def each(self) -> int:
        """Most elements of a lane."""
        return -(-self.extent // self.lanes.count)

    def body(self) -> str:
        kind, memory = register_type(self.dtype), memory_type(self.dtype)
        held = self.each <= MOST_HELD
        given = loaded(f"from[step * {self.stride}]", self.dtype)
        place = weighted(coordinates("item", [span.extent for span in self.kept]), [span.x for span in self.kept])
        shifted = "held[k]" if held else f"{given} - best"
        power = PRINTERS["exp"](self.dtype, shifted)
        logarithm = f"({shifted}) - {PRINTERS['log'](self.dtype, 'sum')}"
        result = logarithm if self.log else ("held[k]" if held else power) + " / sum"
        keep = f"{'' if self.log else 'held[k] = '}power; " if held and not self.log else ""
        return lines(
            "SHARED_MEMORY(memory);" if self.shared else "",
            self.lanes.start,
            f"const bool inside = item < {self.items};",
            f"const {memory}* const from = x + (inside ? {place} : 0);",
            f"{memory}* const to = y + (inside ? {place} : 0);",
            f"{kind} held[{self.each}];" if held else "",
            f"{kind} best = {literal(-math.inf, self.dtype)}, sum = 0;",
            self._steps(f"{kind} one = {given}; {'held[k] = one; ' if held else ''}best = {PRINTERS['max'](self.dtype, 'best', 'one')};"),
            self.lanes.combine([(kind, "best")], lambda others: f"best = {PRINTERS['max'](self.dtype, 'best', others[0])};"),
            self._steps(f"{'held[k] -= best; ' if held else ''}const {kind} power = {power}; {keep}sum += power;"),
            self.lanes.combine([(kind, "sum")], _add, used=1),
            self._steps(f"to[step * {self.stride}] = {stored(f'({result})', self.dtype)};"),
            self._pad(),
        )

    def _steps(self, text: str) -> str:
        """A statement for each element of the lane."""
        unroll = "UNROLL " if self.each <= MOST_HELD else ""
        return lines(
            f"{unroll}for (int k = 0; k < {self.each}; k++) {{",
            f"  const int step = lane + k * {self.lanes.count};",
            f"  if (inside && step < {self.extent}) {{ {text} }}",
            "}",
        )

    def _pad(self) -> str:
        if not self.padding:
            return ""
        zero = stored(literal(0, self.dtype), self.dtype)
        return f"if (inside) for (int step = lane; step < {self.padding}; step += {self.lanes.count}) to[{self.extent} + step] = {zero};"


def _add(others: Sequence[str]) -> str:
    return f"sum += {others[0]};"


@lowers(Softmax)
def lower_softmax(node: Softmax, machine: Machine) -> list[Call]:
    """One kernel."""
    x, y = node.x.type, node.type
    if x.layout != y.layout:
        raise NoKernel(f"{y} of {x}: a softmax keeps the layout")
    kept, reduced = spans_of(x, y, (node.axis,))
    (row,) = reduced or [Span(1, 1)]
    lanes = lanes_for(math.prod(span.extent for span in kept), row.extent, "lanes" if is_along(kept, reduced) else "items")
    kernel = SoftmaxKernel(x.dtype, tuple(kept), row.extent, row.x, lanes, node.log, padding_of(y)[node.axis])
    return [Call(kernel, {"x": node.x, "y": node})]
