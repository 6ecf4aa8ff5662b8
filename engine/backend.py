"""What a backend must answer, and what it is told."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from .graph import Graph

ACCURACIES = ("fast", "strict", "exact")


@dc.dataclass(frozen=True)
class Options:
    """What the user asks of a backend; every backend refuses what it does not know with a ModelError."""

    threads: int | None = None
    """None: as many as this process may use."""
    accuracy: str = "fast"
    """"fast": any algorithm whose error bound is documented; "strict": at most F(2x2) Winograd; "exact": no Winograd."""
    precision: str | None = None
    """The dtype of the arithmetic where it may differ from the model's; None: the model's own."""
    target: str | None = None
    """The machine to generate for; None: this one."""


class Executable(Protocol):
    """A graph compiled by a backend, ready to run. Several Python threads may call `run` at once."""

    graph: Graph
    """The graph as the backend lowered it."""

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """One array an output, in the graph's order: fresh ones, or those of `out`, filled. Inputs have been checked."""
        ...

    def describe(self) -> str:
        """The plan as text: steps, memory, and what falls back and why."""
        ...

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """(step, median seconds) for every step, in order."""
        ...


class Backend(Protocol):
    """A way to run graphs. `plugins.load("backends", name)` is a callable that makes one from Options."""

    name: str

    def compile(self, graph: Graph) -> Executable:
        """Lower the graph, plan it and generate its code. Raises UnsupportedError with everything it cannot do."""
        ...


def describe_options(options: Options) -> dict[str, Any]:
    """Options that differ from the default, for messages and cache keys."""
    return {f.name: value for f in dc.fields(options) if (value := getattr(options, f.name)) != f.default}
