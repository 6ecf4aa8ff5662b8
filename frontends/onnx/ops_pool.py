"""Poolings. Over whole axes they are reductions; Lp pooling is average pooling of powers."""

from __future__ import annotations

import math

import numpy as np

from ...engine.errors import ModelError
from ...engine.expression import IDENTITY, apply
from ...engine.graph import Constant, Node
from ...engine.ops.elementwise import pointwise
from ...engine.ops.gather import ScatterElements
from ...engine.ops.pool import ArgMaxPool, AveragePool, MaxPool, output_extent
from ...engine.ops.reduce import Reduce
from ...engine.ops.shape import Pad, Reshape
from .convert import Call, Results, converter
from .ops_elementwise import over
from .windows import Pads, Window, given_pads, kernel_of, pads_of, window_of


@converter("MaxPool")
def max_pool(call: Call) -> Results:
    """The maxima and, where asked for, their positions."""
    window, pads, ceil_mode = _pooling(call)
    settings = {"kernel": window.kernel, "strides": window.strides, "pads": pads, "dilations": window.dilations, "ceil_mode": ceil_mode}
    if not call.wants(1):
        return MaxPool(call[0], **settings)
    return MaxPool(call[0], **settings), ArgMaxPool(call[0], **settings, column_major=bool(call.integer("storage_order")))


@converter("AveragePool")
def average_pool(call: Call) -> Results:
    """The mean of each window."""
    window, pads, ceil_mode = _pooling(call)
    return AveragePool(
        call[0],
        kernel=window.kernel,
        strides=window.strides,
        pads=pads,
        dilations=window.dilations,
        ceil_mode=ceil_mode,
        count_include_pad=bool(call.integer("count_include_pad")),
    )


@converter("LpPool")
def lp_pool(call: Call) -> Results:
    """(sum of |x|^p over the window) ^ 1/p."""
    window, pads, ceil_mode = _pooling(call)
    columns = zip(call[0].type.shape[2:], window.kernel, window.strides, pads, window.dilations, strict=True)
    full = []  # pads to the last window's end, since what ceil_mode adds must count as zeros here
    for extent, kernel, stride, (before, after), dilation in columns:
        count = output_extent(extent, kernel, stride, (before, after), dilation, ceil_mode)
        full.append((before, max(after, (count - 1) * stride + (kernel - 1) * dilation + 1 - extent - before)))
    p = exponent_of(call)
    powers = Pad(power_of(call[0], p), pads=((0, 0), (0, 0), *full))
    means = AveragePool(powers, kernel=window.kernel, strides=window.strides, dilations=window.dilations)
    return root_of(over(IDENTITY * float(math.prod(window.kernel)), means), p)


@converter("GlobalMaxPool", "GlobalAveragePool")
def global_pool(call: Call) -> Results:
    """The maximum or mean of each channel."""
    return Reduce(call[0], kind="max" if call.op == "GlobalMaxPool" else "mean", axes=_spatial(call))


@converter("GlobalLpPool")
def global_lp_pool(call: Call) -> Results:
    """(sum of |x|^p of each channel) ^ 1/p."""
    p = exponent_of(call)
    return root_of(Reduce(power_of(call[0], p), kind="sum", axes=_spatial(call)), p)


@converter("MaxUnpool")
def max_unpool(call: Call) -> Results:
    """Zeros, with each x at the position that MaxPool told; a larger output_shape adds zeros at the end."""
    x, kernel = call[0], kernel_of(call)
    window, pads = window_of(call, kernel), given_pads(call, len(kernel))
    columns = zip(x.type.shape[2:], window.strides, kernel, pads, strict=True)
    shape = (*x.type.shape[:2], *((n - 1) * stride + k - before - after for n, stride, k, (before, after) in columns))
    zeros = Constant(np.zeros(math.prod(shape), x.type.dtype))
    scattered = ScatterElements(zeros, Reshape(call[1], shape=(x.type.size,)), Reshape(x, shape=(x.type.size,)), axis=0)
    placed = Reshape(scattered, shape=shape)
    if call.get(2) is None:
        return placed
    wanted = tuple(int(n) for n in call.value(2).reshape(-1))
    if len(wanted) != len(shape) or any(n < m for n, m in zip(wanted, shape, strict=True)):
        raise ModelError(f"expected an output_shape of at least {shape}, got {wanted}")
    return Pad(placed, pads=tuple((0, n - m) for n, m in zip(wanted, shape, strict=True)))


def exponent_of(call: Call) -> int:
    """The attribute p of an Lp pooling."""
    if (p := call.integer("p")) < 1:
        raise ModelError(f"expected p of at least 1, got {p}")
    return p


def power_of(x: Node, p: int) -> Node:
    """|x|^p."""
    return over(IDENTITY * IDENTITY, x) if p == 2 else over(apply("pow", apply("abs", IDENTITY), p), x) if p != 1 else pointwise("abs", x)


def root_of(x: Node, p: int) -> Node:
    """x ^ 1/p."""
    return pointwise("sqrt", x) if p == 2 else pointwise("pow", x, 1 / p) if p != 1 else x


def _pooling(call: Call) -> tuple[Window, Pads, bool]:
    window = window_of(call, kernel_of(call))
    return window, pads_of(call, window, call[0].type.shape[2:]), bool(call.integer("ceil_mode", 0))


def _spatial(call: Call) -> tuple[int, ...]:
    if call[0].type.rank < 3:
        raise ModelError(f"expected x (n, c, *spatial), got {call[0].type}")
    return tuple(range(2, call[0].type.rank))
