"""Zeroed memory for the values of one run: aligned, private to the process, on large pages where the system has them."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np

from ...engine.errors import MachineError
from ...engine.memory import ALIGNMENT

LARGE_PAGE = 2 << 20


class Arena:
    """`nbytes` of memory, aligned to 64 bytes, from 2 MiB on to 2 MiB; given back when it and all its views are collected."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        alignment = LARGE_PAGE if nbytes >= LARGE_PAGE else ALIGNMENT
        room = max(1, nbytes + (alignment if alignment > mmap.PAGESIZE else 0))
        try:
            # The default, MAP_SHARED, gets no large pages and would let a forked child write into its parent's memory.
            memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise MachineError(f"expected {nbytes / (1 << 20):,.1f} MiB of memory for an arena, the system gave none: {error}") from error
        if nbytes >= LARGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        content = np.frombuffer(memory, np.uint8)
        start = -content.ctypes.data % alignment
        self._bytes = content[start : start + nbytes]
        self.address: int = self._bytes.ctypes.data
        """Where it starts."""

    def view(self, offset: int, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
        """An array in this memory, `offset` bytes from its start; it keeps the memory alive."""
        return np.ndarray(shape, dtype, self._bytes, offset)
