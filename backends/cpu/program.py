"""A compiled network as native code sees it: a read-only table of steps, run with one call."""

from __future__ import annotations

import ctypes
import dataclasses as dc
import itertools
from collections.abc import Sequence

from ...engine.errors import CompilerBug, ModelError
from .pool import checked_threads, pool
from .workers import MOST_WORKERS

LINE = 64
"""Bytes of a cache line, which every counter has for itself."""


@dc.dataclass(frozen=True)
class ProgramStep:
    """One kernel call: `kernel(args, bases, begin, end, thread)` for 0 <= begin < end <= units, about `grain` units at a time."""

    address: int
    args: Sequence[int]
    units: int
    grain: int
    """A grain of all units gives the whole step to one thread."""


class Program:
    """Steps in their order, for up to `threads` threads. Several Python threads may run one program at once."""

    def __init__(self, steps: Sequence[ProgramStep], threads: int) -> None:
        if not 1 <= threads <= MOST_WORKERS + 1:
            raise ModelError(f"threads={threads}: expected 1 to {MOST_WORKERS + 1}")
        self.threads = checked_threads(threads)
        self._count = len(steps)
        self._args = (ctypes.c_int64 * (1 + sum(len(step.args) for step in steps)))(*[value for step in steps for value in step.args])
        self._table = (ctypes.c_int64 * (4 * len(steps)))(*self._entries(steps))
        lines = len(steps) * (self.threads + 1) if self.threads > 1 else 0
        self._counters = (ctypes.c_char * (LINE * (lines + 1)))()
        """For each step one cache line a thread, and one more. Only the run that has the pool uses them, so one set is enough."""
        self._pool = pool()

    def _entries(self, steps: Sequence[ProgramStep]) -> list[int]:
        """Kernel, arguments, units, grain of each step."""
        entries: list[int] = []
        args = ctypes.addressof(self._args)
        for index, step in enumerate(steps):
            if not step.address or step.units < 0 or step.grain < 1:
                raise CompilerBug(f"step {index}: expected an address, units >= 0 and grain >= 1, got {step}")
            entries += [step.address, args, step.units, step.grain]
            args += 8 * len(step.args)
        return entries

    def __len__(self) -> int:
        return self._count

    def run(self, bases: Sequence[int]) -> None:
        """Do all steps. bases: the addresses of this run, see codegen.Kernel."""
        self._walk(bases, 0, self._count)

    def run_range(self, bases: Sequence[int], first: int, last: int) -> None:
        """Do the steps first <= step < last."""
        self._walk(bases, first, last)

    def time_steps(self, bases: Sequence[int], first: int = 0, last: int | None = None) -> list[float]:
        """Do the steps first <= step < last, by default all; the seconds that each took, by the caller's clock."""
        last = self._count if last is None else last
        times = (ctypes.c_int64 * (2 * (last - first) + 2))()
        self._walk(bases, first, last, ctypes.addressof(times))
        stamps = [times[i] * 10**9 + times[i + 1] for i in range(0, len(times), 2)]
        return [(after - before) * 1e-9 for before, after in itertools.pairwise(stamps)]

    def _walk(self, bases: Sequence[int], first: int, last: int, times: int = 0) -> None:
        if not 0 <= first <= last <= self._count:
            raise CompilerBug(f"expected 0 <= first <= last <= {self._count}, got {first} and {last}")
        vector = (ctypes.c_int64 * len(bases))(*bases)
        counters = -(-ctypes.addressof(self._counters) // LINE) * LINE
        steps = ctypes.addressof(self._table) + 32 * first
        self._pool.run(steps, last - first, ctypes.addressof(vector), counters, self.threads, times)
