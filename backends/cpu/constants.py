"""Everything a plan knows in advance, in one block of memory: weights, packed weights, tables."""

from __future__ import annotations

import hashlib

import numpy as np

from ...engine.memory import aligned
from .arena import Arena


class Constants:
    """Assigns offsets to arrays until all are known, then copies them into memory; equal bytes are stored once."""

    def __init__(self) -> None:
        self._offsets: dict[tuple[int, bytes], int] = {}
        self._known: dict[int, tuple[np.ndarray, int]] = {}
        """By identity, with the array, which keeps its identity from being used again."""
        self.size = 0

    def add(self, data: np.ndarray) -> int:
        """The offset of the data, which must be C-contiguous; it gets one on first sight."""
        if id(data) not in self._known:
            key = data.nbytes, hashlib.blake2b(data.reshape(-1).view(np.uint8).data).digest()
            if key not in self._offsets:
                self._offsets[key] = self.size
                self.size += aligned(data.nbytes)
            self._known[id(data)] = data, self._offsets[key]
        return self._known[id(data)][1]

    def copied(self) -> Arena:
        """Memory that holds everything at its offset."""
        arena = Arena(self.size)
        for data, offset in self._known.values():
            arena.view(offset, data.dtype, data.shape)[...] = data
        return arena
