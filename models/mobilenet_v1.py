"""MobileNetV1 (Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam: MobileNets: efficient convolutional neural networks for
mobile vision applications, 2017).

Parameters are named as in timm; as in timm and the authors' code, but not in the paper, activations end at 6. The paper's resolution
multiplier is the size of the image.
"""

from __future__ import annotations

from ..frontends.dsl import Value, flatten, global_average_pool, linear, model, relu6, scope
from .blocks import conv_norm, rounded

STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))
"""The paper's table 1: channels, stride of the first block, number of depthwise separable blocks."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def mobilenet_v1(image: Value) -> Value:
    """MobileNetV1, 1000 classes (logits)."""
    return mobilenet(image)


@model(image=("batch=1", 3, "height=224", "width=224"))
def mobilenet_v1_050(image: Value) -> Value:
    """MobileNetV1 with width multiplier 0.5, 1000 classes (logits)."""
    return mobilenet(image, width=0.5)


def mobilenet(image: Value, width: float = 1.0, classes: int = 1000) -> Value:
    """A full convolution, 13 separable ones, and the classifier; `width` multiplies all channels."""
    x = relu6(conv_norm(image, rounded(32 * width), 3, stride=2, names=("conv_stem", "bn1")))
    for stage, (channels, stride, depth) in enumerate(STAGES):
        for position in range(depth):
            with scope(f"blocks.{stage}.{position}"):
                x = separable(x, rounded(channels * width), stride if position == 0 else 1)
    return linear(flatten(global_average_pool(x)), classes, name="classifier")


def separable(x: Value, channels: int, stride: int) -> Value:
    """A 3 x 3 convolution of each channel for itself, then a 1 x 1 convolution that mixes them"""
    x = relu6(conv_norm(x, x.shape[1], 3, stride, groups=x.shape[1], names=("conv_dw", "bn1")))
    return relu6(conv_norm(x, channels, 1, names=("conv_pw", "bn2")))
