"""MobileNetV3 (Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le, Adam: Searching for MobileNetV3, 2019).

Parameters are named as in torchvision. The dropout before the classifier does nothing in inference and is left out.
"""

from __future__ import annotations

from functools import partial

from ..frontends.dsl import Value, flatten, global_average_pool, hard_sigmoid, hard_swish, linear, model, relu, scope
from .blocks import Activation, conv_norm, rounded, squeeze_excitation
from .inverted_residual import inverted_residual, torchvision_names

Table = tuple[tuple[int, int, int, bool, Activation, int], ...]
"""Each bottleneck: kernel, expanded channels, channels, squeeze-and-excitation, activation, stride."""

LARGE: Table = (
    (3, 16, 16, False, relu, 1),
    (3, 64, 24, False, relu, 2),
    (3, 72, 24, False, relu, 1),
    (5, 72, 40, True, relu, 2),
    (5, 120, 40, True, relu, 1),
    (5, 120, 40, True, relu, 1),
    (3, 240, 80, False, hard_swish, 2),
    (3, 200, 80, False, hard_swish, 1),
    (3, 184, 80, False, hard_swish, 1),
    (3, 184, 80, False, hard_swish, 1),
    (3, 480, 112, True, hard_swish, 1),
    (3, 672, 112, True, hard_swish, 1),
    (5, 672, 160, True, hard_swish, 2),
    (5, 960, 160, True, hard_swish, 1),
    (5, 960, 160, True, hard_swish, 1),
)
"""The paper's table 1."""

SMALL: Table = (
    (3, 16, 16, True, relu, 2),
    (3, 72, 24, False, relu, 2),
    (3, 88, 24, False, relu, 1),
    (5, 96, 40, True, hard_swish, 2),
    (5, 240, 40, True, hard_swish, 1),
    (5, 240, 40, True, hard_swish, 1),
    (5, 120, 48, True, hard_swish, 1),
    (5, 144, 48, True, hard_swish, 1),
    (5, 288, 96, True, hard_swish, 2),
    (5, 576, 96, True, hard_swish, 1),
    (5, 576, 96, True, hard_swish, 1),
)
"""The paper's table 2."""

EPSILON = 1e-3


@model(image=("batch=1", 3, "height=224", "width=224"))
def mobilenet_v3_large(image: Value) -> Value:
    """MobileNetV3-Large, 1000 classes (logits)."""
    return mobilenet(image, LARGE, 1280)


@model(image=("batch=1", 3, "height=224", "width=224"))
def mobilenet_v3_small(image: Value) -> Value:
    """MobileNetV3-Small, 1000 classes (logits)."""
    return mobilenet(image, SMALL, 1024)


def mobilenet(image: Value, table: Table, hidden: int, classes: int = 1000) -> Value:
    """The bottlenecks of a table, and a last stage that pools before it widens to `hidden` features."""
    x = hard_swish(conv_norm(image, 16, 3, stride=2, epsilon=EPSILON, names=("features.0.0", "features.0.1")))
    for position, (kernel, expanded, channels, squeezed, activation, stride) in enumerate(table, start=1):
        excitation = partial(squeeze_excitation, width=rounded(expanded / 4), gate=hard_sigmoid) if squeezed else None
        with scope(f"features.{position}"):
            x = inverted_residual(x, channels, expanded, kernel, stride, torchvision_names, activation, excitation, EPSILON)
    with scope(f"features.{len(table) + 1}"):
        x = hard_swish(conv_norm(x, 6 * x.shape[1], 1, epsilon=EPSILON, names=("0", "1")))
    x = hard_swish(linear(flatten(global_average_pool(x)), hidden, name="classifier.0"))
    return linear(x, classes, name="classifier.3")
