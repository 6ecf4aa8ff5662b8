"""The end of a tiled matrix product: partial sums of the blocks that share a tile, then the epilogue, then stores of whole vectors."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence

import numpy as np

from ...engine.expression import Expression
from ..common.cuda_expression import loaded, memory_type, print_expression, register_type, stored
from ..common.space import Dimension
from .gemm_tile import CHUNK, loop
from .product import Product


@dc.dataclass(frozen=True)
class Side:
    """An operand of the epilogue besides the sum, or the result: what it is in memory, and whether it differs from column to column."""

    dtype: np.dtype
    carried: np.dtype
    """As what the epilogue sees it: a bias is float32 in memory whatever the result is."""
    per_column: bool
    is_aligned: bool
    """As many elements as 16 bytes hold of x start at a multiple of their size, also behind the last column, and all of them exist."""


def offset_text(index: str, space: Sequence[Dimension], array: int) -> str:
    """Elements from the start of an array to the index-th position of a space, which counts its last dimension fastest."""
    terms, rest = list[str](), 1
    for dimension in reversed(space):
        quotient = f"{index} / {rest}" if rest > 1 else index
        position = quotient if dimension is space[0] else f"{quotient} % {dimension.extent}"
        if dimension.strides[array]:
            terms.append(f"{position} * {dimension.strides[array]}")
        rest *= dimension.extent
    return " + ".join(terms) or "0"


def sum_splits(product: Product, splits: int, tiles: int) -> list[str]:
    """Every block leaves its sums in `partial`; the one that comes last takes all of them, in order, and the others end."""
    count, threads, quarters = product.vectors * product.width // 4, product.threads, product.width // 4
    values = ", ".join(product.element(f"(q * 4 + {e})") for e in range(4))
    number = f"({product.number} * {quarters} + q)"
    leave = product.each_vector(loop("q", quarters, [f"mine[{number} * {threads}] = make_float4({values});"]))
    add = [f"const float4 part = load_shared_by_blocks(all + (z * {count} + {number}) * {threads});"]
    add += [f"{product.element(f'(q * 4 + {e})')} += part.{axis};" for e, axis in enumerate("xyzw")]
    taken = product.each_vector(loop("q", quarters, add))
    return [
        f"const int tile = blockIdx.x + {tiles} * blockIdx.y;",
        f"float4* const all = (float4*)partial + tile * {splits * count * threads} + thread;",
        f"float4* const mine = all + blockIdx.z * {count * threads};",
        *leave,
        "__threadfence();",
        "__syncthreads();",
        "uint32* const ticket = (uint32*)shared;",
        "if (thread == 0) *ticket = atomicAdd(arrived + tile, 1u);",
        "__syncthreads();",
        f"if (*ticket != {splits - 1}) return;",
        "__threadfence();",
        "if (thread == 0) arrived[tile] = 0;",
        *product.clear(),
        f"for (int z = 0; z < {splits}; z++) {{",
        *(f"  {line}" for line in taken),
        "}",
    ]


@dc.dataclass(frozen=True)
class TiledEpilogue:
    """y[m, n] = expression(sum[m, n], sides...) for the positions m and columns n of a block.

    `epilogue.Epilogue` says the same for kernels whose threads know the place of a sum along every logical axis. A tile knows only
    the number of a position, which goes through a space of collapsed dimensions, phases and stacks included, and one thread holds
    vectors of many positions: offsets are computed once for a position, sides are read once for a vector.
    """

    product: Product
    expression: Expression
    dtype: np.dtype
    """Of the sum, as the expression sees it."""
    sides: tuple[Side, ...]
    result: Side
    rows: tuple[Dimension, ...]
    """The positions; strides of the result, then of the sides."""
    count: int
    """How many positions there are."""
    columns: int
    stored: int
    """Columns that are written: those behind `columns` become zero."""

    def text(self) -> list[str]:
        """All statements."""
        tile = self.product.tile
        vector = [f"const int n = first_column + {self.product.column};"]
        vector += guarded(f"n < {self.stored}" if self.stored % tile.columns else "", self._vector())
        offsets = [f"const int y_at = {offset_text('m', self.rows, 0)};"]
        offsets += [f"const int s{i}_at = {offset_text('m', self.rows, 1 + i)};" for i in range(len(self.sides))]
        body = [*offsets, *loop("g", self.product.groups, vector)]
        rows = [f"const int m = first_row + {self.product.row};", *guarded(f"m < {self.count}" if self.count % tile.rows else "", body)]
        return self.product.each_row(rows)

    def _vector(self) -> list[str]:
        width = self.product.width
        lines = [line for i, side in enumerate(self.sides) for line in self._load(i, side)]
        values = [f"const float sum_v = {self.product.element('v')};"]
        for i, side in enumerate(self.sides):
            values.append(f"const {register_type(side.dtype)} s{i}_v = {loaded(self._read(i, side), side.dtype)};")
        names = ["sum_v", *(f"s{i}_v" for i in range(len(self.sides)))]
        printed = print_expression(self.expression, names, [self.dtype, *(side.carried for side in self.sides)])
        value = stored(printed.value, self.result.dtype)
        if self.stored > self.columns:
            zero = stored(f"({register_type(self.result.dtype)})0", self.result.dtype)
            value = f"n + v < {self.columns} ? {value} : {zero}"
        if not self.result.is_aligned:
            store = f"if (n + v < {self.stored}) y[y_at + n + v] = {value};"
            return [*lines, *loop("v", width, [*values, *printed.statements, store])]
        piece = pieces(self.result.dtype, width)
        pack = f"Pack<{memory_type(self.result.dtype)}, {piece}>"
        store = f"result[v / {piece}].at[v % {piece}] = {value};"
        lines += [f"{pack} result[{width // piece}];", *loop("v", width, [*values, *printed.statements, store])]
        return [*lines, *loop("q", width // piece, [f"*({pack}*)(y + y_at + n + q * {piece}) = result[q];"])]

    def _load(self, i: int, side: Side) -> list[str]:
        """Reads what the epilogue needs of a side for one vector."""
        kind, width = memory_type(side.dtype), self.product.width
        if not side.per_column:
            return [f"const {kind} s{i} = side{i}[s{i}_at];"]
        if not side.is_aligned:
            read = f"s{i}[v] = side{i}[s{i}_at + (n + v < {self.columns} ? n + v : 0)];"
            return [f"{kind} s{i}[{width}];", *loop("v", width, [read])]
        piece = pieces(side.dtype, width)
        pack = f"Pack<{kind}, {piece}>"
        read = f"s{i}[q] = *(const {pack}*)(side{i} + s{i}_at + n + q * {piece});"
        return [f"{pack} s{i}[{width // piece}];", *loop("q", width // piece, [read])]

    def _read(self, i: int, side: Side) -> str:
        if not side.per_column:
            return f"s{i}"
        piece = pieces(side.dtype, self.product.width)
        return f"s{i}[v / {piece}].at[v % {piece}]" if side.is_aligned else f"s{i}[v]"


def pieces(dtype: np.dtype, width: int) -> int:
    """Elements of a vector that one instruction moves."""
    return min(width, CHUNK // dtype.itemsize)


def guarded(condition: str, body: list[str]) -> list[str]:
    """The body under a condition, if there is one."""
    return [f"if ({condition}) {{", *(f"  {line}" for line in body), "}"] if condition else body
