"""The machine that rules choose algorithms for: what cores share, and what they do not.

It is the same for any number of threads, and the batch does not enter: an image must give the same bits alone and among others.
"""

from __future__ import annotations

import math

FLOPS = 110e9
"""Operations a second that a core's products reach."""
CORES, BANDWIDTH = 2, 40e9
"""Cores that share the memory from which all weights stream, and its bytes a second."""


def core_and_stream(seconds: float, weights: int) -> float:
    """Seconds of work that the cores share while so many weights stream in: each hides a part of the other."""
    return math.hypot(seconds / CORES, 4 * weights / BANDWIDTH)
