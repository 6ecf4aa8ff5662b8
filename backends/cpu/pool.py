"""The one pool of native threads of a process: who starts it, who ends it, and how many threads a program gets."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import mmap
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from ...engine import knobs
from ...engine.errors import MachineError, MachineWarning
from .codegen import keep, load, lock
from .target import Target
from .walker import Walker
from .workers import CONTROL_BYTES

HAS_WORKERS = sys.platform == "linux"
WALKER = Walker(workers=HAS_WORKERS)


class Pool:
    """Workers are made by the first run that wants them, sleep between runs, and end before a fork and before the interpreter.

    The native code does all bookkeeping; a run that finds the pool taken by another Python thread goes alone.
    """

    def __init__(self, found: Mapping[str, int]) -> None:
        """found: the addresses of the walker's functions."""
        if os.name != "posix":
            raise MachineError(f"the cpu backend expected Linux or another POSIX system, got {sys.platform}")
        word = ctypes.c_void_p
        self._run = ctypes.CFUNCTYPE(None, word, word, ctypes.c_int64, word, word, ctypes.c_int64, word)(found[WALKER.symbol])
        self._control = control_block()
        self._ended = not HAS_WORKERS
        if HAS_WORKERS:
            self._stop = ctypes.CFUNCTYPE(None, word)(found["tilewright_stop"])
            self._release = ctypes.CFUNCTYPE(None, word)(found["tilewright_release"])
            os.register_at_fork(before=self.rest, after_in_parent=self.resume, after_in_child=self.resume)
            atexit.register(self.end)

    def run(self, steps: int, count: int, bases: int, counters: int, threads: int, times: int = 0) -> None:
        """Walk `count` steps of a table; all are addresses but the numbers of steps and threads."""
        self._run(self._control, steps, count, bases, counters, threads, times)

    def rest(self) -> None:
        """Wait for the run in progress, end the workers, and let runs go alone until `resume`."""
        if not self._ended:
            self._stop(self._control)

    def resume(self) -> None:
        """The next run makes its workers afresh."""
        if not self._ended:
            self._release(self._control)

    def end(self) -> None:
        """No worker outlives the interpreter: it would return into code and memory that are being taken down."""
        self.rest()
        self._ended = True


def control_block() -> int:
    """The address of zeroed memory that is never unmapped."""
    block = mmap.mmap(-1, CONTROL_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return ctypes.addressof(keep(ctypes.c_char.from_buffer(block)))


_pool: Pool | None = None


def pool(found: Mapping[str, int] | None = None) -> Pool:
    """The pool of this process, made at the first call; found: the addresses of the walker's functions where they are loaded already."""
    global _pool
    if _pool is None:
        with lock:
            _pool = _pool or Pool(found or load([WALKER], Target.native()))
    return _pool


def checked_threads(threads: int) -> int:
    """As many threads as asked for where the system has workers, else one, and a line that says so."""
    if threads > 1 and not HAS_WORKERS:
        warnings.warn(f"{sys.platform}: the cpu backend has worker threads on Linux only; running on one", MachineWarning, stacklevel=3)
        return 1
    return threads


def default_threads() -> int:
    """As many as this process may use: its processors, its share of a container, and what TILEWRIGHT_THREADS or OpenMP's variable say."""
    if not HAS_WORKERS:
        return 1
    limits = [len(os.sched_getaffinity(0)), cgroup_processors(), knobs.get("threads") or openmp_threads()]
    return max(1, min(limit for limit in limits if limit))


def openmp_threads() -> int:
    """The first number in OMP_NUM_THREADS, as threads of the outermost level; 0: none that can be read."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def cgroup_processors(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """The whole processors that the cgroup and those above it are granted, at least 1; 0: no limit.

    Rounded down: beyond its quota a process is stopped for the rest of the period, in the middle of a step.
    """
    limits = []
    with contextlib.suppress(OSError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                top = root / controllers if controllers else root
                inside = Path(path.lstrip("/"))
                limits += [quota(top / folder) for folder in (inside, *inside.parents)]
    granted = [limit for limit in limits if limit]
    return max(1, int(min(granted))) if granted else 0


def quota(folder: Path) -> float:
    """The processors that one cgroup grants, by version 2 or 1 of the interface; 0: no limit."""
    with contextlib.suppress(OSError, ValueError):
        share, period = (folder / "cpu.max").read_text().split()
        return 0 if share == "max" else int(share) / int(period)
    with contextlib.suppress(OSError, ValueError):
        share, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return max(0, int(share)) / int(period)
    return 0
