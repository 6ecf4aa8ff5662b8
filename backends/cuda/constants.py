"""Everything a plan knows in advance: weights, packed weights, tables; in one piece of the device's memory."""

from __future__ import annotations

import hashlib

import numpy as np

from .device import Device, Memory
from .kernel import Table

ALIGNMENT = 256


class Constants:
    """Gives tables a place, equal bytes once, and brings them to a device."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._contents: dict[int, np.ndarray] = {}
        self._places: dict[bytes, int] = {}

    def add(self, table: Table) -> int:
        """The place of a table, in bytes from the start."""
        content = np.zeros(table.shape, table.dtype)
        table.write(content)
        flat = content.reshape(-1).view(np.uint8)
        place = self._places.setdefault(hashlib.sha256(flat.data).digest() + str(flat.size).encode(), self.nbytes)
        if place == self.nbytes and flat.size:
            self._contents[place] = flat
            self.nbytes += -(-flat.size // ALIGNMENT) * ALIGNMENT
        return place

    def upload(self, device: Device) -> Memory:
        """All of it, on the device; the copies here go."""
        memory = device.allocate(self.nbytes, "the constants")
        stream = device.stream()
        for place, content in self._contents.items():
            stream.upload(memory, place, content)
        stream.synchronise()
        self._contents.clear()
        return memory
