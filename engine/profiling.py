"""Where the time of a run goes: each step, the kernels by themselves, and what is lost between them."""

from __future__ import annotations

import dataclasses as dc
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend import Executable, Itemized
from .graph import Node
from .ops import Conv, ConvTranspose, MatMul
from .ops.layout import Reorder
from .rest import rest

CONTRACTIONS = (Conv, ConvTranspose, MatMul)
"""The operators whose kernels are the work that cannot be avoided."""
REST = 0.2
"""Seconds in which this process does nothing, to see what others do."""


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
    steps: float
    """Sum over the steps of a run. The medians of the rows need not add up to it."""
    alone: float
    """Sum over convolutions and matrix products, each repeated by itself on the same threads."""
    single: float
    """Sum over all steps but reorders on one thread."""
    busy: float | None = None
    """Processors that other processes kept busy, where the system tells."""

    @property
    def reorders(self) -> float:
        """Sum over the steps that only change layouts."""
        return sum(row.seconds for row in self.rows if row.kind is Reorder)

    @property
    def lost(self) -> float:
        """1 - kernel time / (threads * wall), with the kernel time that one thread needs when it has the machine for itself."""
        return 1 - self.single / (self.threads * self.wall)


def measure(executable: Executable, single: Executable, threads: int, inputs: Sequence[np.ndarray], repeats: int = 10) -> Profile:
    """Profile a plan for `threads` threads; `single` is the same model compiled for one. Both must be Itemized.

    What is set in relation is measured in turns, and as sums over whole runs: what disturbs the machine shall disturb all alike.
    """
    assert isinstance(executable, Itemized) and isinstance(single, Itemized)
    is_kernel = [not isinstance(node, Reorder) for node, _ in single.items()]
    busy = rest(REST)
    walls, steps, kernels = list[float](), list[list[float]](), list[float]()
    for _ in range(repeats):
        walls.append(_warm_seconds(lambda: executable.run(inputs)))
        steps.append([seconds for _, seconds in executable.profile(inputs, 1)])
        kernels.append(sum(itertools.compress((seconds for _, seconds in single.profile(inputs, 1)), is_kernel)))
    alone = sum(executable.profile_alone(inputs, CONTRACTIONS, repeats))
    found = rows(executable.items(), np.median(steps, axis=0).tolist())
    whole, walked, one = (float(np.median(each)) for each in (walls, np.sum(steps, axis=1), kernels))
    return Profile(threads, tuple(found), whole, walked, alone, one, busy)


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


def _warm_seconds(call: Callable[[], Any]) -> float:
    """Of the second of two calls."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
