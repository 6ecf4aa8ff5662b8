"""Conv and ConvTranspose as steps of the direct kernel."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from ...engine.ops import Conv, ConvTranspose
from ..common.geometry import adjoint_weight, phases
from ..common.problem import ConvProblem
from ..common.schedule import Tile, TileProblem, best_tiles, choose_tile, even_tile, even_tiles
from .conv_direct import DepthwiseConvKernel
from .kernel import Call, Machine, NoKernel, lowers
from .pack import Slab, pack, pack_depthwise, padded_bias
from .product import F4, Map, Product, call, constant_weight

TILES_TO_MEASURE = 12


@lowers(Conv)
def lower_depthwise(node: Conv, machine: Machine) -> list[Call]:
    """One step where every output channel reads one input channel."""
    weight, lanes = constant_weight(node, node.weight, node.bias, machine), machine.target.lanes(F4)
    if weight.shape[:2] != (node.groups, 1) or node.x.type.layout != node.type.layout:
        raise NoKernel("not a depthwise convolution of a blocked value")
    [axes] = phases(node)
    bias = padded_bias(node.bias, node.type.shape[1], lanes)
    x_map, y_map = Map.of(node.x.type), Map.of(node.type)
    depth = math.prod(weight.shape[2:])
    product = Product(
        node,
        node.x,
        axes,
        x_map,
        y_map,
        node.type.shape[0],
        node.x.type.shape[1],
        bias,
        node.extras,
        node.epilogue,
        depth,
        DepthwiseConvKernel,
    )
    slabs = [Slab(range(b, b + 1), range(b, b + 1)) for b in range(-(-node.type.shape[1] // lanes))]
    tile = asked_tile(node, TileProblem(product.row, 1, depth, machine.target.registers), machine, even_tile, even_tiles)
    return [call(product, machine, tile, slabs, lambda slabs: pack_depthwise(weight, slabs, lanes))]


@lowers(Conv, ConvTranspose)
def lower_convolution(node: Conv | ConvTranspose, machine: Machine) -> list[Call]:
    """One step a phase, and one more for the channel vectors that the tile's width leaves over."""
    weight = constant_weight(node, node.weight, node.bias, machine)
    dense = weight if isinstance(node, Conv) else adjoint_weight(weight, node.groups)
    lanes = machine.target.lanes(F4)
    bias = padded_bias(node.bias, node.type.shape[1], lanes)
    x_map, y_map = Map.of(node.x.type), Map.of(node.type)
    calls = []
    for axes in phases(node):
        taps = dense
        for position, axis in enumerate(axes, start=2):
            indices = [tap.index for tap in axis.taps]
            taps = taps if indices == [*range(dense.shape[position])] else taps.take(indices, position)
        depth = max(1, math.prod(taps.shape[1:]))
        product = Product(
            node, node.x, axes, x_map, y_map, node.type.shape[0], node.x.type.shape[1], bias, node.extras, node.epilogue, depth
        )
        parts = output_vectors(dense.shape[0], node.groups, lanes)
        tile = asked_tile(node, TileProblem(product.row, len(parts[0]), depth, machine.target.registers, product.is_flat), machine)
        for vectors in split_by_tile(parts, tile.vectors):
            slabs = input_blocks(vectors, taps.shape, node.groups, lanes, x_map.channels)
            packing = functools.partial(
                pack, taps, node.groups, lanes=lanes, channels=x_map.channels, columns_outside=product.columns_outside
            )
            calls.append(call(product, machine, Tile(tile.pixels, len(vectors[0])), slabs, packing))
    return calls


def asked_tile(
    node: Conv | ConvTranspose,
    problem: TileProblem,
    machine: Machine,
    rule: Callable[[TileProblem], Tile] = choose_tile,
    best: Callable[[TileProblem, int], list[Tile]] = best_tiles,
) -> Tile:
    """The tile for a phase. It decides in which order outputs are computed, never in which order one of them is summed up."""
    question = ConvProblem.of(node), problem
    return machine.schedules.choose(question, lambda: rule(problem), lambda: best(problem, TILES_TO_MEASURE))


def output_vectors(channels: int, groups: int, lanes: int) -> list[range]:
    """The output channel vectors, cut where the input changes: by convolution group, or singly where groups share a vector."""
    total = -(-channels // lanes)
    if groups == 1:
        return [range(total)]
    each = channels // groups // lanes if channels // groups % lanes == 0 else 1
    return [range(start, start + each) for start in range(0, total, each)]


def split_by_tile(parts: list[range], width: int) -> list[list[range]]:
    """The parts cut to the tile's width, and apart from them the narrower rests; empty lists left out."""
    full = [range(start, start + width) for part in parts for start in range(part.start, part.stop - width + 1, width)]
    rest = [range(part.stop - len(part) % width, part.stop) for part in parts if len(part) % width]
    return [vectors for vectors in (full, rest) if vectors]


def input_blocks(vectors: list[range], weight_shape: tuple[int, ...], groups: int, lanes: int, block: int) -> list[Slab]:
    """For each group of output vectors the input channel blocks that it reads: as many for all, shifted inward at the end."""
    per_group, channels = weight_shape[0] // groups, weight_shape[1]
    found = []
    for part in vectors:
        first = part[0] * lanes // per_group
        last = min((part[-1] + 1) * lanes, weight_shape[0]) - 1
        found.append((first * channels // block, -(-(last // per_group + 1) * channels // block)))
    longest = max(stop - start for start, stop in found)
    total = -(-channels * groups // block)
    starts = [min(start, total - longest) for start, _ in found]
    return [Slab(part, range(start, start + longest)) for part, start in zip(vectors, starts, strict=True)]
