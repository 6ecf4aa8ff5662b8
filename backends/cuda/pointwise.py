"""Pointwise regions: y = expression(inputs), the inputs broadcast; one pass over memory however large the expression is."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence

import numpy as np

from ...engine.expression import Expression
from ...engine.graph import Constant, Node
from ...engine.ops import Pointwise
from ...engine.ops.layout import to_physical
from ...engine.tensor import TensorType
from ..common.cuda_expression import loaded, memory_type, print_expression, register_type, stored, unsupported
from ..common.space import Dimension, broadcast_strides, collapse, dimensions, physical_strides
from .elements import MOST_ELEMENTS, WIDEST
from .kernel import Argument, Call, Extent, Kernel, Machine, NoKernel, Parameter, Table, lowers

THREADS = 256


@dc.dataclass(frozen=True)
class PointwiseKernel(Kernel):
    """y[i] = expression(x0[...], x1[...], ...) for every element i of y, in the order of y's memory. An operand may be y itself."""

    expression: Expression
    dtypes: tuple[np.dtype, ...]
    """Those of the operands, then that of the result."""
    space: tuple[Dimension, ...]
    """Strides in elements, of the operands and then of the result."""
    lanes: int | None = None
    """So many of the innermost dimension hold values; the others are padding and become zero."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        *operands, result = self.dtypes
        given = (Parameter(f"x{i}", dtype, alone=False) for i, dtype in enumerate(operands))
        return (*given, Parameter("y", result, written=True, alone=False))

    @property
    def elements(self) -> int:
        """Of the result, with its padding."""
        return math.prod(d.extent for d in self.space)

    @property
    def width(self) -> int:
        """Neighbouring elements that a thread computes: as many as every operand that moves along them holds in one aligned piece."""
        width = WIDEST // max(dtype.itemsize for dtype in self.dtypes)
        while width > 1 and not self._fits(width):
            width //= 2
        return width

    def _fits(self, width: int) -> bool:
        *outer, inner = self.space
        moving = [i for i, stride in enumerate(inner.strides) if stride]
        return inner.extent % width == 0 and all(d.strides[i] % width == 0 for d in outer for i in moving)

    @property
    def grid(self) -> Extent:
        return -(-self.elements // (THREADS * self.width)), 1, 1

    @property
    def block(self) -> Extent:
        return THREADS, 1, 1

    def body(self) -> str:
        width, result = self.width, self.dtypes[-1]
        lines = [f"const int first = (blockIdx.x * {THREADS} + threadIdx.x) * {width};", f"if (first >= {self.elements}) return;"]
        lines += self._indices()
        lines += [self._load(i) for i in range(len(self.dtypes) - 1)]
        pack = f"Pack<{memory_type(result)}, {width}>"
        lines += [f"{pack} result;", f"UNROLL for (int v = 0; v < {width}; v++) {{"]
        lines += [f"  {line}" for line in self._element()]
        lines += ["}", f"*({pack}*)(y + ({self._at(-1)})) = result;"]
        return "".join(f"  {line}\n" for line in lines)

    def _indices(self) -> list[str]:
        """Where along each dimension the first element is."""
        lines, rest = list[str](), 1
        for number, dimension in reversed(list(enumerate(self.space))):
            quotient = f"first / {rest}" if rest > 1 else "first"
            lines.append(f"const int i{number} = {quotient}{f' % {dimension.extent}' if number else ''};")
            rest *= dimension.extent
        return lines

    def _at(self, array: int) -> str:
        """Elements from the start of an operand, or of the result, to what the thread reads or writes."""
        strides = [d.strides[array] for d in self.space]
        if strides == [math.prod(d.extent for d in self.space[n + 1 :]) for n in range(len(strides))]:
            return "first"
        return " + ".join(f"i{n} * {stride}" for n, stride in enumerate(strides) if stride) or "0"

    def _load(self, operand: int) -> str:
        dtype = memory_type(self.dtypes[operand])
        at = f"x{operand} + ({self._at(operand)})"
        if not self.space[-1].strides[operand]:
            return f"const {dtype} g{operand} = *({at});"
        return f"const Pack<{dtype}, {self.width}> g{operand} = *(const Pack<{dtype}, {self.width}>*)({at});"

    def _element(self) -> list[str]:
        *operands, result = self.dtypes
        lines = []
        for i, dtype in enumerate(operands):
            given = f"g{i}.at[v]" if self.space[-1].strides[i] else f"g{i}"
            lines.append(f"const {register_type(dtype)} v{i} = {loaded(given, dtype)};")
        printed = print_expression(self.expression, [f"v{i}" for i in range(len(operands))], operands)
        value = printed.value
        if self.lanes is not None:
            value = f"(i{len(self.space) - 1} + v < {self.lanes} ? {value} : ({register_type(result)})0)"
        return [*lines, *printed.statements, f"result.at[v] = {stored(value, result)};"]


@lowers(Pointwise)
def lower_pointwise(node: Pointwise, machine: Machine) -> list[Call]:
    """One kernel."""
    kinds = [operand.type for operand in node.inputs]
    if reason := unsupported(node.expression, [kind.dtype for kind in kinds]):
        raise NoKernel(reason)
    return [pointwise_call(node.expression, list(node.inputs), node, node.type)]


def pointwise_call(expression: Expression, operands: Sequence[Node], result: Argument, kind: TensorType) -> Call:
    """The step that computes an expression over operands, broadcast, into memory of the type `kind`."""
    placed = [_placed(operand, kind) for operand in operands]
    kinds = [*(k for _, k in placed), kind]
    space = iteration_space(kinds)
    if math.prod(d.extent for d in space) > MOST_ELEMENTS:
        raise NoKernel(f"{kind} has more elements than an index of 32 bits counts")
    kernel = PointwiseKernel(expression, tuple(k.dtype for k in kinds), space, padded_lanes(kind))
    return Call(kernel, {f"x{i}": place for i, (place, _) in enumerate(placed)} | {"y": result})


def iteration_space(kinds: Sequence[TensorType]) -> tuple[Dimension, ...]:
    """What a kernel goes through that reads values of these types, broadcast to the last one, which it writes; strides in elements.

    Raises NoKernel where the layouts do not fit.
    """
    *operands, result = kinds
    strides = [*(broadcast_strides(kind, result) for kind in operands), physical_strides(result)]
    counted = [[s // kind.dtype.itemsize for s in own] for own, kind in zip(strides, kinds, strict=True)]
    space = dimensions(result.physical_shape, *counted)
    if padded_lanes(result) is not None:
        return (*collapse(space[:-1]), space[-1])
    return tuple(collapse(space)) or (Dimension(1, (0,) * len(operands) + (1,)),)


def padded_lanes(kind: TensorType) -> int | None:
    """How many of the innermost dimension's elements are values, where that is not all of them.

    Channels last is one block of all channels; the last of several blocks would need more than this.
    """
    layout = kind.layout
    if layout is None or kind.shape[layout.axis] % layout.block == 0:
        return None
    if kind.shape[layout.axis] > layout.block:
        raise NoKernel(f"{kind} has several blocks of channels, the last of them not full")
    return kind.shape[layout.axis]


def _placed(operand: Node, result: TensorType) -> tuple[Argument, TensorType]:
    """Where an operand is, and as what; a constant that the result's layout would have blocked is laid out here."""
    layout = result.layout
    if layout is None or not isinstance(operand, Constant) or operand.type.layout is not None:
        return operand, operand.type
    shape = (1,) * (result.rank - operand.type.rank) + operand.type.shape
    if shape[layout.axis] == 1:
        return operand, operand.type
    return Table(to_physical(operand.data.reshape(shape), layout)), TensorType(operand.type.dtype, shape, layout.dense)
