"""Conv and ConvTranspose as tiled products: one step, or one for each phase of a transposed convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...engine.graph import Constant
from ...engine.ops import Conv, ConvTranspose
from ...engine.tensor import Blocked, TensorType
from ..common.geometry import Axis, adjoint_weight, phases
from ..common.space import Dimension
from .elements import strides_of
from .gemm_call import Operands, Positions, product_call, product_for, unit
from .gemm_tile import Columns, Gather, Walk
from .kernel import Call, Machine, NoKernel, lowers
from .pack import pack_weight, packed_depth

LEAST_COLUMNS = 32
"""Groups are merged until they have so many output channels: no tile is narrower."""


MOST_PHASES = 16
"""Steps of one transposed convolution; beyond them the direct kernel, which computes all phases at once, is worth its slower products."""


@lowers(Conv, ConvTranspose)
def lower_convolution(node: Conv | ConvTranspose, machine: Machine) -> list[Call]:
    """Channels-last input, constant weight, channels-last result."""
    product, weight = product_for(node, machine), node.weight
    if not isinstance(weight, Constant):
        raise NoKernel("the weight must be constant")
    for kind in (node.x.type, node.type):
        if not is_channels_last(kind):
            raise NoKernel(f"{kind} is not channels-last in whole chunks of 16 bytes")
    if node.groups > 1 and node.groups == node.x.type.shape[1]:
        raise NoKernel("a depthwise convolution")
    if len(phases(node)) > MOST_PHASES:
        raise NoKernel(f"more than {MOST_PHASES} phases")
    dense = weight.data if isinstance(node, Conv) else adjoint_weight(weight.data, node.groups)
    return [_phase(node, machine, product, taps_of(dense, axes), axes) for axes in phases(node)]


def _phase(node: Conv | ConvTranspose, machine: Machine, product: str, weight: np.ndarray, axes: Sequence[Axis]) -> Call:
    x, y = node.x.type, node.type
    k, c = weight.shape[:2]
    merged = merged_groups(node.groups, c, k // node.groups, unit(x.dtype))
    is_dense = merged == node.groups
    channels = -(-x.shape[1] // unit(x.dtype)) * unit(x.dtype) if is_dense else merged * c
    stored = y.physical_shape[-1] if is_dense else merged * (k // node.groups)
    left = gather(x, axes, channels)
    depth = packed_depth(left.depth, product)
    right = Columns(merged * (k // node.groups), depth, depth)
    weights = pack_weight(weight, node.groups, merged, channels, product)
    spatial = range(2, y.rank)
    at = Positions(
        node,
        extents=(y.shape[0], *(axis.count for axis in axes)),
        dimensions=(0, *spatial),
        first=(0, *(axis.first for axis in axes)),
        spacing=(1, *(axis.spacing for axis in axes)),
        batch=() if is_dense else (Dimension(node.groups // merged, (channels, right.columns * depth)),),
        batch_dimensions=() if is_dense else (-1,),
        columns=right.columns,
    )
    return product_call(node, machine, product, Operands(node.x, weights, left, right), at, stored)


def is_channels_last(kind: TensorType) -> bool:
    """Whether all channels of a position follow each other, padded to whole chunks."""
    layout = kind.layout
    return isinstance(layout, Blocked) and layout.axis == 1 and layout.block >= kind.shape[1] and layout.block % unit(kind.dtype) == 0


def merged_groups(groups: int, channels: int, outputs: int, unit: int) -> int:
    """How many groups become one: as few as fill chunks and a tile's width, else all of them."""
    for merged in range(1, groups):
        fits = merged * channels % unit == 0 and merged * outputs % unit == 0
        if groups % merged == 0 and fits and merged * outputs >= LEAST_COLUMNS:
            return merged
    return groups


def taps_of(weight: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """The weight with the kernel taps of a phase only."""
    for position, axis in enumerate(axes, start=2):
        indices = [tap.index for tap in axis.taps]
        weight = weight if indices == [*range(weight.shape[position])] else weight.take(indices, position)
    return weight


def gather(x: TensorType, axes: Sequence[Axis], channels: int) -> Gather:
    """The left operand of a phase; positions that lie as in x count as images."""
    image, _, *strides = strides_of(x)
    if all(axis.is_pointwise for axis in axes):
        return Gather(x.shape[0] * math.prod(x.shape[2:]), strides[-1], (), channels)
    return Gather(x.shape[0], image, tuple(map(walk, axes, strides)), channels)


def walk(axis: Axis, stride: int) -> Walk:
    """The taps of an axis are evenly spaced, also those of a phase."""
    offsets = [tap.offset for tap in axis.taps] or [0]
    spacing = offsets[1] - offsets[0] if len(offsets) > 1 else 0
    assert offsets == [offsets[0] + i * spacing for i in range(len(offsets))], offsets
    return Walk(axis.size, axis.count, axis.step, len(axis.taps), offsets[0], spacing, stride)
