"""Conv and ConvTranspose as tiled products: one step, or one for all phases of a transposed convolution that are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...engine.graph import Constant
from ...engine.ops import Conv, ConvTranspose
from ...engine.tensor import TensorType
from ..common.geometry import adjoint_weight
from ..common.space import Dimension
from .elements import is_channels_last, strides_of, unit
from .gemm_call import Operands, Positions, product_call, product_for
from .gemm_tile import Columns, Gather, Walk
from .kernel import Call, Machine, NoKernel, lowers
from .pack import pack_weight, packed_depth
from .phase_stacks import Run, in_one, stacks_of, weights_of

LEAST_COLUMNS = 32
"""Groups are merged until they have so many output channels: no tile is narrower."""

MOST_STACKS = 16
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
    stacks = stacks_of(node)
    if len(stacks) > MOST_STACKS:
        raise NoKernel(f"more than {MOST_STACKS} kinds of phases")
    dense = weight.data if isinstance(node, Conv) else adjoint_weight(weight.data, node.groups)
    return [_stack(node, machine, product, dense, runs) for runs in stacks]


def _stack(node: Conv | ConvTranspose, machine: Machine, product: str, dense: np.ndarray, runs: Sequence[Run]) -> Call:
    x, y, (k, c) = node.x.type, node.type, dense.shape[:2]
    merged = merged_groups(node.groups, c, k // node.groups, unit(x.dtype))
    is_dense = merged == node.groups
    channels = -(-x.shape[1] // unit(x.dtype)) * unit(x.dtype) if is_dense else merged * c
    stored = y.physical_shape[-1] if is_dense else merged * (k // node.groups)
    behind = [node.groups // merged * math.prod(run.count for run in runs[i + 1 :]) for i in range(len(runs))]
    left = gather(x, runs, channels, behind)
    depth = packed_depth(left.depth, product)
    right = Columns(merged * (k // node.groups), depth, depth)
    weights = in_one([pack_weight(weight, node.groups, merged, channels, product) for weight in weights_of(dense, runs)])
    phases = [Dimension(run.count, (0, n * right.columns * depth)) for run, n in zip(runs, behind, strict=True)]
    groups = [] if is_dense else [Dimension(node.groups // merged, (channels, right.columns * depth))]
    spatial = range(2, y.rank)
    at = Positions(
        node,
        extents=(y.shape[0], *(run.first.count for run in runs)),
        dimensions=(0, *spatial),
        first=(0, *(run.first.first for run in runs)),
        spacing=(1, *(run.first.spacing for run in runs)),
        batch=(*phases, *groups),
        batch_dimensions=(*spatial, *(-1 for _ in groups)),
        columns=right.columns,
    )
    return product_call(node, machine, product, Operands(node.x, weights, left, right), at, stored)


def merged_groups(groups: int, channels: int, outputs: int, unit: int) -> int:
    """How many groups become one: as few as fill chunks and a tile's width, else all of them."""
    for merged in range(1, groups):
        fits = merged * channels % unit == 0 and merged * outputs % unit == 0
        if groups % merged == 0 and fits and merged * outputs >= LEAST_COLUMNS:
            return merged
    return groups


def gather(x: TensorType, runs: Sequence[Run], channels: int, behind: Sequence[int]) -> Gather:
    """The left operand of a stack; positions that lie as in x count as images. `behind`: see Walk."""
    image, _, *strides = strides_of(x)
    if all(run.first.reads_in_order and run.moved == 0 for run in runs):
        return Gather(x.shape[0] * math.prod(x.shape[2:]), strides[-1], (), channels)
    return Gather(x.shape[0], image, tuple(map(walk, runs, strides, behind)), channels)


def walk(run: Run, stride: int, behind: int) -> Walk:
    """The taps of an axis are evenly spaced, also those of a phase."""
    axis = run.first
    offsets = [tap.offset for tap in axis.taps] or [0]
    spacing = offsets[1] - offsets[0] if len(offsets) > 1 else 0
    assert offsets == [offsets[0] + i * spacing for i in range(len(offsets))], offsets
    return Walk(axis.size, axis.count, axis.step, len(axis.taps), offsets[0], spacing, stride, run.count, run.moved, behind)
