"""The inverted residual with a linear bottleneck, which MobileNetV2, V3, MnasNet and EfficientNet consist of (Sandler et al. 2018)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

from ..frontends.dsl import Value, relu
from .blocks import BRANCH_GAIN, Activation, conv_norm

Part = Literal["expand", "depthwise", "squeeze", "project"]
Names = Callable[[Part, int], tuple[str, str]]
"""What the two layers of a part are called that is the n-th of its block, counted from 0."""


def inverted_residual(
    x: Value,
    channels: int,
    expanded: int,
    kernel: int,
    stride: int,
    names: Names,
    activation: Activation = relu,
    excitation: Callable[..., Value] | None = None,
    epsilon: float = 1e-5,
) -> Value:
    """x + project(excitation(depthwise(expand(x)))): narrow, wide, narrow, and no activation at the end.

    Without the expansion where it would not widen x, without the excitation unless it is given, and without x where the shape changes.
    """
    part = itertools.count()
    shortcut = stride == 1 and x.shape[1] == channels
    y = x
    if expanded != x.shape[1]:
        y = activation(conv_norm(y, expanded, 1, epsilon=epsilon, names=names("expand", next(part))))
    depthwise = names("depthwise", next(part))
    y = activation(conv_norm(y, expanded, kernel, stride, groups=expanded, epsilon=epsilon, names=depthwise))
    if excitation:
        y = excitation(y, names=names("squeeze", next(part)))
    gain = BRANCH_GAIN if shortcut else 1.0
    y = conv_norm(y, channels, 1, gain=gain, epsilon=epsilon, names=names("project", next(part)))
    return x + y if shortcut else y


def torchvision_names(part: Part, position: int) -> tuple[str, str]:
    """As torchvision calls them in MobileNetV3 and EfficientNet."""
    return (f"block.{position}.fc1", f"block.{position}.fc2") if part == "squeeze" else (f"block.{position}.0", f"block.{position}.1")
