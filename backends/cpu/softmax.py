"""Softmax: which kernel serves which axis and layout."""

from __future__ import annotations

import math

import numpy as np

from ...engine.ops import Softmax
from .kernel import Call, Kernel, Machine, NoKernel, grain_for, lowers
from .softmax_kernels import PAIR, SoftmaxColumnsKernel, SoftmaxRowsKernel, SoftmaxShortKernel
from .space import UNIT_SECONDS, Dimension, collapse, dimensions, physical_strides, walk_arguments

SECONDS_PER_VECTOR = 1e-8
F16 = np.dtype(np.float16)


@lowers(Softmax)
def lower_softmax(node: Softmax, machine: Machine) -> list[Call]:
    """One call, of the family that fits the axis."""
    kind = node.type
    if node.x.type.layout != kind.layout or kind.dtype == F16:
        raise NoKernel(f"expected float32 or float64 and one layout, got {node.x.type} and {kind}")
    shape, strides = kind.physical_shape, physical_strides(kind)
    everything = dimensions(shape, strides, strides)
    outer, axis, inner = everything[: node.axis], everything[node.axis], everything[node.axis + 1 :]
    lanes = machine.target.lanes(kind.dtype)
    if kind.layout is not None and kind.layout.axis == node.axis:
        if axis.extent == 1:
            return [_short(node, kind.layout.block, True, machine)]
        return [_rows(node, [*outer, *inner[:-1]], axis.strides[0], kind.layout.block, True, machine)]
    if math.prod(d.extent for d in inner) > 1:
        return [_columns(node, outer, axis, collapse(inner)[0], machine)]
    if axis.extent > lanes:
        return [_rows(node, outer, lanes * kind.dtype.itemsize, lanes, False, machine)]
    return [_short(node, lanes, False, machine)]


def _short(node: Softmax, lanes: int, spread: bool, machine: Machine) -> Call:
    extent = node.type.shape[node.axis]
    kernel = SoftmaxShortKernel(node.type.dtype, node.log, extent, lanes, spread)
    columns = math.prod(node.type.physical_shape) // lanes if spread else node.type.size
    vectors = max(1, round(UNIT_SECONDS / SECONDS_PER_VECTOR))
    tile = vectors * kernel.rows * (1 if spread else extent)
    return _call(node, kernel, [], {"columns": columns, "column_tile": tile}, vectors, -(-columns // tile), machine)


def _rows(node: Softmax, kept: list[Dimension], stride: int, lanes: int, padding: bool, machine: Machine) -> Call:
    extent = node.type.shape[node.axis]
    kernel = SoftmaxRowsKernel(node.type.dtype, node.log, lanes, padding)
    numbers = {"whole": extent // lanes, "end": -(-extent // lanes), "rest": extent % lanes, "stride": stride}
    return _call(node, kernel, collapse(kept), numbers, -(-extent // lanes), 1, machine)


def _columns(node: Softmax, outer: list[Dimension], axis: Dimension, columns: Dimension, machine: Machine) -> Call:
    dtype, lanes = node.type.dtype, machine.target.lanes(node.type.dtype)
    vectors = max(1, round(UNIT_SECONDS / SECONDS_PER_VECTOR / axis.extent / 2)) * 2
    tile = min(columns.extent, vectors * lanes)
    numbers = {"columns": columns.extent, "column_tile": tile, "extent": axis.extent, "stride": axis.strides[0]}
    work = axis.extent * -(-tile // lanes)
    return _call(node, SoftmaxColumnsKernel(dtype, node.log), collapse(outer), numbers, work, -(-columns.extent // tile), machine)


def _call(
    node: Softmax, kernel: Kernel, kept: list[Dimension], numbers: dict[str, int], vectors: int, inner_tiles: int, machine: Machine
) -> Call:
    """vectors: how many one row of a tile has."""
    seconds = vectors * SECONDS_PER_VECTOR
    walked, units = walk_arguments(PAIR, kept, seconds, inner_tiles)
    total = seconds * inner_tiles * math.prod(d.extent for d in kept)
    return Call(kernel, {"x": node.x, "y": node} | walked | numbers, units, grain_for(units, total, machine.threads))
