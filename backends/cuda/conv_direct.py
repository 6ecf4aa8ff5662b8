"""Conv and ConvTranspose of any kind as one kernel: what no faster family takes."""

from __future__ import annotations

import math

import numpy as np

from ...engine.graph import Constant
from ...engine.ops import Conv, ConvTranspose
from ..common.geometry import adjoint_weight
from .conv_direct_kernel import DirectConvKernel
from .conv_direct_tile import Tile, choose_tile
from .elements import check_size
from .epilogue import Epilogue, sum_dtype
from .kernel import Argument, Call, Machine, NoKernel, Table, lowers
from .phases import phased_axes


@lowers(Conv, ConvTranspose)
def lower_direct(node: Conv | ConvTranspose, machine: Machine) -> list[Call]:
    """One kernel."""
    x, epilogue = node.x.type, Epilogue.of(node)
    check_size(x, node.weight.type, node.type)
    if any(kind.layout and kind.layout.axis != 1 for kind in (x, node.type)):
        raise NoKernel("a layout that is neither plain nor has channels last")
    channels, outputs = x.shape[1] // node.groups, node.type.shape[1] // node.groups
    rows = epilogue.stored if node.groups == 1 and node.type.layout else outputs
    axes = phased_axes(node)
    columns = x.shape[0] * math.prod(axis.count for axis in axes)
    copies = node.groups * math.prod(axis.phases for axis in axes)
    tile = choose_tile(rows, columns, copies, sum_dtype(x.dtype).itemsize, machine.architecture)
    weight, strides = _weight(node, rows, tile)
    is_packed = isinstance(weight, Table)
    kernel = DirectConvKernel(x, axes, node.groups, channels, rows, strides, is_packed, tile, epilogue)
    return [Call(kernel, {"x": node.x, "weight": weight, **epilogue.arguments(node)})]


def _weight(node: Conv | ConvTranspose, rows: int, tile: Tile) -> tuple[Argument, tuple[int, int, int, int]]:
    """Where the weight is, and from one group, output channel, input channel, tap to the next."""
    taps, groups = math.prod(node.kernel), node.groups
    channels, outputs = node.x.type.shape[1] // groups, node.type.shape[1] // groups
    if node.weight.type.layout:
        raise NoKernel(f"a weight {node.weight.type} that is not plain")
    if isinstance(node.weight, Constant):
        padded = -(-rows // tile.rows) * tile.rows
        dense = node.weight.data if isinstance(node, Conv) else adjoint_weight(node.weight.data, groups)
        return Table(pack_direct(dense, groups, padded)), (taps * channels * padded, 1, padded, channels * padded)
    if isinstance(node, Conv):
        return node.weight, (outputs * channels * taps, channels * taps, taps, 1)
    return node.weight, (channels * outputs * taps, taps, outputs * taps, 1)


def pack_direct(weight: np.ndarray, groups: int, rows: int) -> np.ndarray:
    """(groups*k, c, *kernel) as (groups, taps, c, rows), zero behind the last row."""
    k, c = weight.shape[0] // groups, weight.shape[1]
    dense = weight.reshape(groups, k, c, -1).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(np.pad(dense, ((0, 0), (0, 0), (0, 0), (0, rows - k))))
