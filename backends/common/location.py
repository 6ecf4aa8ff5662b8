"""How the code of a plan names a place in memory: one of the addresses of a run, and the bytes from it."""

from __future__ import annotations

from typing import NamedTuple

ARENA, CONSTANTS, SCRATCH, FIRST_INPUT = range(4)
"""Where the addresses of a run stand in its list; the other inputs and the outputs follow the first input."""


class Location(NamedTuple):
    """A base of the run and the bytes from it."""

    base: int
    offset: int
