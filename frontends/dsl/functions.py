"""Layers without parameters: activations, data movement, reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...engine.errors import ModelError
from ...engine.ops import LRN, Concat, Expand, Pad, Reduce, Reshape, Resize, Softmax, Transpose
from .trace import layer
from .value import Operand, Value, apply, as_value, pointwise, whole_numbers
from .windows import PerAxis, per_axis, spatial_extents


def relu(x: Value) -> Value:
    """max(x, 0)"""
    return pointwise("relu", x)


def relu6(x: Value) -> Value:
    """min(max(x, 0), 6)"""
    return clip(x, 0, 6)


def leaky_relu(x: Value, slope: float = 0.01) -> Value:
    """x where it is positive, slope * x elsewhere"""
    return pointwise("leaky_relu", x, slope)


def elu(x: Value, scale: float = 1.0) -> Value:
    """x where it is positive, scale * (exp(x) - 1) elsewhere"""
    return pointwise("elu", x, scale)


def tanh(x: Value) -> Value:
    """The hyperbolic tangent"""
    return pointwise("tanh", x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))"""
    return pointwise("sigmoid", x)


def silu(x: Value) -> Value:
    """x * sigmoid(x), also called swish"""
    return pointwise("silu", x)


def gelu(x: Value, approximate: bool = False) -> Value:
    """x * the normal distribution function of x; `approximate` by tanh (Hendrycks and Gimpel 2016)"""
    return pointwise("gelu_tanh" if approximate else "gelu", x)


def mish(x: Value) -> Value:
    """x * tanh(softplus(x))"""
    return pointwise("mish", x)


def softplus(x: Value) -> Value:
    """log(1 + exp(x))"""
    return pointwise("softplus", x)


def hard_sigmoid(x: Value) -> Value:
    """x/6 + 1/2 between 0 and 1"""
    return pointwise("hard_sigmoid", x, 1 / 6, 0.5)


def hard_swish(x: Value) -> Value:
    """x * hard_sigmoid(x)"""
    return pointwise("hard_swish", x)


def clip(x: Value, low: float, high: float) -> Value:
    """x, but at least low and at most high"""
    return pointwise("clip", x, low, high)


def exp(x: Value) -> Value:
    """e to the power x"""
    return pointwise("exp", x)


def log(x: Value) -> Value:
    """The natural logarithm"""
    return pointwise("log", x)


def sqrt(x: Value) -> Value:
    """The square root"""
    return pointwise("sqrt", x)


def maximum(a: Operand, b: Operand) -> Value:
    """The larger of a and b, element by element"""
    return pointwise("max", a, b)


def minimum(a: Operand, b: Operand) -> Value:
    """The smaller of a and b, element by element"""
    return pointwise("min", a, b)


def where(condition: Value, a: Operand, b: Operand) -> Value:
    """a where the condition holds, b elsewhere"""
    return pointwise("where", condition, a, b)


@layer
def softmax(x: Value, axis: int = -1, log: bool = False) -> Value:
    """exp(x) / sum of exp(x) along an axis; with `log` the logarithm of that"""
    return apply(Softmax, x, axis=axes_of(x, axis, "softmax")[0], log=log)


@layer
def local_response_norm(x: Value, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Value:
    """x / (bias + alpha/size * sum of squares over `size` channels around) ^ beta, as in Caffe, PyTorch and ONNX, and by their defaults"""
    return apply(LRN, x, size=size, alpha=alpha, beta=beta, bias=bias)


@layer
def mean(x: Value, axes: int | Sequence[int], keep: bool = True) -> Value:
    """The mean over axes, which stay with extent 1 or, without `keep`, go"""
    return apply(Reduce, x, kind="mean", axes=axes_of(x, axes, "mean"), keepdims=keep)


@layer
def total(x: Value, axes: int | Sequence[int], keep: bool = True) -> Value:
    """The sum over axes, which stay with extent 1 or, without `keep`, go"""
    return apply(Reduce, x, kind="sum", axes=axes_of(x, axes, "total"), keepdims=keep)


@layer
def largest(x: Value, axes: int | Sequence[int], keep: bool = True) -> Value:
    """The maximum over axes, which stay with extent 1 or, without `keep`, go"""
    return apply(Reduce, x, kind="max", axes=axes_of(x, axes, "largest"), keepdims=keep)


@layer
def global_average_pool(x: Value) -> Value:
    """The mean of each channel: (n, c, *spatial) to (n, c, 1, ...)"""
    spatial = spatial_extents(x, "global_average_pool")
    return apply(Reduce, x, kind="mean", axes=tuple(range(2, 2 + len(spatial))))


@layer
def global_max_pool(x: Value) -> Value:
    """The maximum of each channel: (n, c, *spatial) to (n, c, 1, ...)"""
    spatial = spatial_extents(x, "global_max_pool", floating=False)
    return apply(Reduce, x, kind="max", axes=tuple(range(2, 2 + len(spatial))))


@layer
def concat(*values: Value, axis: int = 1) -> Value:
    """The values one after the other along an axis, the channels unless it is given"""
    if not values:
        raise ModelError("concat: expected at least one value")
    return apply(Concat, tuple(as_value(v, "concat") for v in values), axis=axes_of(values[0], axis, "concat")[0])


@layer
def reshape(x: Value, shape: int | Sequence[int]) -> Value:
    """The elements of x, in row-major order, under another shape; one extent may be -1: what is left"""
    extents = whole_numbers(shape, "reshape", least=-1)
    if extents.count(-1) > 1:
        raise ModelError(f"reshape: expected at most one -1, got {extents}")
    known = math.prod(n for n in extents if n != -1)
    rest = math.prod(as_value(x, "reshape").shape) // known if known else 0
    return apply(Reshape, x, shape=tuple(rest if n == -1 else n for n in extents))


@layer
def flatten(x: Value, axis: int = 1) -> Value:
    """All axes from `axis` on as one"""
    (first,) = axes_of(x, axis, "flatten")
    return apply(Reshape, x, shape=(*x.shape[:first], math.prod(x.shape[first:])))


@layer
def transpose(x: Value, permutation: Sequence[int]) -> Value:
    """Axis k of the result is axis permutation[k] of x"""
    return apply(Transpose, x, permutation=whole_numbers(permutation, "transpose"))


@layer
def expand(x: Value, shape: Sequence[int]) -> Value:
    """x repeated along axes of extent 1 and new leading axes, to a shape"""
    return apply(Expand, x, shape=whole_numbers(shape, "expand"))


@layer
def pad(x: Value, pads: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0) -> Value:
    """x with (before, after) more elements on each axis: `value`, or by the modes "reflect", "edge" and "wrap" from x itself"""
    if not np.iterable(pads):
        raise ModelError(f"pad: expected a pair (before, after) for each axis, got {pads!r}")
    return apply(Pad, x, pads=tuple(per_axis(pair, 2, "pad", least=0) for pair in pads), mode=mode, value=value)


@layer
def resize(x: Value, extents: PerAxis, mode: str = "nearest", align_corners: bool = False) -> Value:
    """x (n, c, *spatial) with other spatial extents: pixels repeated or dropped, or blended by the modes "linear" and "cubic".

    align_corners: the outermost pixels stay where they are, instead of the outer edges of the outermost pixels.
    """
    spatial = spatial_extents(x, "resize", floating=False)
    wanted = per_axis(extents, len(spatial), "resize", least=0)
    if mode == "nearest":
        how = {"coordinates": "asymmetric", "nearest_rounding": "floor"}
    else:
        how = {"coordinates": "align_corners" if align_corners else "half_pixel"}
    scales = (1.0, 1.0, *(n / before if before else 1.0 for n, before in zip(wanted, spatial, strict=True)))
    return apply(Resize, x, shape=(*x.shape[:2], *wanted), scales=scales, mode=mode, **how)


def upsample(x: Value, factor: PerAxis, mode: str = "nearest", align_corners: bool = False) -> Value:
    """Every spatial extent of x (n, c, *spatial) times a factor, as `resize` does it"""
    spatial = spatial_extents(x, "upsample", floating=False)
    return resize(x, [n * f for n, f in zip(spatial, per_axis(factor, len(spatial), "upsample"), strict=True)], mode, align_corners)


def split(x: Value, sizes: int | Sequence[int], axis: int = 1) -> list[Value]:
    """x in parts along an axis: of these extents, or this many equal ones"""
    (axis,) = axes_of(x, axis, "split")
    extent = x.shape[axis]
    given = whole_numbers(sizes, "split", least=1)
    extents = given if np.iterable(sizes) else (extent // given[0],) * given[0]
    if sum(extents) != extent:
        raise ModelError(f"split: axis {axis} of extent {extent} does not fall into parts {sizes}")
    starts = [sum(extents[:i]) for i in range(len(extents))]
    return [x[(*[slice(None)] * axis, slice(start, start + n))] for start, n in zip(starts, extents, strict=True)]


def axes_of(x: Any, axes: int | Sequence[int], what: str) -> tuple[int, ...]:
    """The axes counted from the front. ModelError for one that x does not have."""
    rank = len(as_value(x, what).shape)
    chosen = whole_numbers(axes, what, least=None)
    for axis in chosen:
        if not -rank <= axis < rank:
            raise ModelError(f"{what}: expected axes from {-rank} to {rank - 1}, got {axis}")
    return tuple(axis % rank for axis in chosen)
