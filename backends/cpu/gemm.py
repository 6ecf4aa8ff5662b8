"""MatMul as a step of the direct kernel: rows of the left matrix are its pixels, columns of the right one its output channels."""

from __future__ import annotations

import dataclasses as dc
import functools
import itertools
import math

import numpy as np

from ...engine.graph import Constant
from ...engine.ops import MatMul
from ...engine.tensor import TensorType
from ..common.geometry import Axis, Tap
from ..common.schedule import Tile, TileProblem, choose_tile
from .convolution import split_by_tile
from .kernel import Call, Machine, NoKernel, lowers
from .pack import Packed, Slab, pack, padded_bias
from .product import F4, Map, Product, call, constant_weight
from .space import Dimension, broadcast_strides, collapse, dimensions


@dc.dataclass(frozen=True)
class Stack:
    """Products of `rows` rows each: `images` of them one after the other, from each of the members on. Strides in bytes: (a, b, y)."""

    rows: int
    images: Dimension
    members: tuple[tuple[int, int, int], ...] = ((0, 0, 0),)


@lowers(MatMul)
def lower_matmul(node: MatMul, machine: Machine) -> list[Call]:
    """A constant right matrix is packed; a computed one, or a stack, is read in place, its rows padded to whole vectors."""
    lanes = machine.target.lanes(F4)
    depth, columns = node.a.type.shape[-1], node.type.shape[-1]
    row = node.a.type.physical_shape
    width = row[-1] * (row[-2] if node.a.type.layout else 1)
    vectors = -(-columns // lanes)
    is_matrix = isinstance(node.b, Constant) and node.b.type.rank == 2
    stack, packing = _constant(node, machine) if is_matrix else _computed(node, machine)
    axis = Axis(stack.rows, stack.rows, 1, (Tap(0, 0),))
    x_map = Map((4 * width,), 0, stack.images.strides[0], width)
    y_map = Map((4 * lanes * vectors,), 4 * lanes, stack.images.strides[2], lanes)
    bias, images = padded_bias(node.bias, columns, lanes), stack.images.extent
    product = Product(node, node.a, (axis,), x_map, y_map, images, depth, bias, node.extras, node.epilogue, depth, members=stack.members)
    tile = choose_tile(TileProblem(stack.rows, vectors, depth, machine.target.registers, is_all=True))
    return [
        call(product, machine, Tile(tile.pixels, len(part[0])), [Slab(v, range(1)) for v in part], functools.partial(packing, width=width))
        for part in split_by_tile([range(vectors)], tile.vectors)
    ]


def _constant(node: MatMul, machine: Machine):
    weight = constant_weight(node, node.b, node.bias, machine)
    lanes, rows = machine.target.lanes(F4), math.prod(node.type.shape[:-1])
    strides = node.a.type.nbytes, 0, node.type.nbytes

    def packing(slabs: list[Slab], width: int) -> Packed:
        return pack(weight.T[:, :, None], 1, slabs, lanes, width, columns_outside=False)

    return Stack(rows, Dimension(1, strides)), packing


def _computed(node: MatMul, machine: Machine):
    constant_weight(node, Constant(np.zeros((1, 1), np.float32)), node.bias, machine)
    lanes, b = machine.target.lanes(F4), node.b.type
    if b.layout is None or b.layout.axis != b.rank - 1:
        raise NoKernel("the right operand must be blocked along its columns")
    row_bytes, stack = 4 * lanes * b.physical_shape[-2], stacked(node)

    def packing(slabs: list[Slab], width: int) -> Packed:
        starts = tuple(slab.vectors[0] * lanes * 4 for slab in slabs)
        return Packed(node.b, starts, 0, 0, 0, row_bytes, stack.images.strides[1])

    return stack, packing


def stacked(node: MatMul) -> Stack:
    """The products of all pairs of matrices that the leading axes make, those that share their right one as one product of more rows."""
    shapes = [kind.shape[:-2] for kind in (node.a.type, node.b.type, node.type)]
    sizes = [kind.nbytes // math.prod(kind.shape[:-2]) for kind in (node.a.type, node.b.type, node.type)]
    lead = TensorType(F4, shapes[-1])
    steps = ([s // 4 * size for s in broadcast_strides(TensorType(F4, own), lead)] for own, size in zip(shapes, sizes, strict=True))
    space, rows = collapse(dimensions(lead.shape, *steps)), node.type.shape[-2]
    if space and space[-1].strides == (sizes[0], 0, sizes[2]):
        rows *= space.pop().extent
    images = max(space, key=lambda d: d.extent, default=Dimension(1, (node.a.type.nbytes, 0, node.type.nbytes)))
    moves = [[[i * s for s in d.strides] for i in range(d.extent)] for d in space if d is not images]
    starts = [[sum(parts) for parts in zip((0, 0, 0), *picked, strict=True)] for picked in itertools.product(*moves)]
    return Stack(rows, images, tuple((a, b, y) for a, b, y in starts))
