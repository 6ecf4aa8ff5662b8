"""Pointwise regions: y = expression(inputs), the inputs broadcast; one pass over memory however large the expression is."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import numpy as np

from ...engine.expression import Apply, Expression, Operand, apply, children, flops
from ...engine.graph import Constant, Node, TensorType
from ...engine.ops import Pointwise
from ...engine.ops.layout import to_physical
from ..common.llvm_expression import emit_expression, unsupported
from .emit import Emitter, Value
from .kernel import Argument, Call, Kernel, Machine, NoKernel, Table, grain_for, lowers
from .space import Dimension, broadcast_strides, collapse, dimensions, outer_offsets, outer_table, physical_strides, size
from .vectors import common_lanes, load_lanes, load_splat, store_lanes

UNIT_SECONDS = 3e-6
SECONDS_PER_BYTE, SECONDS_PER_FLOP = 3e-11, 1.5e-11
STATIC_VECTORS = 2
"""Rows of at most so many vectors are written out, without a loop."""


@dc.dataclass(frozen=True)
class PointwiseKernel(Kernel):
    """y[outer, row, column] = expression(x0[outer, row, column], ...), columns contiguous.

    A splat operand does not move along the columns. Whatever else moves how is in the arguments. `columns` is the extent of short
    rows, 0 where it is an argument. An operand may be the result itself: each vector is read before it is written.
    """

    expression: Expression
    dtypes: tuple[np.dtype, ...]
    """Those of the operands, then that of the result."""
    splats: tuple[bool, ...]
    columns: int

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the operands and the result."""
        return (*(f"x{i}" for i in range(len(self.splats))), "y")

    @property
    def signature(self) -> tuple[str, ...]:
        addresses, steps = (f"{name}*" for name in self.arrays), (f"{name}_row" for name in self.arrays)
        return (*addresses, *steps, "outer*", "rank", "rows", "row_tiles", "row_tile", "columns", "column_tiles", "column_tile")

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one PointwiseKernel."""

    def __init__(self, spec: PointwiseKernel, k: Emitter) -> None:
        self.spec, self.k = spec, k
        self.lanes = common_lanes(k.target, *spec.dtypes)
        self.number = {name: k.argument(name) for name in spec.signature if not name.endswith("*")}
        self.base = {name: k.pointer(name) for name in (*spec.arrays, "outer")}

    def write(self) -> None:
        k, number = self.k, self.number
        with k.units() as unit:
            rest, column_tile = k.divmod(unit.index, number["column_tiles"])
            outer, row_tile = k.divmod(rest, number["row_tiles"])
            offsets = outer_offsets(k, self.base["outer"], number["rank"], outer, len(self.spec.arrays))
            self.first_column = k.mul(column_tile, number["column_tile"])
            self.last_column = k.minimum(k.add(self.first_column, number["column_tile"]), number["columns"])
            start = k.mul(row_tile, number["row_tile"])
            stop = k.minimum(k.add(start, number["row_tile"]), number["rows"])
            bases = [k.at(self.base[name], offset) for name, offset in zip(self.spec.arrays, offsets, strict=True)]
            with k.loop(start, stop, nonempty=True) as row:
                steps = [k.mul(row.index, number[f"{name}_row"]) for name in self.spec.arrays]
                self.row([k.at(base, step) for base, step in zip(bases, steps, strict=True)])

    def row(self, pointers: Sequence[Value]) -> None:
        k, lanes, columns = self.k, self.lanes, self.spec.columns
        operands = zip(pointers, self.spec.splats, self.spec.dtypes, strict=False)
        splats = [load_splat(k, pointer, dtype, lanes) if splat else None for pointer, splat, dtype in operands]
        if columns:
            for first in range(0, columns, lanes):
                mask = k.mask_below(k.integer(columns - first), lanes) if columns - first < lanes else None
                self.vector(pointers, splats, first, mask)
            return
        count = k.sub(self.last_column, self.first_column)
        whole = k.add(self.first_column, k.sub(count, k.b.urem(count, k.integer(lanes))))
        with k.loop(self.first_column, whole, lanes) as column:
            self.vector(pointers, splats, column.index, None)
        with k.when(k.b.icmp_signed("<", whole, self.last_column)):
            self.vector(pointers, splats, whole, k.mask_below(k.sub(self.last_column, whole), lanes))

    def vector(self, pointers: Sequence[Value], splats: Sequence[Value | None], column: Value | int, mask: Value | None) -> None:
        k, (*dtypes, result) = self.k, self.spec.dtypes
        values = [
            load_lanes(k, k.at(pointer, k.mul(column, dtype.itemsize)), dtype, self.lanes, mask) if splat is None else splat
            for pointer, dtype, splat in zip(pointers, dtypes, splats, strict=False)
        ]
        value = emit_expression(k, self.spec.expression, values, dtypes)
        store_lanes(k, value, k.at(pointers[-1], k.mul(column, result.itemsize)), result, mask)


@lowers(Pointwise)
def lower_pointwise(node: Pointwise, machine: Machine) -> list[Call]:
    """One call; none where there is nothing to compute."""
    if 0 in node.type.shape:
        return []
    dtypes = [o.type.dtype for o in node.inputs]
    if reason := unsupported(node.expression, dtypes):
        raise NoKernel(reason)
    expression, places, kinds = guarded(node.expression, *operand_places(node), node.type)
    strides = [broadcast_strides(kind, node.type) for kind in kinds]
    space = collapse(dimensions(node.type.physical_shape, *strides, physical_strides(node.type)))
    *rest, columns = space or [Dimension(1, tuple(k.dtype.itemsize for k in [*kinds, node.type]))]
    arguments = dict(zip([f"x{i}" for i in range(len(places))], places, strict=True)) | {"y": node}
    return [_call(expression, [*kinds, node.type], arguments, rest, columns, machine)]


def operand_places(node: Pointwise) -> tuple[list[Argument], list[TensorType]]:
    """Where the operands are; constants that the result's layout would have blocked are laid out here."""
    places: list[Argument] = []
    kinds: list[TensorType] = []
    for operand in node.inputs:
        place, kind = _blocked_constant(operand, node.type) or (operand, operand.type)
        places.append(place)
        kinds.append(kind)
    return places, kinds


def _blocked_constant(operand: Node, result: TensorType) -> tuple[Table, TensorType] | None:
    layout = result.layout
    if layout is None or not isinstance(operand, Constant) or operand.type.layout is not None:
        return None
    shape = (1,) * (result.rank - operand.type.rank) + operand.type.shape
    if shape[layout.axis] == 1:
        return None
    return Table(to_physical(operand.data.reshape(shape), layout)), TensorType(operand.type.dtype, shape, layout)


FINITE = frozenset(
    ["add", "sub", "mul", "max", "min", "neg", "abs", "sign", "floor", "ceil", "round", "tanh", "erf", "sin", "cos", "atan", "asinh"]
    + ["less", "less_equal", "equal", "is_nan", "is_inf", "and", "or", "xor", "not", "where", "relu", "clip", "leaky_relu", "elu"]
    + ["sigmoid", "hard_sigmoid", "hard_swish", "silu", "softplus", "softsign", "mish", "gelu", "gelu_tanh"]
)
"""Functions that give finite numbers for finite ones of moderate size."""


def stays_finite(expression: Expression) -> bool:
    """Whether padding lanes, which hold any finite numbers, surely give finite ones."""
    if isinstance(expression, Apply) and expression.function not in FINITE:
        return False
    return all(map(stays_finite, children(expression)))


def guarded(
    expression: Expression, places: list[Argument], kinds: list[TensorType], result: TensorType
) -> tuple[Expression, list[Argument], list[TensorType]]:
    """The same, or with one more operand that says which lanes are not padding, so that the others become zero."""
    layout = result.layout
    if layout is None or result.shape[layout.axis] % layout.block == 0 or result.dtype.kind != "f" or stays_finite(expression):
        return expression, places, kinds
    shape = tuple(n if i == layout.axis else 1 for i, n in enumerate(result.shape))
    inside = TensorType(np.dtype(bool), shape, layout)
    table = Table(to_physical(np.ones(shape, bool), layout))
    return apply("where", Operand(len(places)), expression, 0), [*places, table], [*kinds, inside]


def _call(
    expression: Expression,
    kinds: Sequence[TensorType],
    arguments: dict[str, Argument],
    rest: list[Dimension],
    columns: Dimension,
    machine: Machine,
) -> Call:
    dtypes = tuple(kind.dtype for kind in kinds)
    rows = pick_rows(rest, len(kinds))
    outer = [d for d in rest if d is not rows]
    lanes = common_lanes(machine.target, *dtypes)
    static = columns.extent if columns.extent <= STATIC_VECTORS * lanes else 0
    seconds = sum(d.itemsize for d in dtypes) * SECONDS_PER_BYTE + flops(expression) * SECONDS_PER_FLOP
    column_tile, row_tile = tiles(columns.extent, rows.extent, max(lanes, round(UNIT_SECONDS / seconds)), lanes)
    kernel = PointwiseKernel(expression, dtypes, tuple(s == 0 for s in columns.strides[:-1]), static)
    numbers = {f"{name}_row": step for name, step in zip(kernel.arrays, rows.strides, strict=True)}
    numbers |= {"rank": len(outer), "rows": rows.extent, "row_tile": row_tile, "row_tiles": -(-rows.extent // row_tile)}
    numbers |= {"columns": columns.extent, "column_tile": column_tile, "column_tiles": -(-columns.extent // column_tile)}
    units = size(outer) * numbers["row_tiles"] * numbers["column_tiles"]
    total = seconds * size(outer) * rows.extent * columns.extent
    table = outer_table(outer, len(kinds))
    return Call(kernel, arguments | numbers | {"outer": table}, units, grain_for(units, total, machine.threads))


def pick_rows(space: Sequence[Dimension], arrays: int) -> Dimension:
    """The dimension to walk inside a unit: the innermost if it is long enough, else the longest."""
    if not space:
        return Dimension(1, (0,) * arrays)
    return space[-1] if space[-1].extent >= 16 else max(space, key=lambda d: d.extent)


def tiles(columns: int, rows: int, elements: int, lanes: int) -> tuple[int, int]:
    """Columns (whole vectors) and rows of a unit of about so many elements."""
    column_tile = min(columns, math.ceil(elements / lanes) * lanes)
    return column_tile, min(rows, max(1, elements // column_tile))
