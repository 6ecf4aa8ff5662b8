"""A product of inputs with packed weights as steps of the direct kernel: tables of rows and taps, units of work.

Conv, ConvTranspose and MatMul all come down to this.
"""

from __future__ import annotations

import dataclasses as dc
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ...engine import expression as ex
from ...engine.graph import Constant, Node
from ...engine.tensor import Blocked, TensorType
from ..common.geometry import Axis, Tap, rows, segments
from ..common.schedule import TILE_OVERHEAD, Tile
from .conv_direct import DirectConvKernel, tiles_of
from .kernel import Argument, Call, Machine, NoKernel, Table, grain_for
from .pack import Packed, Slab

F4 = np.dtype(np.float32)
FLOPS_PER_SECOND = 100e9
"""What a thread roughly reaches; only for the size of units."""
UNIT_SECONDS = 4e-6
UNITS_PER_THREAD = 4
"""So many at least, where there is enough to do, for threads to share a step evenly."""
NEARLY = 1.01
"""Rows that make the busiest thread slower by this factor are as good: more of them leave more to share when one is disturbed."""
ROW_BYTES_CACHED = 250_000
"""Bytes of input in one row where the weights stay in the cache and the input passes by."""
CACHED_WEIGHTS, LARGE_INPUT = 700_000, 1_200_000
"""Bytes of weights that stay in the second-level cache while an input that does not passes by."""


@dc.dataclass(frozen=True)
class Map:
    """How positions and channels of a tensor lie in memory, in bytes."""

    spatial: tuple[int, ...]
    """From one position to the next along each spatial axis."""
    block: int
    """From one channel block to the next."""
    image: int
    channels: int
    """Channels of one block, 4 bytes apart."""

    @property
    def pixel(self) -> int:
        return self.spatial[-1]

    @staticmethod
    def of(type: TensorType) -> Map:
        """The map of an (n, c, *spatial) float32 value, blocked along c or plain."""
        channels = type.layout.block if type.layout else 1
        spatial = tuple(4 * channels * math.prod(type.shape[i + 1 :]) for i in range(2, type.rank))
        block = 4 * channels * math.prod(type.shape[2:])
        return Map(spatial, block, block * -(-type.shape[1] // channels), channels)


@dc.dataclass(frozen=True)
class Product:
    """y[image, position, vector] = epilogue(bias + sum over taps and channels of x * weight, *extras)."""

    node: Node
    x: Node
    axes: tuple[Axis, ...]
    x_map: Map
    y_map: Map
    images: int
    channels: int
    """Input channels, without padding lanes."""
    bias: Table
    extras: tuple[Node, ...]
    epilogue: ex.Expression
    depth: int
    """Multiply-adds behind one output."""
    kernel: type[DirectConvKernel] = DirectConvKernel
    members: tuple[tuple[int, int, int], ...] = ((0, 0, 0),)
    """Products of a stack that lie otherwise than one image after the other: where each begins in x, weight and y, in bytes."""

    @property
    def is_flat(self) -> bool:
        """Whether all positions form one long row."""
        return all(axis.is_pointwise for axis in self.axes)

    @property
    def row(self) -> int:
        """Outputs of one row."""
        return math.prod(axis.count for axis in self.axes) if self.is_flat else self.axes[-1].count

    @property
    def columns_outside(self) -> bool:
        return self.x_map.channels == 1


def call(product: Product, machine: Machine, tile: Tile, slabs: list[Slab], pack: Callable[[list[Slab]], Packed]) -> Call:
    """The step that computes the given groups of output vectors, all of the tile's width."""
    lanes, weights, groups = machine.target.lanes(F4), pack(slabs), len(slabs) * len(product.members)
    vector_flops = 2 * lanes * tile.vectors * product.depth
    weights_stay = groups * vector_flops * 2 < CACHED_WEIGHTS and product.x_map.image > LARGE_INPUT
    if product.is_flat:
        least = -(-product.x_map.image // ROW_BYTES_CACHED) if weights_stay else 1
        inner, row_list, pixels = flat_rows(product, tile, groups * product.images, machine.threads, least)
    else:
        (inner, row_list), pixels = spatial_rows(product), tile.pixels
    row_segments = segments(inner, pixels)
    unroll = next(u for u in (4, 2, 1) if product.x_map.channels % u == 0)
    row_table, tap_table = tables(product, row_list, weights, channel_steps(product, slabs, unroll))
    epilogue, kinds, extra_arguments = epilogue_operands(product.node, product.extras, product.epilogue, lanes)
    kernel = product.kernel(
        lanes=lanes,
        vectors=tile.vectors,
        pixel_stride=inner.step * product.x_map.pixel,
        output_stride=inner.spacing * product.y_map.pixel,
        unroll=unroll,
        weight_stride=weights.channel,
        segments=tuple(tiles_of(s, product.x_map.pixel) for s in row_segments),
        columns_outside=product.columns_outside,
        epilogue=epilogue,
        extras=kinds,
    )
    arguments = common_arguments(product, slabs, weights, lanes) | {"rows": Table(row_table), "taps": Table(tap_table)} | extra_arguments
    for i, segment in enumerate(row_segments):
        arguments |= {f"segment{i}_start": segment.start, f"segment{i}_tiles": segment.tiles}
    seconds = vector_flops * inner.count / FLOPS_PER_SECOND
    return units(Call(kernel, arguments, 0), groups, product.images, len(row_table), seconds, machine, weights_stay)


def common_arguments(product: Product, slabs: list[Slab], weights: Packed, lanes: int) -> dict[str, Argument]:
    """The arguments that do not depend on how rows are cut."""
    x, y = product.x_map, product.y_map
    groups = [
        (x_start + slab.blocks[0] * x.block, w_start + weight, y_start + slab.vectors[0] * y.block, slab.vectors[0] * lanes * 4)
        for x_start, w_start, y_start in product.members
        for slab, weight in zip(slabs, weights.groups, strict=True)
    ]
    return {
        **{"x": product.x, "weight": weights.place, "bias": product.bias, "y": product.node},
        **{"groups": Table(np.array(groups, np.int64)), "column_weights": weights.column_tap},
        **{"x_image": x.image, "y_image": y.image, "weight_image": weights.image, "y_vector": y.block},
    }


def units(step: Call, groups: int, images: int, row_count: int, row_seconds: float, machine: Machine, rows_outside: bool) -> Call:
    """The step cut into units of a few microseconds: (group, image, block of rows), groups outermost unless the weights stay cached."""
    per_unit = min(row_count, max(1, int(UNIT_SECONDS / row_seconds)))
    while per_unit > 1 and groups * images * -(-row_count // per_unit) < UNITS_PER_THREAD * machine.threads:
        per_unit = (per_unit + 1) // 2
    if rows_outside and groups > 1:
        per_unit = max(per_unit, min(8, row_count // (UNITS_PER_THREAD * machine.threads)))
    row_blocks = -(-row_count // per_unit)
    row_units = images * row_blocks
    numbers = {
        **{"group_divisor": 1 if rows_outside else row_units, "group_count": groups},
        **{"row_divisor": groups if rows_outside else 1, "row_units": row_units},
        **{"row_blocks": row_blocks, "rows_per_unit": per_unit, "row_count": row_count},
    }
    count = groups * row_units
    grain = grain_for(count, count * per_unit * row_seconds, machine.threads)
    return dc.replace(step, arguments={**step.arguments, **numbers}, units=count, grain=grain)


@dc.dataclass(frozen=True)
class RowStart:
    """Where a row reads and writes, in bytes, and which taps of its outer axes read inside the input."""

    x: int
    y: int
    taps: tuple[tuple[int, ...], ...]


def spatial_rows(product: Product) -> tuple[Axis, list[RowStart]]:
    """The innermost axis, and one row for each position of the others."""
    *outer, inner = product.axes
    found = []
    for row in rows(outer):
        reads = [j * axis.step for j, axis in zip(row.outputs, outer, strict=True)]
        writes = [axis.first + j * axis.spacing for j, axis in zip(row.outputs, outer, strict=True)]
        y = dot([*writes, inner.first], product.y_map.spatial)
        found.append(RowStart(dot(reads, product.x_map.spatial), y, row.taps))
    return inner, found


def flat_rows(product: Product, tile: Tile, pieces: int, threads: int, least: int) -> tuple[Axis, list[RowStart], int]:
    """All positions as at least `least` rows, for `pieces` groups and images of them, and how wide their tiles are.

    Of the ways to cut them one for which the thread with the most rows has little to do; the last row overlaps the one before.
    """
    total, wanted = product.row, -(-UNITS_PER_THREAD * threads // pieces)
    most = max(least, min(2 * wanted, -(-total // tile.pixels)))

    def busiest(count: int) -> float:
        length = -(-total // count)
        overhead = TILE_OVERHEAD / (product.depth * tile.vectors) * -(-length // tile.pixels)
        return -(-pieces * count // threads) * (length + overhead)

    enough = min(map(busiest, range(least, most + 1))) * NEARLY
    count = max(count for count in range(least, most + 1) if busiest(count) <= enough)
    length = -(-total // count)
    starts = [min(start, total - length) for start in range(0, total, length)]
    every = tuple((0,) for _ in product.axes[:-1])
    rows = [RowStart(p * product.x_map.pixel, p * product.y_map.pixel, every) for p in starts]
    return Axis(length, length, 1, (Tap(0, 0),)), rows, even(length, tile.pixels)


def even(length: int, most: int) -> int:
    """The width of as few tiles as `most` allows that are as wide as each other."""
    return -(-length // -(-length // most))


def channel_steps(product: Product, slabs: list[Slab], unroll: int) -> list[int]:
    """Steps of the channel loop for each block that a slab reads: fewer in a last block that is partly padding."""
    every = product.x_map.channels // unroll
    blocks = slabs[0].blocks
    last = product.channels - (blocks.stop - 1) * product.x_map.channels
    is_last = all(slab.blocks == blocks for slab in slabs) and 0 < last < product.x_map.channels
    return [*[every] * (len(blocks) - 1), -(-last // unroll) if is_last else every]


def tables(product: Product, row_list: list[RowStart], weights: Packed, steps: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The table of rows; for each set of row taps that is met the list of (x offset, weight offset, channel steps)."""
    outer, x = product.axes[:-1], product.x_map
    shape = [len(axis.taps) for axis in outer]
    lists: dict[tuple[tuple[int, ...], ...], tuple[int, int]] = {}
    taps: list[tuple[int, int, int]] = []
    table = []
    for row in row_list:
        if row.taps not in lists:
            first = len(taps)
            for picked in itertools.product(*row.taps):
                at = dot([axis.taps[i].offset for axis, i in zip(outer, picked, strict=True)], x.spatial)
                weight = _position(picked, shape) * weights.row_tap
                taps += [(at + b * x.block, weight + b * weights.block, count) for b, count in enumerate(steps)]
            lists[row.taps] = first, len(taps)
        table.append((row.x, row.y, *lists[row.taps]))
    return np.array(table, np.int64), np.array(taps, np.int64).reshape(-1, 3)


def _position(picked: tuple[int, ...], shape: Sequence[int]) -> int:
    position = 0
    for index, extent in zip(picked, shape, strict=True):
        position = position * extent + index
    return position


def dot(a: Sequence[int], b: Sequence[int]) -> int:
    """Sum of products over the shorter length."""
    return sum(p * q for p, q in zip(a, b, strict=False))


def epilogue_operands(
    node: Node, extras: tuple[Node, ...], epilogue: ex.Expression, lanes: int
) -> tuple[ex.Expression, tuple[str, ...], dict[str, Argument]]:
    """The epilogue, the kinds of its extra operands and their arguments; NoKernel for those that lie otherwise.

    Padding lanes must stay finite.
    """
    kinds, arguments = list[str](), dict[str, Argument]()
    for i, extra in enumerate(extras):
        if extra.type.shape == node.type.shape and extra.type.layout == node.type.layout:
            kinds.append("full")
        elif extra.type.layout == node.type.layout == Blocked(1, lanes) and extra.type.shape[1:] == (
            node.type.shape[1],
            *[1] * (node.type.rank - 2),
        ):
            kinds.append("channel")
        else:
            raise NoKernel(f"epilogue operand {extra.type} lies neither like the result {node.type} nor along its channels")
        per_image = extra.type.nbytes // extra.type.shape[0] if extra.type.shape[0] > 1 else 0
        arguments |= {f"extra{i}": extra, f"extra{i}_image": per_image}
    zeros = [np.zeros(1, np.float32)] * (1 + len(kinds))
    if node.type.layout and node.type.shape[node.type.layout.axis] % lanes and not np.isfinite(ex.evaluate(epilogue, zeros)).all():
        raise NoKernel("the epilogue is not finite in padding lanes")
    return epilogue, tuple(kinds), arguments


def constant_weight(node: Node, weight: Node, bias: Node | None, machine: Machine) -> np.ndarray:
    """The constant weight; NoKernel for what the direct kernel cannot do."""
    if any(o.type.dtype != F4 for o in (*node.operands, node)):
        raise NoKernel(f"direct kernels compute in float32, this node in {node.operands[0].type.dtype}")
    if not isinstance(weight, Constant) or not isinstance(bias, Constant | None):
        raise NoKernel("the weight and the bias must be constant")
    if node.type.layout is None or node.type.layout.block != machine.target.lanes(F4):
        raise NoKernel("the result must be blocked by the vector width")
    return weight.data
