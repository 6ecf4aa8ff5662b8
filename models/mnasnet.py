"""MnasNet (Tan, Chen, Pang, Vasudevan, Sandler, Howard, Le: MnasNet: platform-aware neural architecture search for mobile, 2018).

Parameters are named as torchvision names those of B1. The dropout before the classifier does nothing in inference and is left out.
"""

from __future__ import annotations

from functools import partial

from ..frontends.dsl import Value, flatten, global_average_pool, linear, model, relu, scope
from .blocks import conv_norm, rounded, squeeze_excitation
from .inverted_residual import Part, inverted_residual

Stages = tuple[tuple[int, int, int, int, int, bool], ...]
"""Each stage: expansion, kernel, channels, repetitions, stride of the first, squeeze-and-excitation."""

A1: Stages = (
    (6, 3, 24, 2, 2, False),
    (3, 5, 40, 3, 2, True),
    (6, 3, 80, 4, 2, False),
    (6, 3, 112, 2, 1, True),
    (6, 5, 160, 3, 2, True),
    (6, 3, 320, 1, 1, False),
)
"""The paper's figure 7, from its first MBConv on."""

B1: Stages = (
    (3, 3, 24, 3, 2, False),
    (3, 5, 40, 3, 2, False),
    (6, 5, 80, 3, 2, False),
    (6, 3, 96, 2, 1, False),
    (6, 5, 192, 4, 2, False),
    (6, 3, 320, 1, 1, False),
)
"""What the search finds where squeeze-and-excitation is no choice."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def mnasnet_a1(image: Value) -> Value:
    """MnasNet-A1, with squeeze-and-excitation, 1000 classes (logits)."""
    return mnasnet(image, A1)


@model(image=("batch=1", 3, "height=224", "width=224"))
def mnasnet1_0(image: Value) -> Value:
    """MnasNet-B1 with width multiplier 1, 1000 classes (logits)."""
    return mnasnet(image, B1)


def mnasnet(image: Value, stages: Stages, width: float = 1.0, classes: int = 1000) -> Value:
    """A convolution, a separable one and the stages, with `width` times the channels, and 1280 features for the classifier."""
    x = relu(conv_norm(image, rounded(32 * width), 3, stride=2, names=("layers.0", "layers.1")))
    with scope("layers"):
        x = inverted_residual(x, rounded(16 * width), x.shape[1], 3, 1, names)
    for stage, (expansion, kernel, channels, repetitions, first_stride, squeezed) in enumerate(stages, start=8):
        for repetition in range(repetitions):
            excitation = partial(squeeze_excitation, width=x.shape[1] // 4) if squeezed else None
            with scope(f"layers.{stage}.{repetition}.layers"):
                stride = 1 if repetition else first_stride
                expanded = expansion * x.shape[1]
                x = inverted_residual(x, rounded(channels * width), expanded, kernel, stride, names, excitation=excitation)
    x = relu(conv_norm(x, 1280, 1, names=("layers.14", "layers.15")))
    return linear(flatten(global_average_pool(x)), classes, name="classifier.1")


def names(part: Part, _: int) -> tuple[str, str]:
    """torchvision gives convolution, norm and activation a number each; it has no squeeze-and-excitation."""
    return {"expand": ("0", "1"), "depthwise": ("3", "4"), "squeeze": ("squeeze", "excite"), "project": ("6", "7")}[part]
