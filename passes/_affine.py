"""Affine functions a*x + b of one operand, and how a product with constant weights takes them in, at its result or at its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import expression as ex
from ..engine.expression import Apply, Expression, Literal, Operand
from ..engine.graph import Constant, Node
from ..engine.ops import BatchNorm, Conv, ConvTranspose, MatMul
from ..engine.rewrite import skip
from ..engine.tensor import TensorType
from ._regions import Product, channel_axis

Affine = tuple[Any, Any]
"""(a, b) of a*x + b; a is None where x does not occur."""


def affine(expression: Expression, operands: Sequence[np.ndarray | None]) -> Affine | None:
    """(a, b) with expression = a*x + b, where x is the operand given as None and the others are given by value; None if there are none."""
    match expression:
        case Operand(index):
            value = operands[index]
            return (np.float64(1), np.float64(0)) if value is None else (None, value)
        case Literal(number):
            return None, np.float64(number)
        case Apply(function, args):
            parts = [affine(a, operands) for a in args]
            if any(part is None for part in parts):
                return None
            if all(part is not None and part[0] is None for part in parts):
                return None, ex.evaluate(expression, [0 if o is None else o for o in operands])
            return _combine(function, [part for part in parts if part is not None])
    return None


def _combine(function: str, parts: list[Affine]) -> Affine | None:
    match function, parts:
        case "neg", [(a, b)]:
            return -a, -b
        case "add", [(None, c), (a, b)] | [(a, b), (None, c)]:
            return a, b + c
        case "add", [(a, b), (c, d)]:
            return a + c, b + d
        case "sub", [(None, c), (a, b)]:
            return -a, c - b
        case "sub", [(a, b), (None, c)]:
            return a, b - c
        case "sub", [(a, b), (c, d)]:
            return a - c, b - d
        case "mul", [(None, c), (a, b)] | [(a, b), (None, c)]:
            return a * c, b * c
        case "div", [(a, b), (None, c)]:
            return a / c, b / c
    return None


def batchnorm_affine(norm: BatchNorm) -> tuple[np.ndarray, np.ndarray] | None:
    """(g, s) with batchnorm(x) = g*x + s for each channel, in double precision; None unless all parameters are constant."""
    values = []
    for name in ("scale", "shift", "mean", "variance"):
        value = getattr(norm, name)
        if not isinstance(value, Constant):
            return skip(f"the {name} of the batch_norm is not constant")
        values.append(value.data.astype(np.float64))
    scale, shift, mean, variance = values
    gain = scale / np.sqrt(variance + norm.epsilon)
    return gain, shift - mean * gain


def input_axis(node: Product) -> int:
    """The axis of the input that is summed over."""
    return node.a.type.rank - 1 if isinstance(node, MatMul) else 1


def per_channel(value: Any, of: TensorType, axis: int) -> np.ndarray | None:
    """The value as one number for each index along `axis`, in double precision; None if it varies along another axis."""
    array = np.asarray(value, np.float64)
    if array.ndim > of.rank:
        return None
    shape = (1,) * (of.rank - array.ndim) + array.shape
    if any(extent != 1 for i, extent in enumerate(shape) if i != axis):
        return None
    return np.broadcast_to(array.reshape(-1), (of.shape[axis],))


def scale_result(node: Product, gain: np.ndarray, shift: np.ndarray, origin: tuple[str, ...]) -> Node | None:
    """gain*node + shift as the same operator, one gain and shift for each channel of its result."""
    if node.epilogue != ex.IDENTITY or node.extras:
        return skip(f"{node.opname} already has an epilogue")
    bias = _constant(node.bias, gain.size)
    weight = _scaled_weight(node, gain)
    if bias is None or weight is None:
        return None
    return _rebuilt(node, weight, gain * bias + shift, origin)


def scale_input(node: Product, gain: np.ndarray, shift: np.ndarray, x: Node, origin: tuple[str, ...]) -> Node | None:
    """The node over x instead of gain*x + shift, one gain and shift for each input channel."""
    weight = _weight(node)
    if not isinstance(weight, Constant):
        return skip(f"the weight of {node.opname} is not constant")
    changed = node.replace(a=x) if isinstance(node, MatMul) else node.replace(x=x)
    scaled = _by_input_channel(node, weight.data, gain)
    if not shift.any():
        return _rebuilt(changed, scaled, None, origin)
    bias = _constant(node.bias, node.type.shape[channel_axis(node)])
    if bias is None:
        return None
    added = _shifted_by(node, weight.data.astype(np.float64), shift)
    return None if added is None else _rebuilt(changed, scaled, bias + added, origin)


def _by_input_channel(node: Product, weight: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The weight times the gain of its input channel."""
    if isinstance(node, MatMul):
        return _times(weight, gain[:, None])
    if isinstance(node, ConvTranspose):
        return _times(weight, gain.reshape(-1, *[1] * (weight.ndim - 1)))
    grouped = weight.reshape(node.groups, -1, *weight.shape[1:])
    return _times(grouped, gain.reshape(node.groups, 1, -1, *[1] * len(node.kernel))).reshape(weight.shape)


def _by_output_channel(node: Product, weight: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The weight times the gain of its output channel."""
    if isinstance(node, MatMul):
        return _times(weight, gain)
    if isinstance(node, Conv):
        return _times(weight, gain.reshape(-1, *[1] * (weight.ndim - 1)))
    grouped = weight.reshape(node.groups, -1, *weight.shape[1:])
    return _times(grouped, gain.reshape(node.groups, 1, -1, *[1] * len(node.kernel))).reshape(weight.shape)


def _times(weight: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The product rounded once, to the dtype of the weight, and without a copy of the weight in double precision."""
    with np.errstate(over="ignore"):
        return np.multiply(weight, gain, out=np.empty_like(weight), casting="same_kind")


def _shifted_by(node: Product, weight: np.ndarray, shift: np.ndarray) -> np.ndarray | None:
    """What a shift of every input channel adds to each output channel, if that is the same everywhere."""
    if isinstance(node, ConvTranspose):
        return skip("at the borders of conv_transpose fewer taps carry the shift")
    if isinstance(node, MatMul):
        return shift @ weight if weight.ndim == 2 else skip("matmul has a stack of weights")
    if any(map(any, node.pads)):
        return skip("conv pads with zeros, which the shift would have to follow")
    grouped = weight.reshape(node.groups, -1, *weight.shape[1:])
    return (grouped * shift.reshape(node.groups, 1, -1, *[1] * len(node.kernel))).reshape(len(weight), -1).sum(axis=1)


def _weight(node: Product) -> Node:
    return node.b if isinstance(node, MatMul) else node.weight


def _constant(bias: Node | None, size: int) -> np.ndarray | None:
    """The bias as numbers, zeros where there is none; None if it is computed."""
    if bias is None:
        return np.zeros(size)
    if isinstance(bias, Constant):
        return bias.data.astype(np.float64)
    return skip("the bias is not constant")


def _scaled_weight(node: Product, gain: np.ndarray) -> np.ndarray | Node | None:
    """The weight times the gain of its output channel; the weight itself where every gain is 1."""
    weight = _weight(node)
    if (gain == 1).all():
        return weight
    if not isinstance(weight, Constant):
        return skip(f"the weight of {node.opname} is not constant")
    return _by_output_channel(node, weight.data, gain)


def _rebuilt(node: Product, weight: np.ndarray | Node, bias: np.ndarray | None, origin: tuple[str, ...]) -> Node | None:
    """The node with this weight and bias (None: its own), unless they overflow its dtype."""
    dtype = _weight(node).type.dtype
    new_weight = weight if isinstance(weight, Node) else Constant(weight)
    with np.errstate(over="ignore"):
        new_bias = node.bias if bias is None else Constant(bias.astype(dtype))
    for made in (new_weight, new_bias):
        if isinstance(made, Constant) and not np.isfinite(made.data).all():
            return skip(f"the folded weights do not fit {dtype}")
    name = "b" if isinstance(node, MatMul) else "weight"
    return node.replace(**{name: new_weight}, bias=new_bias, origin=origin)
