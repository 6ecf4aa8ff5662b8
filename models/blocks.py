"""Building blocks that several families share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..frontends.dsl import Value, batch_norm, conv, global_average_pool, relu, sigmoid

Activation = Callable[[Value], Value]

BRANCH_GAIN = 0.25
"""How strongly a residual branch starts: the sum of 50 of them must stay in range."""


def conv_norm(
    x: Value,
    channels: int,
    kernel: int | tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    pad: int | tuple[int, ...] | Literal["same"] | None = None,
    gain: float = 1.0,
    epsilon: float = 1e-5,
    names: tuple[str, str] = ("conv", "bn"),
) -> Value:
    """batch_norm(conv(x)) without bias (Ioffe, Szegedy 2015); unless `pad` says otherwise, stride 1 keeps the extents.

    gain: the middle of the scales that the batch norm starts with; names: of the two layers.
    """
    extents = kernel if isinstance(kernel, tuple) else (kernel,) * (len(x.shape) - 2)
    centred = tuple((n - 1) * dilation // 2 for n in extents) if pad is None else pad
    y = conv(x, channels, extents, stride, pad=centred, dilation=dilation, groups=groups, bias=False, name=names[0])
    return batch_norm(y, epsilon, gain, name=names[1])


def squeeze_excitation(
    x: Value, width: int, activation: Activation = relu, gate: Activation = sigmoid, names: tuple[str, str] = ("fc1", "fc2")
) -> Value:
    """x * gate(excite(activation(squeeze(mean of each channel)))), with `width` channels between (Hu, Shen, Sun 2017)."""
    squeezed = activation(conv(global_average_pool(x), width, 1, name=names[0]))
    return x * gate(conv(squeezed, x.shape[1], 1, name=names[1]))


def rounded(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` that is nearest to a scaled number of channels, but at least nine tenths of it (Sandler et al. 2018)."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
