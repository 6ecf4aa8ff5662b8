"""Layers with learned parameters, which are named as PyTorch names them, so that a state_dict fits."""

from __future__ import annotations

import math

import numpy as np

from ...engine.errors import ModelError
from ...engine.ops import BatchNorm, Conv, ConvTranspose, MatMul, Transpose
from .functions import axes_of, mean, reshape, sqrt
from .initial import he_normal, normal, uniform
from .trace import layer, scope
from .value import Value, apply, as_value, parameter, pointwise, whole_numbers
from .windows import PerAxis, Window, per_axis, spatial_extents, window_numbers, window_pads


@layer
def conv(
    x: Value,
    channels: int,
    kernel: PerAxis,
    stride: PerAxis = 1,
    pad: Window = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    bias: bool = True,
    *,
    name: str | None = None,
) -> Value:
    """Convolution of x (n, c, *spatial) to (n, channels, *spatial'); one number for kernel, stride, ... stands for every spatial axis.

    pad: zeros on both sides, one (before, after) pair an axis, "valid" (none), "same" (ceil(extent / stride) results)
        or "full" (every window that meets x).
    groups: how many independent parts the channels fall into; x's channel count makes it depthwise.
    Parameters: weight (channels, c / groups, *kernel), bias (channels,).
    """
    (extents,) = window_numbers("conv", len(spatial_extents(x, "conv")), kernel=kernel)
    share = divided(x.shape[1], groups, "conv")
    weight = parameter("weight", (channels, share, *extents), he_normal(share * math.prod(extents)), dtype=x.dtype)
    added = parameter("bias", (channels,), normal(0, 0.1), dtype=x.dtype) if bias else None
    return convolve(x, weight, added, stride, pad, dilation, groups)


def convolve(
    x: Value, weight: Value, bias: Value | None = None, stride: PerAxis = 1, pad: Window = 0, dilation: PerAxis = 1, groups: int = 1
) -> Value:
    """What `conv` computes, with a weight (channels, c / groups, *kernel) and a bias that were made before: masked, turned, used twice."""
    spatial, extents = spatial_extents(x, "conv"), as_value(weight, "conv").shape[2:]
    strides, dilations = window_numbers("conv", len(spatial), stride=stride, dilation=dilation)
    pads = window_pads(pad, spatial, extents, strides, dilations, "conv")
    return apply(Conv, x, weight, bias, strides=strides, pads=pads, dilations=dilations, groups=groups)


@layer
def conv_transpose(
    x: Value,
    channels: int,
    kernel: PerAxis,
    stride: PerAxis = 1,
    pad: PerAxis | tuple[tuple[int, int], ...] = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    bias: bool = True,
    output_pad: PerAxis = 0,
    *,
    name: str | None = None,
) -> Value:
    """Transposed convolution of x (n, c, *spatial): the result has (extent - 1)*stride + kernel - 2*pad + output_pad positions.

    Parameters: weight (c, channels / groups, *kernel), bias (channels,).
    """
    spatial = spatial_extents(x, "conv_transpose")
    extents, strides, dilations = window_numbers("conv_transpose", len(spatial), kernel=kernel, stride=stride, dilation=dilation)
    extra = per_axis(output_pad, len(spatial), "conv_transpose output_pad", least=0)
    share = divided(x.shape[1], groups, "conv_transpose")
    summed = max(1, share * math.prod(extents) // math.prod(strides))
    shape = (x.shape[1], divided(channels, groups, "conv_transpose"), *extents)
    weight = parameter("weight", shape, he_normal(summed), dtype=x.dtype)
    added = parameter("bias", (channels,), normal(0, 0.1), dtype=x.dtype) if bias else None
    if isinstance(pad, str):
        raise ModelError(f"conv_transpose: expected pad as numbers or (before, after) pairs, got {pad!r}")
    pads = window_pads(pad, spatial, extents, strides, dilations, "conv_transpose")
    return apply(ConvTranspose, x, weight, added, strides=strides, pads=pads, dilations=dilations, output_padding=extra, groups=groups)


@layer
def linear(x: Value, features: int, bias: bool = True, *, name: str | None = None) -> Value:
    """Fully connected: x (n, ..., c) to (n, ..., features). Parameters: weight (features, c), bias (features,)."""
    if len(as_value(x, "linear").shape) < 2 or not np.issubdtype(x.dtype, np.floating):
        raise ModelError(f"linear: expected floating-point x (n, ..., features), got {x.node.type}")
    weight = parameter("weight", (features, x.shape[-1]), he_normal(x.shape[-1]), dtype=x.dtype)
    added = parameter("bias", (features,), normal(0, 0.1), dtype=x.dtype) if bias else None
    with scope("transposed"):
        columns = apply(Transpose, weight, permutation=(1, 0))
    return apply(MatMul, x, columns, added)


@layer
def batch_norm(x: Value, epsilon: float = 1e-5, gain: float = 1.0, *, name: str | None = None) -> Value:
    """(x - running_mean) / sqrt(running_var + epsilon) * weight + bias for each channel of x (n, c, *spatial).

    gain: the middle of what `weight` starts with; a small one at the end of each residual branch keeps deep sums in range.
    Parameters: weight, bias and the statistics running_mean, running_var, all (c,).
    """
    spatial_extents(x, "batch_norm", least=0)
    shape, dtype = (x.shape[1],), x.dtype
    scale = parameter("weight", shape, uniform(0.5 * gain, 1.5 * gain), dtype=dtype)
    shift = parameter("bias", shape, normal(0, 0.1), dtype=dtype)
    average = parameter("running_mean", shape, normal(0, 0.1), dtype=dtype, statistic=True)
    variance = parameter("running_var", shape, uniform(0.5, 1.5), dtype=dtype, statistic=True)
    return apply(BatchNorm, x, scale, shift, average, variance, epsilon=epsilon)


@layer
def layer_norm(x: Value, axes: int | tuple[int, ...] = -1, epsilon: float = 1e-5, *, name: str | None = None) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias, with mean and variance over `axes` (Ba et al. 2016).

    Parameters: weight and bias, of the extents of `axes`.
    """
    chosen = sorted(axes_of(x, axes, "layer_norm"))
    weight = parameter("weight", [x.shape[a] for a in chosen], uniform(0.5, 1.5), dtype=x.dtype)
    bias = parameter("bias", [x.shape[a] for a in chosen], normal(0, 0.1), dtype=x.dtype)
    centred = x - mean(x, chosen)
    spread = sqrt(mean(centred * centred, chosen) + epsilon)
    broadcast = [n if a in chosen else 1 for a, n in enumerate(x.shape)][chosen[0] :]
    return centred / spread * reshape(weight, broadcast) + reshape(bias, broadcast)


@layer
def group_norm(x: Value, groups: int, epsilon: float = 1e-5, *, name: str | None = None) -> Value:
    """Each of `groups` parts of the channels of x (n, c, *spatial) to mean 0 and variance 1, then * weight + bias (Wu and He 2018).

    As many groups as channels are instance normalisation. Parameters: weight and bias, (c,).
    """
    spatial = spatial_extents(x, "group_norm")
    weight = parameter("weight", (x.shape[1],), uniform(0.5, 1.5), dtype=x.dtype)
    bias = parameter("bias", (x.shape[1],), normal(0, 0.1), dtype=x.dtype)
    parts = reshape(x, (x.shape[0], groups, divided(x.shape[1], groups, "group_norm") * math.prod(spatial)))
    centred = parts - mean(parts, 2)
    even = reshape(centred / sqrt(mean(centred * centred, 2) + epsilon), x.shape)
    broadcast = (x.shape[1], *[1] * len(spatial))
    return even * reshape(weight, broadcast) + reshape(bias, broadcast)


@layer
def prelu(x: Value, *, name: str | None = None) -> Value:
    """x where it is positive, weight * x elsewhere. Parameter: weight (c,), a slope for each channel of x (n, c, *spatial)."""
    spatial = spatial_extents(x, "prelu", least=0)
    slope = parameter("weight", (x.shape[1],), uniform(0.1, 0.4), dtype=x.dtype)
    return pointwise("leaky_relu", x, reshape(slope, (x.shape[1], *[1] * len(spatial))))


def divided(channels: int, groups: int, what: str) -> int:
    """channels / groups; ModelError when that is not a whole number."""
    if min(whole_numbers(groups, what)) < 1 or channels % groups:
        raise ModelError(f"{what}: {channels} channels do not divide into {groups} groups")
    return channels // groups
