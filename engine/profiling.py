"""Where the time of a run goes: each step, the kernels by themselves, and what is lost between them."""

from __future__ import annotations

import dataclasses as dc
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent import futures
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
BLOCK, READINGS = 64 << 20, 5
"""Bytes that a thread reads to measure memory, and how often."""
WORTH = 1e-4
"""Seconds from which on a step should gain from more threads."""
FAIR = 0.925
"""The speed-up over one thread, by the number of threads, that such a step should reach."""


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
    single: float | None = None
    """Seconds on one thread, where the plan for one has the same step."""

    @property
    def rate(self) -> float:
        """Operations a second, by the operator's own count: an algorithm that needs fewer may pass the peak."""
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def traffic(self) -> float:
        """Bytes a second."""
        return self.nbytes / self.seconds if self.seconds else 0.0

    @property
    def gain(self) -> float | None:
        """How many times as fast as on one thread."""
        return self.single / self.seconds if self.single is not None and self.seconds else None


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

    def lagging(self) -> list[Row]:
        """Convolutions and matrix products that are worth it and gain too little from the threads."""
        worth = [row for row in self.rows if issubclass(row.kind, CONTRACTIONS) and row.seconds > WORTH and self.threads > 1]
        return [row for row in worth if row.gain is not None and row.gain < FAIR * self.threads]


def measure(executable: Executable, single: Executable, threads: int, inputs: Sequence[np.ndarray], repeats: int = 10) -> Profile:
    """Profile a plan for `threads` threads; `single` is the same model compiled for one. Both must be Itemized.

    What is set in relation is measured in turns, and as sums over whole runs: what disturbs the machine shall disturb all alike.
    """
    assert isinstance(executable, Itemized) and isinstance(single, Itemized)
    is_kernel = [not isinstance(node, Reorder) for node, _ in single.items()]
    busy = rest(REST)
    walls, steps, ones = list[float](), list[list[float]](), list[list[float]]()
    for _ in range(repeats):
        walls.append(_warm_seconds(lambda: executable.run(inputs)))
        steps.append([seconds for _, seconds in executable.profile(inputs, 1)])
        ones.append([seconds for _, seconds in single.profile(inputs, 1)])
    alone = sum(executable.profile_alone(inputs, CONTRACTIONS, repeats))
    found = beside(rows(executable.items(), medians(steps)), rows(single.items(), medians(ones)))
    kernels = [sum(itertools.compress(each, is_kernel)) for each in ones]
    whole, walked, one = (float(np.median(each)) for each in (walls, np.sum(steps, axis=1), kernels))
    return Profile(threads, tuple(found), whole, walked, alone, one, busy)


def measure_runs(executable: Executable, inputs: Sequence[np.ndarray], repeats: int = 10) -> float:
    """Median seconds of a whole run as the caller sees it."""
    return float(np.median([_warm_seconds(lambda: executable.run(inputs)) for _ in range(repeats)]))


def medians(runs: Sequence[Sequence[float]]) -> list[float]:
    """Of each step over the runs."""
    return np.median(runs, axis=0).tolist()


def beside(many: Sequence[Row], one: Sequence[Row]) -> list[Row]:
    """The rows of the plan for many threads with their time on one; plans that differ in their nodes cannot be compared."""
    if [(row.operator, row.origin) for row in many] != [(row.operator, row.origin) for row in one]:
        return list(many)
    return [dc.replace(row, single=alone.seconds) for row, alone in zip(many, one, strict=True)]


def memory_rate(threads: int) -> float:
    """Bytes a second that this many threads read from memory, each from a block of its own that no cache holds; the best of a few."""
    blocks = [np.ones(BLOCK // 4, np.float32) for _ in range(threads)]
    with futures.ThreadPoolExecutor(threads) as pool:

        def seconds() -> float:
            start = time.perf_counter()
            list(pool.map(np.max, blocks))  # NumPy lets go of the interpreter meanwhile
            return time.perf_counter() - start

        return threads * BLOCK / min(seconds() for _ in range(READINGS))


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
            single=None if any(row.single is None for row in group) else sum(row.single or 0.0 for row in group),
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
