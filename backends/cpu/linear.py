"""Constant matrices times grids of vectors, with as few operations as their signs allow."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable

import numpy as np

from .emit import Emitter, Value

Put = Callable[[Value | int, Value | int, Value], None]
"""Does something with (row, column, value)."""


@dc.dataclass(frozen=True)
class Grid:
    """Vectors in rows and columns, and the bytes from one to the next."""

    start: Value
    row: Value | int
    column: Value | int

    @property
    def turned(self) -> Grid:
        """Its columns as rows."""
        return Grid(self.start, self.column, self.row)

    def offset(self, k: Emitter, row: Value | int, column: Value | int) -> Value | int:
        """Bytes from the start to an entry."""
        return k.add(k.mul(self.row, row), k.mul(self.column, column))

    def putter(self, k: Emitter) -> Put:
        """What stores an entry."""
        return lambda row, column, value: k.store(value, self.start, self.offset(k, row, column))


def linear(k: Emitter, matrix: np.ndarray, values: list[Value]) -> list[Value]:
    """matrix · values; rows that differ only in the signs of some columns share the sums of their even and odd parts."""
    rows: dict[int, Value] = {}
    for i in range(len(matrix)):
        for j in range(i + 1, len(matrix)):
            if i in rows or j in rows or not np.array_equal(np.abs(matrix[i]), np.abs(matrix[j])):
                continue
            even = weighted_sum(k, np.where(matrix[i] == matrix[j], matrix[i], 0), values)
            odd = weighted_sum(k, np.where(matrix[i] == matrix[j], 0, matrix[i]), values)
            if even is not None and odd is not None:
                rows[i], rows[j] = k.b.fadd(even, odd), k.b.fsub(even, odd)
    for i in range(len(matrix)):
        if i not in rows:
            rows[i] = weighted_sum(k, matrix[i], values) or k.splat(0.0, values[0].type)
    return [rows[i] for i in range(len(matrix))]


def weighted_sum(k: Emitter, weights: np.ndarray, values: list[Value]) -> Value | None:
    """The sum of weight · value over the weights that are not zero; None where all are."""
    total = None
    order = sorted(np.flatnonzero(weights), key=lambda j: abs(weights[j]) != 1)
    for j in order:
        weight, value = float(weights[j]), values[j]
        if total is None:
            total = value if weight == 1 else k.b.fmul(value, k.splat(weight, value.type))
        elif abs(weight) == 1:
            total = k.b.fadd(total, value) if weight == 1 else k.b.fsub(total, value)
        else:
            total = k.fma(value, k.splat(weight, value.type), total)
    return total
