"""Every node by its NumPy meaning: slow, obvious, and the judge of all other backends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.backend import Options, delivered
from ..engine.errors import ModelError
from ..engine.evaluate import evaluate, evaluate_node, widen
from ..engine.graph import Constant, Graph, Result


class reference:  # noqa: N801 - a plug-in is found by its name
    """precision=None evaluates each node in its own dtype, "float64" every floating-point value in float64."""

    name = "reference"

    def __init__(self, options: Options | None = None) -> None:
        options = options or Options()
        if options.precision not in (None, "float64"):
            raise ModelError(f"precision={options.precision!r}: the reference backend knows None and 'float64'")
        if options.tune:
            raise ModelError("tune: the reference backend has nothing to choose from")
        self.wide = options.precision == "float64"

    def compile(self, graph: Graph) -> _Evaluation:
        return _Evaluation(graph, self.wide)


class _Evaluation:
    def __init__(self, graph: Graph, wide: bool) -> None:
        self.graph = graph
        self._evaluated = widen(graph) if wide else graph

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        return delivered([np.array(r, order="C") for r in evaluate(self._evaluated, inputs)], out)

    def describe(self) -> str:
        return f"{self._evaluated}\nevery node by its NumPy meaning"

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        steps: list[tuple[str, float]] = []
        values: dict[Any, Any] = {n: np.asarray(a, n.type.dtype) for n, a in zip(self._evaluated.inputs, inputs, strict=True)}
        for node in self._evaluated:
            if node in values:
                continue
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                values[node] = evaluate_node(node, values)
                times.append(time.perf_counter() - start)
            if not isinstance(node, Constant | Result):
                steps.append((f"{node.opname} {', '.join(node.origin)}".rstrip(), float(np.median(times))))
        return steps
