"""EfficientNet (Tan, Le: EfficientNet: rethinking model scaling for convolutional neural networks, 2019).

Parameters are named as in torchvision. Dropout and stochastic depth do nothing in inference and are left out.
"""

from __future__ import annotations

import math
from functools import partial

from ..frontends.dsl import Value, flatten, global_average_pool, linear, model, scope, silu
from .blocks import conv_norm, rounded, squeeze_excitation
from .inverted_residual import inverted_residual, torchvision_names

STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
"""The paper's table 1, stages 2 to 8 of B0: expansion, kernel, channels, layers, stride of the first."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def efficientnet_b0(image: Value) -> Value:
    """EfficientNet-B0, 1000 classes (logits)."""
    return efficientnet(image, width=1.0, depth=1.0)


@model(image=("batch=1", 3, "height=240", "width=240"))
def efficientnet_b1(image: Value) -> Value:
    """EfficientNet-B1, 1000 classes (logits)."""
    return efficientnet(image, width=1.0, depth=1.1)


@model(image=("batch=1", 3, "height=260", "width=260"))
def efficientnet_b2(image: Value) -> Value:
    """EfficientNet-B2, 1000 classes (logits)."""
    return efficientnet(image, width=1.1, depth=1.2)


@model(image=("batch=1", 3, "height=300", "width=300"))
def efficientnet_b3(image: Value) -> Value:
    """EfficientNet-B3, 1000 classes (logits)."""
    return efficientnet(image, width=1.2, depth=1.4)


@model(image=("batch=1", 3, "height=380", "width=380"))
def efficientnet_b4(image: Value) -> Value:
    """EfficientNet-B4, 1000 classes (logits)."""
    return efficientnet(image, width=1.4, depth=1.8)


@model(image=("batch=1", 3, "height=456", "width=456"))
def efficientnet_b5(image: Value) -> Value:
    """EfficientNet-B5, 1000 classes (logits)."""
    return efficientnet(image, width=1.6, depth=2.2, epsilon=1e-3)


@model(image=("batch=1", 3, "height=528", "width=528"))
def efficientnet_b6(image: Value) -> Value:
    """EfficientNet-B6, 1000 classes (logits)."""
    return efficientnet(image, width=1.8, depth=2.6, epsilon=1e-3)


@model(image=("batch=1", 3, "height=600", "width=600"))
def efficientnet_b7(image: Value) -> Value:
    """EfficientNet-B7, 1000 classes (logits)."""
    return efficientnet(image, width=2.0, depth=3.1, epsilon=1e-3)


def efficientnet(image: Value, width: float, depth: float, classes: int = 1000, epsilon: float = 1e-5) -> Value:
    """B0 with `width` times the channels and `depth` times the layers, rounded up; the image grows along (compound scaling)."""
    x = silu(conv_norm(image, rounded(32 * width), 3, stride=2, epsilon=epsilon, names=("features.0.0", "features.0.1")))
    for stage, (expansion, kernel, channels, layers, first_stride) in enumerate(STAGES, start=1):
        for position in range(math.ceil(layers * depth)):
            excitation = partial(squeeze_excitation, width=x.shape[1] // 4, activation=silu)
            with scope(f"features.{stage}.{position}"):
                x = inverted_residual(
                    x,
                    channels=rounded(channels * width),
                    expanded=expansion * x.shape[1],
                    kernel=kernel,
                    stride=1 if position else first_stride,
                    names=torchvision_names,
                    activation=silu,
                    excitation=excitation,
                    epsilon=epsilon,
                )
    x = silu(conv_norm(x, rounded(1280 * width), 1, epsilon=epsilon, names=("features.8.0", "features.8.1")))
    return linear(flatten(global_average_pool(x)), classes, name="classifier.1")
