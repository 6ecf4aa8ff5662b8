"""What the lowerings of every generating backend speak in: constant tables, addresses, and the answer "no kernel"."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Table:
    """Constant data that a kernel reads: packed weights, offsets. Equal bytes are stored once."""

    def __init__(self, data: np.ndarray) -> None:
        self._data, self.shape, self.dtype = data, data.shape, data.dtype

    @property
    def data(self) -> np.ndarray:
        """The whole array."""
        return self._data

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def write(self, target: np.ndarray) -> None:
        """Fill an array of zeros of this shape and dtype."""
        target[...] = self._data


class LateTable(Table):
    """A table that is written where it belongs, without a copy of its own: `fill` is given zeros of the shape and dtype."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, fill: Callable[[np.ndarray], None]) -> None:
        self.shape, self.dtype, self._fill = shape, dtype, fill

    @property
    def data(self) -> np.ndarray:
        filled = np.zeros(self.shape, self.dtype)
        self._fill(filled)
        return filled

    def write(self, target: np.ndarray) -> None:
        self._fill(target)


@dc.dataclass(frozen=True)
class Address:
    """Somewhere inside a value, a table or scratch memory, in bytes from its start."""

    place: Any
    offset: int = 0


def by_module(modules: Sequence[str]) -> Callable[[Callable[..., Any]], int]:
    """A sort key: functions in the order in which a backend names their modules, whoever was imported first; others at the end."""
    places = {name: place for place, name in enumerate(modules)}
    return lambda function: places.get(function.__module__.rpartition(".")[2], len(places))


class NoKernel(Exception):  # noqa: N818 - an answer, not an error
    """A lowering declines a node; the message is the reason that the plan shows when nobody else takes it."""
