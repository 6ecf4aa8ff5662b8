"""Sliding windows: arguments that stand for every spatial axis, padding by name, and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ...engine.errors import ModelError
from ...engine.ops import AveragePool, MaxPool
from .trace import layer
from .value import Value, apply, as_value

PerAxis = int | Sequence[int]
"""One number for all spatial axes, or one for each."""
Pairs = tuple[tuple[int, int], ...]
Window = PerAxis | Pairs | Literal["same", "valid", "full"]
"""Padding: the same on both sides, (before, after) pairs, or by name."""


@layer
def max_pool(x: Value, kernel: PerAxis, stride: PerAxis | None = None, pad: Window = 0, dilation: PerAxis = 1, ceil: bool = False) -> Value:
    """The maximum of each window of x (n, c, *spatial); the stride is the kernel unless it is given.

    ceil: a last window that starts inside but reaches beyond the end counts too.
    """
    return apply(MaxPool, x, **_pooling(x, kernel, stride, pad, dilation, "max_pool"), ceil_mode=ceil)


@layer
def average_pool(
    x: Value,
    kernel: PerAxis,
    stride: PerAxis | None = None,
    pad: Window = 0,
    dilation: PerAxis = 1,
    ceil: bool = False,
    count_pad: bool = False,
) -> Value:
    """The mean of each window of x (n, c, *spatial), over the positions inside x, with `count_pad` over the zeros of the pad too."""
    windows = _pooling(x, kernel, stride, pad, dilation, "average_pool")
    return apply(AveragePool, x, **windows, ceil_mode=ceil, count_include_pad=count_pad)


def _pooling(x: Value, kernel: PerAxis, stride: PerAxis | None, pad: Window, dilation: PerAxis, what: str) -> dict[str, Any]:
    spatial = as_value(x, what).shape[2:]
    extents, dilations = per_axis(kernel, len(spatial), what), per_axis(dilation, len(spatial), what)
    strides = extents if stride is None else per_axis(stride, len(spatial), what)
    pads = window_pads(pad, spatial, extents, strides, dilations, what)
    return {"kernel": extents, "strides": strides, "pads": pads, "dilations": dilations}


def per_axis(value: PerAxis, axes: int, what: str) -> tuple[int, ...]:
    """One number an axis; ModelError when there is another number of them."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ModelError(f"{what}: expected one number or {axes}, got {value}")
    return values


def window_pads(
    pad: Window, spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], what: str
) -> Pairs:
    """(before, after) for each axis. "same": ceil(extent / stride) results, the odd zero at the end; "full": every window that meets x."""
    if pad == "valid":
        return ((0, 0),) * len(spatial)
    if pad == "full":
        return tuple((reach, reach) for reach in ((n - 1) * d for n, d in zip(kernel, dilations, strict=True)))
    if pad == "same":
        return tuple(map(_same, spatial, kernel, strides, dilations))
    if isinstance(pad, str):
        raise ModelError(f'{what}: expected pad as numbers, "same", "valid" or "full", got {pad!r}')
    if isinstance(pad, int):
        return ((pad, pad),) * len(spatial)
    pairs = tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in pad)
    if len(pairs) != len(spatial):
        raise ModelError(f"{what}: expected pad as one number, {len(spatial)} numbers or {len(spatial)} pairs, got {pad}")
    return pairs


def _same(extent: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max(0, (-(-extent // stride) - 1) * stride + (kernel - 1) * dilation + 1 - extent)
    return total // 2, total - total // 2
