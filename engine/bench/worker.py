"""The process of one engine: answers pickled requests that come on stdin; `python -m tilewright.engine.bench.worker`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import pickle
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import plugins
from ..backend import Measurable, Options
from ..errors import MachineError, TilewrightError
from . import engines

PEAKS = 5
"""How often the ceiling is measured at a time; it is the best of them, as everything that can happen lowers it."""


class Server:
    """What can be asked; each public method is one request."""

    def __init__(self) -> None:
        self._run = lambda: []
        self._machines: dict[int, Any] = {}

    def load(self, name: str, task: engines.Task, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Make the engine ready; its first answer."""
        runner = engines.find(name)(task)
        self._run = lambda: runner(inputs)
        return [np.array(output) for output in self._run()]

    def window(self, seconds: float) -> list[float]:
        """Seconds of each run, one after the other, for about that long and at least two; those of a warm-up do not count."""
        self._repeat(seconds / 4, 1)
        return self._repeat(seconds, 2)

    def peak(self, threads: int) -> float:
        """The cpu backend's ceiling, in operations a second; 0 where it knows none."""
        if threads not in self._machines:
            self._machines[threads] = plugins.load("backends", "cpu")(Options(threads))
        machine = self._machines[threads]
        return max(machine.peak() for _ in range(PEAKS)) if isinstance(machine, Measurable) else 0.0

    def memory(self) -> int:
        """The most memory that this process ever held, in bytes; 0 where the system does not tell.

        From VmHWM: the maximum that getrusage knows begins with that of the parent.
        """
        with contextlib.suppress(OSError):
            for line in pathlib.Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

    def _repeat(self, seconds: float, least: int) -> list[float]:
        times, end = list[float](), time.perf_counter() + seconds
        while len(times) < least or time.perf_counter() < end:
            start = time.perf_counter()
            self._run()
            times.append(time.perf_counter() - start)
        return times


def main() -> None:
    """Answer until stdin ends: (True, what was asked for) or (False, (kind of error, its text))."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an engine prints must not get among the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks decides when this one ends
    die_with_parent()
    server = Server()
    while request := _next(requests):
        name, arguments = request
        try:
            answer = True, getattr(server, name)(*arguments)
        except Exception as error:  # whatever an engine throws is one of the results
            answer = False, (_kind(error), str(error) or repr(error))
        pickle.dump(answer, answers)
        answers.flush()


def die_with_parent() -> None:
    """A worker that is stopped would otherwise stay for ever when the process that asks is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _next(requests: Any) -> tuple[str, tuple[Any, ...]] | None:
    try:
        return pickle.load(requests)
    except EOFError:
        return None


def _kind(error: Exception) -> str:
    if isinstance(error, TilewrightError):
        return type(error).__name__
    return MachineError.__name__ if isinstance(error, MemoryError) else ""


if __name__ == "__main__":
    main()
