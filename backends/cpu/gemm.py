"""MatMul as a step of the direct kernel: rows of the left matrix are its pixels, columns of the right one its output channels."""

from __future__ import annotations

import functools
import math

import numpy as np

from ...engine.graph import Constant
from ...engine.ops import MatMul
from ..common.geometry import Axis, Tap
from ..common.schedule import Tile, TileProblem, choose_tile
from .convolution import split_by_tile
from .kernel import Call, Machine, NoKernel, lowers
from .pack import Packed, Slab, pack, padded_bias
from .product import F4, Map, Product, call, constant_weight


@lowers(MatMul)
def lower_matmul(node: MatMul, machine: Machine) -> list[Call]:
    """A constant right matrix is packed; a computed one, or a stack, is read in place, its rows padded to whole vectors."""
    lanes = machine.target.lanes(F4)
    is_matrix = isinstance(node.b, Constant) and node.b.type.rank == 2
    batch, rows_each, packing = _constant(node, machine) if is_matrix else _computed(node, machine)
    depth, columns = node.a.type.shape[-1], node.type.shape[-1]
    row = node.a.type.physical_shape
    width = row[-1] * (row[-2] if node.a.type.layout else 1)
    axis = Axis(rows_each, rows_each, 1, (Tap(0, 0),))
    vectors = -(-columns // lanes)
    x_map = Map((4 * width,), 0, 4 * width * rows_each, width)
    y_map = Map((4 * lanes * vectors,), 4 * lanes, 4 * lanes * vectors * rows_each, lanes)
    bias = padded_bias(node.bias, columns, lanes)
    product = Product(node, node.a, (axis,), x_map, y_map, batch, depth, bias, node.extras, node.epilogue, depth)
    tile = choose_tile(TileProblem(rows_each, vectors, depth, machine.target.registers, is_all=True))
    return [
        call(product, machine, Tile(tile.pixels, len(part[0])), [Slab(v, range(1)) for v in part], functools.partial(packing, width=width))
        for part in split_by_tile([range(vectors)], tile.vectors)
    ]


def _constant(node: MatMul, machine: Machine):
    weight = constant_weight(node, node.b, node.bias, machine)
    lanes = machine.target.lanes(F4)

    def packing(slabs: list[Slab], width: int) -> Packed:
        return pack(weight.T[:, :, None], 1, slabs, lanes, width, columns_outside=False)

    return 1, math.prod(node.type.shape[:-1]), packing


def _computed(node: MatMul, machine: Machine):
    constant_weight(node, Constant(np.zeros((1, 1), np.float32)), node.bias, machine)
    lanes, b = machine.target.lanes(F4), node.b.type
    is_single = math.prod(b.shape[:-2]) == 1
    if not is_single and node.a.type.shape[:-2] != b.shape[:-2]:
        raise NoKernel("stacks of matrices that broadcast")
    if b.layout is None or b.layout.axis != b.rank - 1:
        raise NoKernel("the right operand must be blocked along its columns")
    row_bytes = 4 * lanes * b.physical_shape[-2]

    def packing(slabs: list[Slab], width: int) -> Packed:
        starts = tuple(slab.vectors[0] * lanes * 4 for slab in slabs)
        return Packed(node.b, starts, 0, 0, 0, row_bytes, row_bytes * b.shape[-2])

    if is_single:
        return 1, math.prod(node.type.shape[:-1]), packing
    return math.prod(b.shape[:-2]), node.type.shape[-2], packing
