"""Positions of extremes: lanes carry their best element and its index; of equals the first or the last one wins wherever it was found."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import numpy as np

from ...engine.ops import ArgReduce
from ..common.cuda_functions import convert, literal, loaded, memory_type
from .elements import check_plain, coordinates, lines, weighted
from .kernel import Call, Machine, Parameter, lowers
from .lanes import accumulator, lanes_for
from .reduce import LineKernel, Span, accumulated_dtype, is_along, spans_of


@dc.dataclass(frozen=True)
class ArgReduceKernel(LineKernel):
    """y[kept] = the index of the extreme among x[kept, 0 .. extent]. NaN is more extreme than any number."""

    sign: str
    """">" or "<"."""
    last: bool

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.dtype), Parameter("y", np.dtype(np.int64), written=True)

    @property
    def shared(self) -> int:
        return self.lanes.shared(2)

    def body(self) -> str:
        accumulated = accumulated_dtype("max", self.dtype)
        kind = accumulator(accumulated)
        texts = coordinates("item", [span.extent for span in self.kept])
        places = [weighted(texts, [getattr(span, side) for span in self.kept]) for side in ("x", "y")]
        value = convert(loaded(f"from[step * {self.stride}]", self.dtype), self.dtype, accumulated)
        return lines(
            "SHARED_MEMORY(memory);" if self.shared else "",
            self.lanes.start,
            f"const bool inside = item < {self.items};",
            f"{kind} best = {literal(0, accumulated)};",
            "int found = -1;",
            "if (inside) {",
            f"const {memory_type(self.dtype)}* const from = x + ({places[0]});",
            f"for (int step = lane; step < {self.extent}; step += {self.lanes.count}) {{",
            f"const {kind} one = {value};",
            self._take("one", "step"),
            "}",
            "}",
            self.lanes.combine([(kind, "best"), ("int", "found")], self._merge, for_all=False),
            f"if (inside && lane == 0) y[{places[1]}] = found;",
        )

    def _take(self, value: str, index: str) -> str:
        better = f"{value} {self.sign} best || ({value} != {value} && best == best)"
        equal = f"{value} == best || ({value} != {value} && best != best)"
        nearer = f"{index} {'>' if self.last else '<'} found"
        return f"if (found < 0 || {better} || (({equal}) && {nearer})) {{ best = {value}; found = {index}; }}"

    def _merge(self, others: Sequence[str]) -> str:
        return f"if ({others[1]} >= 0) {self._take(*others)}"


@lowers(ArgReduce)
def lower_arg_reduce(node: ArgReduce, machine: Machine) -> list[Call]:
    """One kernel; the channels of x may be last."""
    x, y = node.x.type, node.type
    check_plain(y)
    kept, reduced = spans_of(x, y, (node.axis,), node.keepdims)
    (row,) = reduced or [Span(1, 1)]
    lanes = lanes_for(math.prod(span.extent for span in kept), row.extent, "lanes" if is_along(kept, reduced) else "items")
    sign = ">" if node.kind == "max" else "<"
    kernel = ArgReduceKernel(x.dtype, tuple(kept), row.extent, row.x, lanes, sign, node.last_index)
    return [Call(kernel, {"x": node.x, "y": node})]
