"""TopK: a thread for each element counts those that come before it, and stops when they are k."""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np

from ...engine.ops import TopK
from ..common.cuda_functions import loaded, memory_type, register_type
from ..common.storage import result_offset
from .elements import FlatKernel, check_plain, coordinates, lines, weighted
from .kernel import Address, Call, Machine, Parameter, lowers
from .reduce import Span, spans_of


@dc.dataclass(frozen=True)
class TopKKernel(FlatKernel):
    """values[kept, rank], indices[kept, rank] of x[kept, i] for the k elements that come first. NaN is larger than any number."""

    dtype: np.dtype
    k: int
    largest: bool
    kept: tuple[Span, ...]
    extent: int
    stride: int

    @property
    def count(self) -> int:
        return self.extent * math.prod(span.extent for span in self.kept)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        results = Parameter("values", self.dtype, written=True), Parameter("indices", np.dtype(np.int64), written=True)
        return Parameter("x", self.dtype), *results

    def thread(self) -> str:
        position, *texts = coordinates("index", [self.extent, *(span.extent for span in self.kept)])
        kind, memory = register_type(self.dtype), memory_type(self.dtype)
        at, to = (weighted(texts, [getattr(span, side) for span in self.kept]) for side in ("x", "y"))
        sign, first, second = (">", "one", "own") if self.largest else ("<", "own", "one")
        before = f"one {sign} own || ({first} != {first} && {second} == {second})"
        equal = "one == own || (one != one && own != own)"
        return lines(
            f"const int position = {position};",
            f"const {memory}* const from = x + ({at});",
            f"const {kind} own = {loaded(f'from[position * {self.stride}]', self.dtype)};",
            "int rank = 0;",
            f"for (int other = 0; other < {self.extent} && rank < {self.k}; other++) {{",
            f"  const {kind} one = {loaded(f'from[other * {self.stride}]', self.dtype)};",
            f"  rank += {before} || (other < position && ({equal}));",
            "}",
            f"if (rank < {self.k}) {{",
            f"  values[{to} + rank * {self.stride}] = from[position * {self.stride}];",
            f"  indices[{to} + rank * {self.stride}] = position;",
            "}",
            spaces=0,
        )


@lowers(TopK)
def lower_top_k(node: TopK, machine: Machine) -> list[Call]:
    """One kernel with two results."""
    x, y = node.x.type, node.types[0]
    check_plain(x, y)
    kept, reduced = spans_of(x, y, (node.axis,))
    (row,) = reduced or [Span(1, 1)]
    kernel = TopKKernel(x.dtype, node.k, node.largest, tuple(kept), row.extent, row.x)
    results = {name: Address(node, result_offset(node, i)) for i, name in enumerate(("values", "indices"))}
    return [Call(kernel, {"x": node.x, **results})]
