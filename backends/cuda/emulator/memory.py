"""Memory of the fake device: each piece lies between pages without access, and what was never written reads as NaN."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections.abc import Sequence

import numpy as np

from ....engine.errors import MachineError

ALIGNMENT = 16
"""A piece ends so close to the page behind it; what is between them is checked."""
POISON, CANARY = 0xFF, 0xC5
_pieces: weakref.WeakSet[GuardedMemory] = weakref.WeakSet()


class GuardedMemory:
    """`nbytes` bytes of poison, addressed like memory of a device."""

    def __init__(self, nbytes: int, name: str = "memory") -> None:
        self.name, self.nbytes = name, nbytes
        page = mmap.PAGESIZE
        room = max(1, -(-nbytes // page)) * page
        self._map = mmap.mmap(-1, room + 2 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        everything = np.frombuffer(self._map, np.uint8)
        self._first = everything.ctypes.data
        self._end = self._first + room + 2 * page
        start = page + room - -(-nbytes // ALIGNMENT) * ALIGNMENT
        self.bytes = everything[start : start + nbytes]
        self._around = everything[page:start], everything[start + nbytes : page + room]
        for part in self._around:
            part[:] = CANARY
        self.bytes[:] = POISON
        for place in (self._first, self._end - page):
            _protect(place, page)
        _pieces.add(self)

    @property
    def address(self) -> int:
        """Where it starts."""
        return self.bytes.ctypes.data if self.nbytes else self._end - mmap.PAGESIZE

    def is_intact(self) -> bool:
        """Whether nobody wrote around it."""
        return all(bool((part == CANARY).all()) for part in self._around)

    def holds(self, address: int) -> bool:
        """Whether an address is in it, or in the pages around it."""
        return self._first <= address < self._end

    def where(self, address: int) -> str:
        """An address near it, in words."""
        offset = address - self.address
        if offset < 0:
            return f"{-offset} bytes in front of {self.name}"
        return f"{offset - self.nbytes} bytes behind {self.name}" if offset >= self.nbytes else f"byte {offset} of {self.name}"


def _protect(address: int, nbytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), 0):
        raise MachineError(f"mprotect: error {ctypes.get_errno()}")


def damaged(addresses: Sequence[int]) -> str:
    """The pieces at these addresses around which somebody wrote."""
    held = (piece for piece in list(_pieces) if any(map(piece.holds, addresses)))
    return " and ".join(piece.name for piece in held if not piece.is_intact())


def describe_address(address: int) -> str:
    """Which piece of memory an address belongs to, or nothing."""
    return next((f", {piece.where(address)}" for piece in list(_pieces) if piece.holds(address)), "")
