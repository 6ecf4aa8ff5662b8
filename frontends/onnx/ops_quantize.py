"""Quantised numbers: real = (integer - zero point) * scale. Each operator is spelled out in exact or floating-point arithmetic."""

from __future__ import annotations

import numpy as np

from ...engine.errors import ModelError
from ...engine.expression import Convert, Expression, Operand, apply
from ...engine.graph import Node
from ...engine.ops.conv import Conv
from ...engine.ops.elementwise import cast
from ...engine.ops.shape import Expand, Reshape
from .convert import Call, Results, axis_of, converter
from .ops_elementwise import over
from .ops_matmul import product
from .ops_shape import cut
from .tensors import dtype_of
from .windows import pads_of, window_of

EXACT = np.dtype(np.float64)
"""Sums of products of 8-bit numbers are exact in it."""


@converter("QuantizeLinear")
def quantize_linear(call: Call) -> Results:
    """saturate(round(x / scale) + zero point)."""
    scale, zero = _spread(call, call[1]), call.get(2)
    code = call.integer("output_dtype", 0)
    target = zero.type.dtype if zero is not None else dtype_of(code, "the result") if code else np.dtype(np.uint8)
    precision = dtype_of(p, "precision") if (p := call.integer("precision", 0)) else scale.type.dtype
    return quantized(call[0], scale, None if zero is None else _spread(call, zero), target, precision)


def quantized(x: Node, scale: Node, zero: Node | None, target: np.dtype, precision: np.dtype) -> Node:
    """saturate(round(x / scale) + zero) in the dtype `target`, computed in `precision`."""
    if target.kind not in "iu":
        raise ModelError(f"expected a zero point of integers, got {target}")
    limits = np.iinfo(target)
    result: Expression = apply("round", Convert(Operand(0), precision) / Convert(Operand(1), precision))
    operands = [x, scale]
    if zero is not None:
        operands, result = [*operands, zero], result + Convert(Operand(2), precision)
    return over(Convert(apply("clip", result, int(limits.min), int(limits.max)), target), *operands)


@converter("DequantizeLinear")
def dequantize_linear(call: Call) -> Results:
    """(x - zero point) * scale."""
    scale, zero = _spread(call, call[1]), call.get(2)
    real = scale.type.dtype
    value: Expression = Convert(Operand(0), real)
    operands = [call[0], scale]
    if zero is not None:
        operands, value = [*operands, _spread(call, zero)], value - Convert(Operand(2), real)
    result = over(value * Operand(1), *operands)
    code = call.integer("output_dtype", 0)
    return cast(result, dtype_of(code, "the result")) if code and dtype_of(code, "the result") != real else result


def _spread(call: Call, parameter: Node) -> Node:
    """A scale or zero point so that it broadcasts to x: one for all, one for each position along `axis`, or one for each block there."""
    x, given = call[0].type, parameter.type
    if given.size == 1 and given.rank <= 1:
        return Reshape(parameter, shape=())
    axis = axis_of(call.integer("axis"), x.rank)
    if given.rank == 1 and given.size == x.shape[axis]:
        return Reshape(parameter, shape=_column(x.shape, axis))
    block = call.integer("block_size", 0)
    if block < 1 or given.rank != x.rank:
        raise ModelError(f"expected one scale, {x.shape[axis]} scales or scales of rank {x.rank} with a block_size, got {given}")
    lead, rest = given.shape[: axis + 1], given.shape[axis + 1 :]
    blocks = Expand(Reshape(parameter, shape=(*lead, 1, *rest)), shape=(*lead, block, *rest))
    repeated = Reshape(blocks, shape=(*lead[:-1], lead[-1] * block, *rest))
    return cut(repeated, axis, 0, x.shape[axis])


def _column(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(n if i == axis else 1 for i, n in enumerate(shape))


@converter("MatMulInteger")
def matmul_integer(call: Call) -> Results:
    """(a - a's zero point) @ (b - b's zero point) in int32."""
    whole = np.dtype(np.int32)
    return product(_centred(call[0], _rows(call[0], call[2]) if call.get(2) else None, whole), _centred(call[1], call.get(3), whole))


@converter("QLinearMatMul")
def qlinear_matmul(call: Call) -> Results:
    """quantize(dequantize(a) @ dequantize(b))."""
    a = _centred(call[0], _rows(call[0], call[2]), EXACT)
    b = _centred(call[3], call[5], EXACT)
    scaled = _scaled(product(a, b), _rows(call[0], call[1]), call[4])
    return quantized(scaled, call[6], call[7], call[7].type.dtype, np.dtype(np.float32))


@converter("ConvInteger")
def conv_integer(call: Call) -> Results:
    """conv(x - x's zero point, weight - weight's zero point) in int32."""
    return cast(_exact_conv(call, call[0], call.get(2), call[1], call.get(3), None), np.dtype(np.int32))


@converter("QLinearConv")
def qlinear_conv(call: Call) -> Results:
    """quantize(conv(dequantize(x), dequantize(weight)) + bias * scales)."""
    accumulated = _exact_conv(call, call[0], call[2], call[3], call[5], call.get(8))
    scaled = _scaled(accumulated, call[1], _channels(call[4], call[0].type.rank - 1))
    return quantized(scaled, call[6], call[7], call[7].type.dtype, np.dtype(np.float32))


def _exact_conv(call: Call, x: Node, x_zero: Node | None, weight: Node, weight_zero: Node | None, bias: Node | None) -> Node:
    window = window_of(call, weight.type.shape[2:])
    zero = None if weight_zero is None else _channels(weight_zero, weight.type.rank)
    return Conv(
        _centred(x, x_zero, EXACT),
        _centred(weight, zero, EXACT),
        None if bias is None else cast(bias, EXACT),
        strides=window.strides,
        pads=pads_of(call, window, x.type.shape[2:]),
        dilations=window.dilations,
        groups=call.integer("group"),
    )


def _channels(parameter: Node, rank: int) -> Node:
    """One number for all, or a vector as the first of `rank` axes."""
    return Reshape(parameter, shape=()) if parameter.type.size == 1 else Reshape(parameter, shape=(parameter.type.size, *[1] * (rank - 1)))


def _rows(matrix: Node, parameter: Node) -> Node:
    """A vector with one number for each row of a matrix, as a column."""
    by_row = parameter.type.rank == 1 and parameter.type.size > 1 and matrix.type.rank > 1
    return Reshape(parameter, shape=(parameter.type.size, 1)) if by_row else parameter


def _centred(x: Node, zero: Node | None, dtype: np.dtype) -> Node:
    """x - zero in a dtype that holds the difference."""
    return cast(x, dtype) if zero is None else over(Convert(Operand(0), dtype) - Convert(Operand(1), dtype), x, zero)


def _scaled(x: Node, first: Node, second: Node) -> Node:
    """x * first * second in float32."""
    factors = [Convert(Operand(i), np.dtype(np.float32)) for i in range(3)]
    return over(factors[0] * (factors[1] * factors[2]), x, first, second)
