"""Windows as data, and the layer that has weights of its own at every position."""

from __future__ import annotations

import itertools
import math

from ...engine.errors import ModelError
from .functions import concat, pad, reshape, transpose
from .initial import he_normal, normal
from .trace import layer
from .value import Value, parameter
from .windows import PerAxis, Window, spatial_extents, window_numbers, window_pads


@layer
def unfold(x: Value, kernel: PerAxis, stride: PerAxis = 1, pad: Window = 0, dilation: PerAxis = 1) -> Value:
    """What each window of x (n, c, *spatial) sees, as channels: (n, c * taps, *positions), the taps of one channel together."""
    spatial = spatial_extents(x, "unfold", floating=False)
    n, channels = x.shape[:2]
    extents, strides, dilations = window_numbers("unfold", len(spatial), kernel=kernel, stride=stride, dilation=dilation)
    padded = bordered(x, window_pads(pad, spatial, extents, strides, dilations, "unfold"))
    ends = [size - (extent - 1) * step for size, extent, step in zip(padded.shape[2:], extents, dilations, strict=True)]
    if min(ends, default=1) < 1:
        raise ModelError(f"unfold: the kernel {extents} is larger than the padded input {padded.shape}")
    taps = [
        padded[..., *(slice(t * d, t * d + end, s) for t, d, end, s in zip(tap, dilations, ends, strides, strict=True))]
        for tap in itertools.product(*map(range, extents))
    ]
    positions = taps[0].shape[2:]
    stacked = concat(*(reshape(seen, (n, channels, 1, *positions)) for seen in taps), axis=2)
    return reshape(stacked, (n, channels * len(taps), *positions))


def bordered(x: Value, pads: tuple[tuple[int, int], ...]) -> Value:
    """x (n, c, *spatial) with zeros around it"""
    return pad(x, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else x


@layer
def locally_connected(
    x: Value, channels: int, kernel: PerAxis, stride: PerAxis = 1, pad: Window = 0, bias: bool = True, *, name: str | None = None
) -> Value:
    """A convolution that shares no weights between positions: each window of x (n, c, *spatial) meets a matrix of its own.

    Parameters: weight (*positions, c * taps, channels), whose rows are the order of `unfold`, and bias (channels, *positions).
    """
    spatial_extents(x, "locally_connected")
    windows = unfold(x, kernel, stride, pad)
    n, inputs, *positions = windows.shape
    weight = parameter("weight", (*positions, inputs, channels), he_normal(inputs), dtype=x.dtype)
    at = tuple(range(2, 2 + len(positions)))
    rows = reshape(transpose(windows, (*at, 0, 1)), (math.prod(positions), n, inputs))
    found = rows @ reshape(weight, (math.prod(positions), inputs, channels))
    y = reshape(transpose(found, (1, 2, 0)), (n, channels, *positions))
    return y + parameter("bias", (channels, *positions), normal(0, 0.1), dtype=x.dtype) if bias else y
