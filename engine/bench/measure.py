"""Rounds in which every engine has its turn on one model, and the machine's ceiling is measured in between."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..compare import Difference, Tolerance, difference
from ..rest import rest
from ..tensor import TensorType
from .engines import OURS, Task, check
from .process import EngineFailed, Worker
from .results import Result, Turnout

PAUSE = 0.05
"""Seconds of rest before each turn: the last engine's threads are gone, and the processor's clock recovers."""

Progress = Callable[[str], Any]


@dc.dataclass(frozen=True)
class Contest:
    """What is measured, and how."""

    name: str
    task: Task
    flops: int
    inputs: Mapping[str, np.ndarray]
    rounds: int = 5
    window: float = 0.25
    """Seconds of one turn of one engine."""
    tolerance: float | None = None
    """As in engine.compare."""
    pythons: Mapping[str, str] = dc.field(default_factory=dict)
    """The interpreter of each engine that has one of its own."""


def bench(contest: Contest, against: Sequence[str], progress: Progress = lambda what: None) -> Result:
    """Time this package beside other engines. They take turns, in another order each round; all but one are stopped.

    Raises ModelError for unknown engines, MachineError for packages that are not installed, and what hinders this package; what hinders
    another engine is in its Turnout.
    """
    check([engine for engine in against if engine not in contest.pythons])
    with contextlib.ExitStack() as stack:
        contestants = []
        for engine in dict.fromkeys([OURS, *against]):
            progress(f"{contest.name}: loading {engine}")
            worker = stack.enter_context(Worker(contest.task.threads, contest.pythons.get(engine)))
            contestants.append(_Contestant(engine, worker, contest))
        ceiling = _Ceiling(stack.enter_context(Worker(contest.task.threads)), contest.task.threads)
        for index in range(contest.rounds):
            progress(f"{contest.name}: round {index + 1} of {contest.rounds}")
            ceiling.measure()
            first = index % len(contestants)
            for contestant in contestants[first:] + contestants[:first]:
                contestant.run()
        turnouts = tuple(contestant.turnout(contestants[0].outputs) for contestant in contestants)
    return Result(contest.name, contest.task.threads, contest.flops, ceiling.rate, turnouts, ceiling.busy)


class _Contestant:
    """An engine in the making of its Turnout."""

    def __init__(self, engine: str, worker: Worker, contest: Contest) -> None:
        self.engine, self._worker, self._contest = engine, worker, contest
        self._seconds: list[float] = []
        self._failure = ""
        self.outputs: list[np.ndarray] = self._ask("load", engine, contest.task, contest.inputs) or []
        self._first_answer = time.perf_counter() - worker.started

    def run(self) -> None:
        """One turn."""
        time.sleep(PAUSE)
        self._seconds += self._ask("window", self._contest.window) or []

    def turnout(self, ours: Sequence[np.ndarray]) -> Turnout:
        """What was found."""
        memory = self._ask("memory") or None
        if self._failure:
            return Turnout(self.engine, failure=self._failure)
        furthest = None if self.engine == OURS else _furthest(ours, self.outputs, self._contest.tolerance)
        return Turnout(self.engine, tuple(self._seconds), self._first_answer, memory, furthest)

    def _ask(self, request: str, *arguments: Any) -> Any:
        """The answer, or None once the engine has failed; ours may not."""
        if self._failure:
            return None
        try:
            return self._worker.ask(request, *arguments)
        except EngineFailed as error:
            if self.engine == OURS:
                raise
            self._failure = str(error).partition("\n")[0]
            return None


class _Ceiling:
    """The peak, measured in a process without any engine, and how busy others keep the machine."""

    def __init__(self, worker: Worker, threads: int) -> None:
        self._worker, self._threads = worker, threads
        self._rates, self._busy = list[float](), list[float]()

    def measure(self) -> None:
        """One more time, where the backend can; and what others do while all of ours rest."""
        if (busy := rest(PAUSE)) is not None:
            self._busy.append(busy)
        if rate := self._worker.ask("peak", self._threads):
            self._rates.append(rate)

    @property
    def rate(self) -> float | None:
        """The median over the rounds."""
        return float(np.median(self._rates)) if self._rates else None

    @property
    def busy(self) -> float | None:
        """The mean over the rounds."""
        return float(np.mean(self._busy)) if self._busy else None


def _furthest(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], tolerance: float | None) -> Difference:
    """The difference that is largest beside its tolerance."""
    if len(ours) != len(theirs):
        return Difference(f"{len(ours)} outputs, got {len(theirs)}", TensorType(np.dtype(np.float32), ()), np.inf, np.inf, 0.0)
    found = [
        difference(f"output {i}", TensorType(t.dtype, t.shape), o, t, Tolerance(tolerance))
        for i, (o, t) in enumerate(zip(ours, theirs, strict=True))
    ]
    return max(found, key=lambda d: (not d.within, d.largest))
