"""How busy other processes keep this machine: measured while ours rest."""

from __future__ import annotations

import contextlib
import os
import pathlib
import time

STATISTICS = pathlib.Path("/proc/stat")
IDLE = slice(3, 5)
"""Where Linux counts the time of processors that had nothing to do, or waited for a disk."""
NOTEWORTHY = 0.1
"""Processors; below it are the clock's resolution and the system's own work."""


def rest(seconds: float, statistics: pathlib.Path = STATISTICS) -> float | None:
    """Sleep; the number of processors that were busy meanwhile, None where the system does not tell."""
    before = _ticks(statistics)
    time.sleep(seconds)
    after = _ticks(statistics)
    if before is None or after is None or after[1] <= before[1]:
        return None
    passed = after[1] - before[1]
    return (1 - (after[0] - before[0]) / passed) * (os.cpu_count() or 1)


def warning(busy: float | None) -> str:
    """What a reader of measurements should know; empty when other processes hardly did anything."""
    if busy is None or busy < NOTEWORTHY:
        return ""
    return f"other processes kept {busy:.1f} of {os.cpu_count()} processors busy: these figures are not those of a quiet machine"


def _ticks(statistics: pathlib.Path) -> tuple[int, int] | None:
    """(idle, all) since the system started, over all processors."""
    with contextlib.suppress(OSError, ValueError):
        name, *counts = statistics.read_text().partition("\n")[0].split()
        ticks = [int(count) for count in counts[:8]]  # those of guests are counted twice
        return (sum(ticks[IDLE]), sum(ticks)) if name == "cpu" else None
    return None
