"""Do several ways to run a model agree; and where they do not, which pass or which layer is the first to differ.

The first backend is the judge: it runs the graph as it was imported, without any pass. Every other backend goes the whole
road. Where its answer differs, the judge runs the graph after each pass, which convicts a pass; when all passes are
innocent, both run the graph with its inner values as outputs, which convicts a layer.
"""

from __future__ import annotations

import dataclasses as dc
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import plugins
from .backend import Approximate, Backend, Options
from .compiler import load_source, resolve_passes
from .errors import ModelError
from .graph import Constant, Graph, Input, Node
from .printer import describe, node_names
from .rewrite import Pass, run_passes
from .source import specialize
from .tensor import TensorType

TOLERANCES = {2: 1e-2, 4: 1e-4, 8: 1e-10}
"""By bytes of a float: the largest difference over the largest value; half of it for the rms. Everything else must be equal."""

Arrays = Mapping[str, np.ndarray]


@dc.dataclass(frozen=True)
class Tolerance:
    """How far two values may be apart: the largest difference over the largest value, and half of it for the rms."""

    given: float | None = None
    """What the user says. Raises ModelError for a number below 0."""
    precision: float = 0.0
    """What the precision of those who computed them explains, where the user says nothing."""

    def __post_init__(self) -> None:
        if self.given is not None and not self.given >= 0:
            raise ModelError(f"tolerance={self.given}: expected a number of at least 0, or None for what types and precisions allow")

    def of(self, kind: TensorType) -> float:
        """The largest difference over the largest value."""
        if kind.dtype.kind != "f":
            return 0.0
        return max(TOLERANCES[kind.dtype.itemsize], self.precision) if self.given is None else self.given

    def between(self, *backends: Backend) -> Tolerance:
        """For values that these have computed: what the least precise of them explains."""
        return dc.replace(self, precision=max(b.error if isinstance(b, Approximate) else 0.0 for b in backends))


BY_TYPE = Tolerance()


@dc.dataclass(frozen=True)
class Difference:
    """How far a value is from the judge's, relative to the judge's largest absolute value and to its rms."""

    name: str
    type: TensorType
    largest: float
    rms: float
    tolerance: float

    @property
    def rms_tolerance(self) -> float:
        """An error that is spread wide may be half as large."""
        return self.tolerance / 2

    @property
    def within(self) -> bool:
        """Whether both errors are within the tolerance."""
        return self.largest <= self.tolerance and self.rms <= self.rms_tolerance


@dc.dataclass(frozen=True)
class Verdict:
    """One backend against the judge."""

    backend: str
    seconds: float
    """Median of the timed runs."""
    differences: tuple[Difference, ...] = ()
    """One an output; none for the judge itself."""
    culprit: str = ""
    """Where the answers begin to differ; empty when they agree."""

    @property
    def agrees(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(d.within for d in self.differences)


def difference(name: str, of: TensorType, actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance = BY_TYPE) -> Difference:
    """Compare one value that has type `of` in the graph; a backend may compute floats with more bits.

    NaN equals NaN and infinity equals infinity; any other mismatch of the two is an infinite error, and so is another shape.
    """
    allowed = tolerance.of(of)
    if actual.shape != of.shape or actual.dtype.kind != of.dtype.kind:
        return Difference(f"{name} (got {TensorType(actual.dtype, actual.shape)})", of, np.inf, np.inf, allowed)
    a, e = actual.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    comparable = np.isfinite(a) & np.isfinite(e)
    gap = np.where((a == e) | (np.isnan(a) & np.isnan(e)), 0.0, np.inf)
    np.subtract(a, e, out=gap, where=comparable)
    scale = e[np.isfinite(e)]
    return Difference(name, of, _ratio(np.abs(gap), np.abs(scale), np.max), _ratio(gap, scale, _rms), allowed)


def _ratio(gap: np.ndarray, scale: np.ndarray, norm: Any) -> float:
    if not gap.any():
        return 0.0
    size = float(norm(scale)) if scale.size else 0.0
    return float(norm(gap)) / size if size else float(np.inf)


def _rms(values: np.ndarray) -> float:
    largest = np.abs(values).max()
    return float(largest if not np.isfinite(largest) or not largest else largest * np.sqrt(np.mean((values / largest) ** 2)))


def compare(
    model: Any,
    inputs: Arrays,
    backends: Sequence[str | Backend] = ("reference", "cpu"),
    *,
    passes: Sequence[str | Pass] | None = None,
    threads: int | None = None,
    accuracy: str = "fast",
    tolerance: float | None = None,
    repeats: int = 1,
) -> list[Verdict]:
    """Run a model on several backends, each `name`, `name:precision` or an object; a Verdict for each, that of the judge first.

    tolerance: see Tolerance. Raises ModelError for unknown backends and wrong inputs, UnsupportedError for what a backend cannot run.
    """
    if len(backends) < 2:
        raise ModelError(f"expected at least two backends to compare, got {len(backends)}")
    allowed, graph, chain = Tolerance(tolerance), specialize(load_source(model), inputs), resolve_passes(passes)
    arrays = [inputs[i.name] for i in graph.inputs]
    names = [b if isinstance(b, str) else b.name for b in backends]
    judge, *others = (load_backend(b, threads, accuracy) if isinstance(b, str) else b for b in backends)
    expected, seconds = _timed(judge, graph, arrays, repeats)
    verdicts = [Verdict(names[0], seconds)]
    optimized = run_passes(graph, chain)
    for name, other in zip(names[1:], others, strict=True):
        actual, seconds = _timed(other, optimized, arrays, repeats)
        found = tuple(output_differences(graph, actual, expected, allowed.between(judge, other)))
        search = _Search(graph, chain, judge, other, arrays, expected, allowed)
        verdicts.append(Verdict(name, seconds, found, "" if all(d.within for d in found) else search.culprit()))
    return verdicts


def load_backend(name: str, threads: int | None = None, accuracy: str = "fast") -> Backend:
    """The backend called `name`, or `name:precision`."""
    plain, _, precision = name.partition(":")
    return plugins.load("backends", plain)(Options(threads, accuracy, precision or None))


def _timed(backend: Backend, graph: Graph, arrays: Sequence[np.ndarray], repeats: int) -> tuple[list[np.ndarray], float]:
    """The outputs, and the median seconds of the runs after the first."""
    executable = backend.compile(graph)
    outputs, times = executable.run(arrays), []
    for _ in range(repeats):
        start = time.perf_counter()
        executable.run(arrays)
        times.append(time.perf_counter() - start)
    return outputs, float(np.median(times)) if times else float("nan")


def output_differences(
    graph: Graph, actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: Tolerance = BY_TYPE
) -> Iterator[Difference]:
    """One Difference for each output of the graph."""
    for name, node, a, e in zip(graph.output_names, graph.outputs, actual, expected, strict=True):
        yield difference(name, node.type, a, e, tolerance)


def with_inner_values(graph: Graph) -> tuple[Graph, list[Node]]:
    """The graph with every computed value as an output, in execution order, and the nodes of these outputs."""
    inner = [n for n in graph if not isinstance(n, Input | Constant) and len(n.types) == 1]
    return dc.replace(graph, outputs=tuple(inner), output_names=tuple(f"value_{i}" for i in range(len(inner)))), inner


def layer_differences(
    graph: Graph, judge: Backend, other: Backend, arrays: Sequence[np.ndarray], tolerance: Tolerance = BY_TYPE
) -> Iterator[Difference]:
    """For every node in execution order how far the two backends are apart; a name is the node as it is printed."""
    exposed, inner = with_inner_values(graph)
    names = node_names(graph)
    expected, actual = judge.compile(exposed).run(arrays), other.compile(exposed).run(arrays)
    for node, a, e in zip(inner, actual, expected, strict=True):
        yield difference(f"{names[node]} = {describe(node, names)}", node.type, a, e, tolerance)


@dc.dataclass(frozen=True)
class _Search:
    """Where one backend's answer leaves the judge's."""

    graph: Graph
    chain: Sequence[Pass]
    judge: Backend
    other: Backend
    arrays: Sequence[np.ndarray]
    expected: Sequence[np.ndarray]
    tolerance: Tolerance

    def culprit(self) -> str:
        """The first pass that changes the judge's answer, else the first layer that differs, else what that leaves."""
        graph = self.graph
        for item in self.chain:
            before, graph = graph, run_passes(graph, [item])
            if graph is not before and (found := self._first(self._after(graph))):
                return f"pass {item.__name__} changes the answer: {found.name} differs by {found.largest:.2g}"
        layers = layer_differences(graph, self.judge, self.other, self.arrays, self.tolerance.between(self.judge, self.other))
        if found := self._first(layers):
            return f"first layer that differs, by {found.largest:.2g}: {found.name}"
        return "no layer differs when inner values are kept: what the backend does across layers is at fault (fusion, layouts, memory)"

    def _after(self, graph: Graph) -> Iterator[Difference]:
        actual = self.judge.compile(graph).run(self.arrays)
        return output_differences(graph, actual, self.expected, self.tolerance.between(self.judge))

    @staticmethod
    def _first(differences: Iterator[Difference]) -> Difference | None:
        return next((d for d in differences if not d.within), None)
