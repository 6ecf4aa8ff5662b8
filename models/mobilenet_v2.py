"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: inverted residuals and linear bottlenecks, 2018).

Parameters are named as in torchvision. The dropout before the classifier does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, flatten, global_average_pool, linear, model, relu6, scope
from .blocks import conv_norm, rounded
from .inverted_residual import Part, inverted_residual

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""The paper's table 2: expansion t, channels c, repetitions n, stride of the first s."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def mobilenet_v2(image: Value) -> Value:
    """MobileNetV2 with width multiplier 1, 1000 classes (logits)."""
    return mobilenet(image)


def mobilenet(image: Value, width: float = 1.0, classes: int = 1000) -> Value:
    """All stages with `width` times the channels; only a wider network has more features before the classifier."""
    x = relu6(conv_norm(image, rounded(32 * width), 3, stride=2, names=("features.0.0", "features.0.1")))
    position = 1
    for expansion, channels, repetitions, first_stride in STAGES:
        for repetition in range(repetitions):
            with scope(f"features.{position}"):
                stride = 1 if repetition else first_stride
                x = inverted_residual(x, rounded(channels * width), expansion * x.shape[1], 3, stride, names, relu6)
            position += 1
    x = relu6(conv_norm(x, rounded(1280 * max(1.0, width)), 1, names=(f"features.{position}.0", f"features.{position}.1")))
    return linear(flatten(global_average_pool(x)), classes, name="classifier.1")


def names(part: Part, position: int) -> tuple[str, str]:
    """torchvision keeps a convolution, its norm and its activation together, but the projection has no activation."""
    return (f"conv.{position}", f"conv.{position + 1}") if part == "project" else (f"conv.{position}.0", f"conv.{position}.1")
