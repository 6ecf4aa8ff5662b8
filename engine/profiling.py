"""Where the time of a run goes: each step, the kernels by themselves, and what is lost between them."""

from __future__ import annotations

import dataclasses as dc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend import Executable, Itemized
from .graph import Node
from .ops import Conv, ConvTranspose, MatMul
from .ops.layout import Reorder

CONTRACTIONS = (Conv, ConvTranspose, MatMul)
"""The operators whose kernels are the work that cannot be avoided."""

BLOCKS = 3
"""The figures that are set in relation are measured so often, in turns: what disturbs the machine shall disturb them all."""


@dc.dataclass(frozen=True)
class Row:
    """One or several steps and what they cost; of one node they are one row, whatever the number of its kernels."""

    kind: type[Node]
    operator: str
    kernel: str
    origin: tuple[str, ...]
    """Names in the user's model."""
    seconds: float
    flops: int
    nbytes: int
    """Of the operands and results, each in full and once."""
    steps: int = 1

    @property
    def rate(self) -> float:
        """Operations a second, by the operator's own count: an algorithm that needs fewer may pass the peak."""
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def traffic(self) -> float:
        """Bytes a second."""
        return self.nbytes / self.seconds if self.seconds else 0.0


@dc.dataclass(frozen=True)
class Profile:
    """Medians of one plan on one machine."""

    threads: int
    rows: tuple[Row, ...]
    """In the order of the plan, by the clock of the thread that walks it: each ends when the last thread is done with it."""
    wall: float
    """Seconds of a whole run as the caller sees it."""
    alone: float
    """Sum over convolutions and matrix products, each repeated by itself on the same threads."""
    single: float
    """Sum over all steps but reorders on one thread."""

    @property
    def steps(self) -> float:
        """Sum over the rows."""
        return sum(row.seconds for row in self.rows)

    @property
    def reorders(self) -> float:
        """Sum over the steps that only change layouts."""
        return sum(row.seconds for row in self.rows if row.kind is Reorder)

    @property
    def lost(self) -> float:
        """1 - kernel time / (threads * wall), with the kernel time that one thread needs when it has the machine for itself."""
        return 1 - self.single / (self.threads * self.wall)


def measure(executable: Executable, single: Executable, threads: int, inputs: Sequence[np.ndarray], repeats: int = 10) -> Profile:
    """Profile a plan for `threads` threads; `single` is the same model compiled for one. Both must be Itemized."""
    assert isinstance(executable, Itemized) and isinstance(single, Itemized)
    walls, steps, alone, kernels = list[float](), list[list[float]](), list[float](), list[float]()
    for _ in range(BLOCKS):
        walls.append(_median_seconds(lambda: executable.run(inputs), repeats))
        steps.append([seconds for _, seconds in executable.profile(inputs, repeats)])
        alone.append(sum(executable.profile_alone(inputs, CONTRACTIONS, repeats)))
        pairs = zip(single.items(), single.profile(inputs, repeats), strict=True)
        kernels.append(sum(seconds for (node, _), (_, seconds) in pairs if not isinstance(node, Reorder)))
    seconds = np.median(steps, axis=0).tolist()
    wall, by_itself, one = (float(np.median(found)) for found in (walls, alone, kernels))
    return Profile(threads, tuple(rows(executable.items(), seconds)), wall, by_itself, one)


def rows(items: Sequence[tuple[Node, str]], seconds: Sequence[float]) -> list[Row]:
    """One Row a node, in order of its first step."""
    found: dict[Node, tuple[list[str], list[float]]] = {}
    for (node, kernel), elapsed in zip(items, seconds, strict=True):
        kernels, times = found.setdefault(node, ([], []))
        kernels.append(kernel)
        times.append(elapsed)
    return [
        Row(
            type(node),
            node.opname,
            " + ".join(dict.fromkeys(kernels)),
            node.origin,
            sum(times),
            node.flops(),
            moved_bytes(node),
            len(times),
        )
        for node, (kernels, times) in found.items()
    ]


def totals(of: Sequence[Row], key: Callable[[Row], Any] = lambda row: (row.operator, row.kernel)) -> list[Row]:
    """One Row for each group, the slowest first."""
    groups: dict[Any, list[Row]] = {}
    for row in of:
        groups.setdefault(key(row), []).append(row)
    summed = [
        dc.replace(
            group[0],
            origin=(),
            seconds=sum(row.seconds for row in group),
            flops=sum(row.flops for row in group),
            nbytes=sum(row.nbytes for row in group),
            steps=sum(row.steps for row in group),
        )
        for group in groups.values()
    ]
    return sorted(summed, key=lambda row: -row.seconds)


def moved_bytes(node: Node) -> int:
    """Bytes of the operands and of the results."""
    return sum(kind.nbytes for each in (node, *node.operands) for kind in each.types)


def _median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Of `repeats` calls after two that do not count."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:]))
