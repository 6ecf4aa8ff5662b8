"""Sliding windows: arguments that stand for every spatial axis, padding by name, and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ...engine.errors import ModelError
from ...engine.ops import AveragePool, MaxPool
from .trace import layer
from .value import Value, apply, as_value, whole_numbers

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
    spatial = spatial_extents(x, what, floating=False)
    steps = kernel if stride is None else stride
    extents, strides, dilations = window_numbers(what, len(spatial), kernel=kernel, stride=steps, dilation=dilation)
    pads = window_pads(pad, spatial, extents, strides, dilations, what)
    if any(max(pair) > (n - 1) * d for pair, n, d in zip(pads, extents, dilations, strict=True)):
        raise ModelError(f"{what}: pad {pad} lets windows of {extents} see nothing of x; expected less pad than kernel")
    return {"kernel": extents, "strides": strides, "pads": pads, "dilations": dilations}


def spatial_extents(x: Any, what: str, least: int = 1, floating: bool = True) -> tuple[int, ...]:
    """The extents after batch and channels. ModelError unless x is a value, `floating` or any, with at least `least` of them."""
    shape = as_value(x, what).shape
    if len(shape) < 2 + least or (floating and not np.issubdtype(x.dtype, np.floating)):
        expected = f"{'floating-point ' if floating else ''}x (n, c{', *spatial' if least else ''})"
        raise ModelError(f"{what}: expected {expected}, got {x.node.type}")
    return shape[2:]


def per_axis(value: PerAxis, axes: int, what: str, least: int = 1) -> tuple[int, ...]:
    """One whole number an axis. ModelError when there is another number of them, and for one below `least`."""
    values = whole_numbers(value, what, least) * (1 if np.iterable(value) else axes)
    if len(values) != axes:
        raise ModelError(f"{what}: expected one number or {axes}, got {value}")
    return values


def window_numbers(what: str, axes: int, **given: PerAxis) -> list[tuple[int, ...]]:
    """Arguments of a layer, each as one number an axis. ModelError that names the argument where they are not."""
    return [per_axis(value, axes, f"{what} {name}") for name, value in given.items()]


def window_pads(
    pad: Window, spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], what: str
) -> Pairs:
    """(before, after) for each axis. ModelError for anything but the names, one number, and a number or a pair an axis.

    "same": ceil(extent / stride) results, the odd zero at the end; "full": every window that meets x.
    """
    if pad == "valid":
        return ((0, 0),) * len(spatial)
    if pad == "full":
        return tuple((reach, reach) for reach in ((n - 1) * d for n, d in zip(kernel, dilations, strict=True)))
    if pad == "same":
        return tuple(map(_same, spatial, kernel, strides, dilations))
    if isinstance(pad, str):
        raise ModelError(f'{what}: expected pad as numbers, "same", "valid" or "full", got {pad!r}')
    sides = pad if isinstance(pad, Sequence) else (pad,) * len(spatial)
    pairs = tuple((before, after) for before, after in (per_axis(side, 2, f"{what} pad", least=0) for side in sides))
    if len(pairs) != len(spatial):
        raise ModelError(f"{what}: expected pad as one number, {len(spatial)} numbers or {len(spatial)} pairs, got {pad}")
    return pairs


def _same(extent: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max(0, (-(-extent // stride) - 1) * stride + (kernel - 1) * dilation + 1 - extent)
    return total // 2, total - total // 2
