"""The step that computes a tiled product: operands of the epilogue, the tile, and memory that blocks exchange sums through."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Mapping

import numpy as np

from ...engine.expression import Expression, Operand, substitute
from ...engine.graph import Constant, Node
from ...engine.ops import Conv, ConvTranspose, MatMul
from ..common.cuda_expression import unsupported
from ..common.space import Dimension, broadcast_strides, collapse, physical_strides
from .conv_implicit_gemm import ImplicitGemmKernel
from .elements import MOST_ELEMENTS, check_size, unit
from .gemm_epilogue import Side
from .gemm_tile import Columns, Gather
from .kernel import Address, Argument, Call, Machine, NoKernel, Scratch, Table
from .pack import packed_dtype, padded_bias
from .schedule import GemmProblem, Tile, best_tiles, choose_tile

F2, F4 = np.dtype(np.float16), np.dtype(np.float32)
TILES_TO_MEASURE = 12


def product_for(node: Node, machine: Machine) -> str:
    """The kind of product for the dtype of the node's operands; NoKernel for others."""
    dtype = node.operands[0].type.dtype
    if dtype not in (F2, F4):
        raise NoKernel(f"tiled products compute in float32 or float16, this node in {dtype}")
    product = "fp16" if dtype == F2 else "fp32" if machine.precision == "fp16" else machine.precision
    if not machine.architecture.supports(product):
        raise NoKernel(f"{machine.architecture.name} has no products in {product}")
    return product


@dc.dataclass(frozen=True)
class Strided:
    """A value that is read, or written, along the positions and columns of a product; everything in elements."""

    place: Argument
    dtype: np.dtype
    carried: np.dtype
    rows: tuple[int, ...]
    column: int
    batch: tuple[int, ...] = ()
    offset: int = 0
    extent: int = 1
    """Neighbouring columns in memory."""

    def side(self, unit: int) -> Side:
        """What the kernel has to know."""
        strides = (*self.rows, *self.batch, self.offset, self.extent)
        return Side(self.dtype, self.carried, self.column != 0, all(stride % unit == 0 for stride in strides))

    @property
    def argument(self) -> Argument:
        """Where it starts."""
        return Address(self.place, self.offset * self.dtype.itemsize) if self.offset else self.place  # type: ignore[arg-type]


@dc.dataclass(frozen=True)
class Positions:
    """Where the rows and the stack of a product lie among the physical dimensions of the node's result."""

    node: Node
    extents: tuple[int, ...]
    """Of the rows, one for each of `dimensions`."""
    dimensions: tuple[int, ...]
    first: tuple[int, ...] = ()
    """Where a phase begins along each of them; left out, at 0."""
    spacing: tuple[int, ...] = ()
    batch: tuple[Dimension, ...] = ()
    """The stack; strides of x and w."""
    batch_dimensions: tuple[int, ...] = ()
    """Dimensions of the result along which the stack goes; -1 is the columns, of which each product has `columns`."""
    columns: int = 0

    def strided(self, value: Node) -> Strided:
        """The result itself, or an operand that is broadcast to it. Raises NoKernel where layouts do not fit."""
        kind, node = value.type, self.node
        check_size(kind)
        found = physical_strides(kind) if value is node else broadcast_strides(kind, node.type)
        strides = [stride // kind.dtype.itemsize for stride in found]
        first = self.first or (0,) * len(self.dimensions)
        spacing = self.spacing or (1,) * len(self.dimensions)
        rows = tuple(strides[d] * s for d, s in zip(self.dimensions, spacing, strict=True))
        offset = sum(strides[d] * f for d, f in zip(self.dimensions, first, strict=True))
        batch = tuple(strides[-1] * self.columns if d == -1 else strides[d] for d in self.batch_dimensions)
        return Strided(value, kind.dtype, kind.dtype, rows, strides[-1], batch, offset, kind.physical_shape[-1] if kind.shape else 1)

    def bias(self, bias: Node) -> Strided:
        """The bias of the columns; a constant one is padded, so that whole vectors can be read."""
        rows, dtype = (0,) * len(self.dimensions), self.node.operands[0].type.dtype
        padded = -(-self.columns // 8) * 8 if isinstance(bias, Constant) else self.columns
        batch = tuple(padded if d == -1 else 0 for d in self.batch_dimensions)
        if not isinstance(bias, Constant):
            return Strided(bias, bias.type.dtype, dtype, rows, 1, batch, extent=bias.type.size)
        table = Table(padded_bias(bias.data, bias.type.size // self.columns, padded))
        return Strided(table, F4, dtype, rows, 1, batch, extent=padded)


@dc.dataclass(frozen=True)
class Operands:
    """The two operands of a product."""

    x: Argument
    w: Argument
    left: Gather
    right: Columns
    is_packed: bool = True


Tiled = Conv | ConvTranspose | MatMul


def product_call(node: Tiled, machine: Machine, product: str, operands: Operands, at: Positions, stored: int) -> Call:
    """The step for one phase of a node, in the tile that is estimated to be the fastest."""
    sides = [*([at.bias(node.bias)] if node.bias is not None else []), *map(at.strided, node.extras)]
    y, dtype = at.strided(node), node.operands[0].type.dtype
    epilogue = with_bias(node.epilogue, node.bias is not None, len(node.extras))
    if reason := unsupported(epilogue, [dtype, *(side.carried for side in sides)]):
        raise NoKernel(reason)
    check_size(*(value.type for value in node.operands[:2]))
    check_sizes(operands)
    space = collapse(Dimension(n, tuple(v.rows[i] for v in (y, *sides))) for i, n in enumerate(at.extents))
    batch = [dc.replace(d, strides=(*d.strides, *(v.batch[i] for v in (y, *sides)))) for i, d in enumerate(at.batch)]
    kernel = ImplicitGemmKernel(
        product=product,
        tile=Tile(0, 0, 0, 0, (0, 0)),
        left=operands.left,
        right=operands.right,
        weight_dtype=packed_dtype(product) if operands.is_packed else dtype,
        batch=tuple(collapse(batch)),
        rows=tuple(space),
        stored=stored,
        epilogue=epilogue,
        sides=tuple(side.side(unit(dtype)) for side in sides),
        result=dc.replace(y, extent=math.gcd(y.extent, stored)).side(unit(dtype)),
        is_packed=operands.is_packed,
    )
    arguments = {"x": operands.x, "w": operands.w, "y": y.argument, **{f"side{i}": side.argument for i, side in enumerate(sides)}}
    problem = GemmProblem(product, operands.left.rows, stored, operands.left.depth, kernel.stack)
    return with_tile(kernel, arguments, asked_tile(problem, machine))


def asked_tile(problem: GemmProblem, machine: Machine) -> Tile:
    """The tile by the model, or by what was measured."""
    architecture = machine.architecture
    return machine.schedules.choose(
        problem, lambda: choose_tile(problem, architecture), lambda: best_tiles(problem, architecture, TILES_TO_MEASURE)
    )


def with_tile(kernel: ImplicitGemmKernel, arguments: Mapping[str, Argument], tile: Tile) -> Call:
    """The same product in another tile."""
    kernel = dc.replace(kernel, tile=tile)
    given = {name: value for name, value in arguments.items() if name not in ("partial", "arrived")}
    if tile.splits > 1:
        given["partial"] = Scratch(kernel.partial_bytes)
        given["arrived"] = Scratch(4 * kernel.grid[0] * kernel.grid[1], zero=True)
    return Call(kernel, given)


def with_bias(epilogue: Expression, has_bias: bool, extras: int) -> Expression:
    """The epilogue of a sum to which operand 1, the bias, is added first."""
    if not has_bias:
        return epilogue
    return substitute(epilogue, [Operand(0) + Operand(1), *(Operand(2 + i) for i in range(extras))])


def check_sizes(operands: Operands) -> None:
    """NoKernel where an operand has more elements than an index of 32 bits counts."""
    left, right = operands.left, operands.right
    reach = left.images * left.image + sum(axis.size * axis.stride for axis in left.axes)
    if max(reach, right.columns * right.stride + right.depth * right.step) > MOST_ELEMENTS:
        raise NoKernel("an operand has more elements than an index of 32 bits counts")
