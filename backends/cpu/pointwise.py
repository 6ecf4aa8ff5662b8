"""Pointwise regions: y = expression(inputs), the inputs broadcast; one pass over memory however large the expression is."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import numpy as np

from ...engine.expression import Expression, Operand, apply, flops
from ...engine.graph import Constant, Node
from ...engine.ops import Pointwise
from ...engine.ops.layout import to_physical
from ...engine.tensor import TensorType
from ..common.llvm_expression import emit_expression, unsupported
from .emit import Emitter, Value
from .kernel import Argument, Call, Kernel, Machine, NoKernel, Table, grain_for, lowers
from .padding import stays_finite
from .space import UNIT_SECONDS, Dimension, broadcast_strides, collapse, dimensions, physical_strides, walk, walk_arguments, walk_parameters
from .vectors import common_lanes, in_vectors, load_lanes, load_splat, store_first, store_lanes

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
        return (*walk_parameters(self.arrays), "columns", "column_tile")

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one PointwiseKernel."""

    def __init__(self, spec: PointwiseKernel, k: Emitter) -> None:
        self.spec, self.k = spec, k
        self.lanes = common_lanes(k.target, *spec.dtypes)

    def write(self) -> None:
        k = self.k
        columns, tile = k.argument("columns"), k.argument("column_tile")
        with walk(k, self.spec.arrays) as (inner, pointers):
            first = k.mul(inner, tile)
            self.row(pointers, first, k.minimum(k.add(first, tile), columns))

    def row(self, pointers: Sequence[Value], first: Value, last: Value) -> None:
        k, lanes, columns = self.k, self.lanes, self.spec.columns
        operands = zip(pointers, self.spec.splats, self.spec.dtypes, strict=False)
        splats = [load_splat(k, pointer, dtype, lanes) if splat else None for pointer, splat, dtype in operands]
        if not columns:

            def some(column: Value, _: int, mask: Value | None) -> None:
                store_lanes(k, self.vector(pointers, splats, column, mask), self.place(pointers[-1], column), self.spec.dtypes[-1], mask)

            in_vectors(k, first, last, lanes, some)
        for start in range(0, columns, lanes):
            left = min(columns - start, lanes)
            mask = k.mask_below(k.integer(left), lanes) if left < lanes else None
            value = self.vector(pointers, splats, start, mask)
            store_first(k, value, self.place(pointers[-1], start), self.spec.dtypes[-1], left)

    def place(self, y: Value, column: Value | int) -> Value:
        return self.k.at(y, self.k.mul(column, self.spec.dtypes[-1].itemsize))

    def vector(self, pointers: Sequence[Value], splats: Sequence[Value | None], column: Value | int, mask: Value | None) -> Value:
        """The results at some columns."""
        k, dtypes = self.k, self.spec.dtypes[:-1]
        values = [
            load_lanes(k, k.at(pointer, k.mul(column, dtype.itemsize)), dtype, self.lanes, mask) if splat is None else splat
            for pointer, dtype, splat in zip(pointers, dtypes, splats, strict=False)
        ]
        return emit_expression(k, self.spec.expression, values, dtypes)


@lowers(Pointwise)
def lower_pointwise(node: Pointwise, machine: Machine) -> list[Call]:
    """One call."""
    dtypes = [o.type.dtype for o in node.inputs]
    if reason := unsupported(node.expression, dtypes):
        raise NoKernel(reason)
    expression, places, kinds = guarded(node.expression, *operand_places(node), node.type)
    strides = [broadcast_strides(kind, node.type) for kind in kinds]
    space = collapse(dimensions(node.type.physical_shape, *strides, physical_strides(node.type)))
    arguments = dict(zip([f"x{i}" for i in range(len(places))], places, strict=True)) | {"y": node}
    return [_call(expression, [*kinds, node.type], arguments, space, machine)]


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
    expression: Expression, kinds: Sequence[TensorType], places: dict[str, Argument], space: Sequence[Dimension], machine: Machine
) -> Call:
    dtypes = tuple(kind.dtype for kind in kinds)
    *rest, columns = space or [Dimension(1, tuple(d.itemsize for d in dtypes))]
    lanes = common_lanes(machine.target, *dtypes)
    seconds = sum(d.itemsize for d in dtypes) * SECONDS_PER_BYTE + flops(expression) * SECONDS_PER_FLOP
    tile = min(columns.extent, math.ceil(UNIT_SECONDS / seconds / lanes) * lanes)
    static = columns.extent if columns.extent <= STATIC_VECTORS * lanes else 0
    kernel = PointwiseKernel(expression, dtypes, tuple(s == 0 for s in columns.strides[:-1]), static)
    numbers, units = walk_arguments(kernel.arrays, rest, seconds * tile, -(-columns.extent // tile))
    numbers |= {"columns": columns.extent, "column_tile": tile}
    total = seconds * math.prod(d.extent for d in space)
    return Call(kernel, places | numbers, units, grain_for(units, total, machine.threads))
