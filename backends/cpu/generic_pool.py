"""Pools of any dtype over plain values, and the positions of their maxima: what the vector kernels decline."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ...engine.ops import ArgMaxPool, AveragePool, MaxPool
from ...engine.ops.pool import Pool, lowest
from .generic import SECONDS_PER_TAP, WINDOW, combined, reads, window_arguments
from .kernel import Argument, Call, Machine, NoKernel, Table, grain_for, lowers
from .numba_kernel import Array, NumbaKernel


@dc.dataclass(frozen=True)
class _PoolKernel(NumbaKernel):
    """Units are planes: pairs of image and channel."""

    parameters: ClassVar[tuple[str, ...]] = ("x*", "y*", "plane", *WINDOW)
    dtype: np.dtype

    @property
    def dtypes(self) -> dict[str, Any]:
        """See NumbaKernel."""
        tables = dict.fromkeys((p[:-1] for p in self.parameters), np.dtype(np.int64))
        return {**tables, "x": self.dtype, "y": self.dtype}


@dc.dataclass(frozen=True)
class AnyMaxPoolKernel(_PoolKernel):
    """y[plane, o] = max over taps r of x[plane, read(o, r)]; a NaN in the window is its maximum."""

    def body(self) -> Callable[..., None]:
        """See NumbaKernel."""
        start = self.dtype.type(lowest(self.dtype))

        def pool(
            begin: int, end: int, thread: int, x: Array, y: Array, plane: int, outer: Array, inner: Array, rows: int, columns: int,
            outer_taps: int, inner_taps: int,
        ) -> None:  # fmt: skip
            for unit in range(begin, end):
                for row in range(rows):
                    for column in range(columns):
                        best = start
                        for r in range(outer_taps):
                            above = outer[row * outer_taps + r]
                            for s in range(inner_taps if above >= 0 else 0):
                                read = inner[column * inner_taps + s]
                                if read >= 0:
                                    value = x[unit * plane + above + read]
                                    best = value if value > best or value != value else best
                        y[(unit * rows + row) * columns + column] = best

        return pool


@dc.dataclass(frozen=True)
class AnyAveragePoolKernel(_PoolKernel):
    """y[plane, o] = sum over taps r of x[plane, read(o, r)], divided by row_counts * column_counts at o."""

    parameters: ClassVar[tuple[str, ...]] = (*_PoolKernel.parameters, "row_counts*", "column_counts*")

    def body(self) -> Callable[..., None]:
        """See NumbaKernel."""

        def pool(
            begin: int, end: int, thread: int, x: Array, y: Array, plane: int, outer: Array, inner: Array, rows: int, columns: int,
            outer_taps: int, inner_taps: int, row_counts: Array, column_counts: Array,
        ) -> None:  # fmt: skip
            for unit in range(begin, end):
                for row in range(rows):
                    for column in range(columns):
                        total = 0.0
                        for r in range(outer_taps):
                            above = outer[row * outer_taps + r]
                            for s in range(inner_taps if above >= 0 else 0):
                                read = inner[column * inner_taps + s]
                                if read >= 0:
                                    total += x[unit * plane + above + read]
                        y[(unit * rows + row) * columns + column] = total / (row_counts[row] * column_counts[column])

        return pool


@dc.dataclass(frozen=True)
class ArgMaxPoolKernel(_PoolKernel):
    """y[plane, o] = the position of the first maximum over taps r of x[plane, read(o, r)]; -1 where all taps lie outside.

    Positions are numbered by `row_numbers` and `column_numbers`, which have the form of `outer` and `inner`.
    """

    parameters: ClassVar[tuple[str, ...]] = (*_PoolKernel.parameters, "row_numbers*", "column_numbers*")

    @property
    def dtypes(self) -> dict[str, Any]:
        """See NumbaKernel."""
        return {**super().dtypes, "y": np.dtype(np.int64)}

    def body(self) -> Callable[..., None]:
        """See NumbaKernel."""

        def pool(
            begin: int, end: int, thread: int, x: Array, y: Array, plane: int, outer: Array, inner: Array, rows: int, columns: int,
            outer_taps: int, inner_taps: int, row_numbers: Array, column_numbers: Array,
        ) -> None:  # fmt: skip
            for unit in range(begin, end):
                for row in range(rows):
                    for column in range(columns):
                        at, found = -1, -1
                        for r in range(outer_taps):
                            above = outer[row * outer_taps + r]
                            for s in range(inner_taps if above >= 0 else 0):
                                read = inner[column * inner_taps + s]
                                if read >= 0 and (at < 0 or x[unit * plane + above + read] > x[at]):
                                    at = unit * plane + above + read
                                    found = row_numbers[row * outer_taps + r] + column_numbers[column * inner_taps + s]
                        y[(unit * rows + row) * columns + column] = unit * plane + found if at >= 0 else -1

        return pool


@lowers(MaxPool, AveragePool, ArgMaxPool)
def lower_any_pool(node: MaxPool | AveragePool | ArgMaxPool, machine: Machine) -> list[Call]:
    """One call."""
    if node.x.type.layout or node.type.layout:
        raise NoKernel("the generic pool takes plain values")
    spatial = node.x.type.shape[2:]
    tables = [reads(_positions(node, axis), size, math.prod(spatial[axis + 1 :])) for axis, size in enumerate(spatial)]
    units = math.prod(node.type.shape[:2])
    arguments: dict[str, Argument] = {"x": node.x, "y": node, "plane": math.prod(spatial), **window_arguments(tables)}
    dtype = node.x.type.dtype
    match node:
        case MaxPool():
            kernel: NumbaKernel = AnyMaxPoolKernel(dtype)
        case AveragePool():
            kernel, arguments = AnyAveragePoolKernel(dtype), arguments | _counts(node)
        case ArgMaxPool():
            kernel, arguments = ArgMaxPoolKernel(dtype), arguments | _numbers(node)
    return [Call(kernel, arguments, units, grain_for(units, node.flops() * SECONDS_PER_TAP, machine.threads))]


def _positions(node: Pool, axis: int) -> np.ndarray:
    """For each output and tap of an axis the position in x."""
    out, tap = np.arange(node.type.shape[2 + axis])[:, None], np.arange(node.kernel[axis])[None, :]
    return out * node.strides[axis] + tap * node.dilations[axis] - node.pads[axis][0]


def _counts(node: AveragePool) -> dict[str, Argument]:
    """How many positions count, as a product of one number a row and one a column."""
    *outer, inner = (node.counts(axis).astype(np.int64) for axis in range(len(node.kernel)))
    rows = np.ones(1, np.int64)
    for counts in outer:
        rows = np.outer(rows, counts).ravel()
    return {"row_counts": Table(rows), "column_counts": Table(inner)}


def _numbers(node: ArgMaxPool) -> dict[str, Argument]:
    """What each tap adds to the number of a position."""
    spatial = node.x.type.shape[2:]
    before = [math.prod(spatial[:axis] if node.column_major else spatial[axis + 1 :]) for axis in range(len(spatial))]
    *outer, inner = (reads(_positions(node, axis), size, before[axis]) for axis, size in enumerate(spatial))
    tables = {"row_numbers": combined(outer), "column_numbers": inner}
    return {name: Table(np.ascontiguousarray(table, np.int64)) for name, table in tables.items()}
