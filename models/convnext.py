"""ConvNeXt (Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s, 2022); parameters are named as in torchvision.

Stochastic depth, which matters in training only, is left out.
"""

from __future__ import annotations

from ..frontends.dsl import (
    Value,
    conv,
    convolve,
    flatten,
    gelu,
    global_average_pool,
    he_normal,
    layer,
    layer_norm,
    linear,
    model,
    normal,
    parameter,
    reshape,
    scope,
    uniform,
)
from .blocks import BRANCH_GAIN


@model(image=("batch=1", 3, "height=224", "width=224"))
def convnext_tiny(image: Value) -> Value:
    """ConvNeXt-T, 1000 classes (logits)."""
    return convnext(image, (96, 192, 384, 768), (3, 3, 9, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def convnext_small(image: Value) -> Value:
    """ConvNeXt-S, 1000 classes (logits)."""
    return convnext(image, (96, 192, 384, 768), (3, 3, 27, 3))


def convnext(image: Value, widths: tuple[int, ...], depths: tuple[int, ...], classes: int = 1000) -> Value:
    """A stem that sees patches of 4 x 4, stages of blocks with steps of 2 x 2 between them, and the classifier."""
    x = image
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        with scope(f"features.{2 * stage}"):
            x = conv(norm(x, "0"), width, 2, stride=2, name="1") if stage else norm(conv(x, width, 4, stride=4, name="0"), "1")
        for position in range(depth):
            with scope(f"features.{2 * stage + 1}.{position}"):
                x = block(x)
    x = norm(global_average_pool(x), "classifier.0")
    return linear(flatten(x), classes, name="classifier.2")


def block(x: Value) -> Value:
    """x + scale * (7 x 7 depthwise, norm, 1 x 1 up to four times the channels, gelu, 1 x 1 back)"""
    channels = x.shape[1]
    with scope("block"):
        y = norm(conv(x, channels, 7, pad=3, groups=channels, name="0"), "2")
        y = each_pixel(gelu(each_pixel(y, 4 * channels, name="3")), channels, name="5")
    return x + y * parameter("layer_scale", (channels, 1, 1), uniform(0.5 * BRANCH_GAIN, 1.5 * BRANCH_GAIN))


def norm(x: Value, name: str) -> Value:
    """Layer norm over the channels of each pixel."""
    return layer_norm(x, 1, epsilon=1e-6, name=name)


@layer
def each_pixel(x: Value, channels: int, *, name: str | None = None) -> Value:
    """A 1 x 1 convolution that keeps its weight as linear layers do: (channels, c)."""
    weight = parameter("weight", (channels, x.shape[1]), he_normal(x.shape[1]))
    return convolve(x, reshape(weight, (*weight.shape, 1, 1)), parameter("bias", (channels,), normal(0, 0.1)))
