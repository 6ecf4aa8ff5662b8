"""ResNet (He, Zhang, Ren, Sun: Deep residual learning for image recognition, 2015); parameters are named as in torchvision.

Bottlenecks have their stride in the 3 x 3 convolution.
"""

from __future__ import annotations

from collections.abc import Callable

from ..frontends.dsl import Value, flatten, global_average_pool, linear, max_pool, model, relu, scope
from .blocks import conv_norm

Block = Callable[[Value, int, int], Value]
WIDTHS = (64, 128, 256, 512)
BRANCH_GAIN = 0.25
"""How strongly a residual branch starts: the sum of 50 of them must stay in range."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet18(image: Value) -> Value:
    """ResNet-18, 1000 classes (logits)."""
    return resnet(image, basic, (2, 2, 2, 2))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet34(image: Value) -> Value:
    """ResNet-34, 1000 classes (logits)."""
    return resnet(image, basic, (3, 4, 6, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet50(image: Value) -> Value:
    """ResNet-50, 1000 classes (logits)."""
    return resnet(image, bottleneck, (3, 4, 6, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet101(image: Value) -> Value:
    """ResNet-101, 1000 classes (logits)."""
    return resnet(image, bottleneck, (3, 4, 23, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet152(image: Value) -> Value:
    """ResNet-152, 1000 classes (logits)."""
    return resnet(image, bottleneck, (3, 8, 36, 3))


def resnet(image: Value, block: Block, depths: tuple[int, ...], classes: int = 1000) -> Value:
    """The stem, a stage of `depth` blocks for each of `depths`, and the classifier."""
    x = relu(conv_norm(image, 64, 7, stride=2, names=names(1)))
    x = max_pool(x, 3, stride=2, pad=1)
    for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=1):
        for position in range(depth):
            with scope(f"layer{stage}.{position}"):
                x = block(x, width, 2 if stage > 1 and position == 0 else 1)
    return linear(flatten(global_average_pool(x)), classes, name="fc")


def basic(x: Value, width: int, stride: int) -> Value:
    """relu(3 x 3, 3 x 3, + x)"""
    y = relu(conv_norm(x, width, 3, stride, names=names(1)))
    y = conv_norm(y, width, 3, names=names(2), gain=BRANCH_GAIN)
    return relu(y + shortcut(x, width, stride))


def bottleneck(x: Value, width: int, stride: int) -> Value:
    """relu(1 x 1 down, 3 x 3, 1 x 1 up to four times the width, + x)"""
    y = relu(conv_norm(x, width, 1, names=names(1)))
    y = relu(conv_norm(y, width, 3, stride, names=names(2)))
    y = conv_norm(y, 4 * width, 1, names=names(3), gain=BRANCH_GAIN)
    return relu(y + shortcut(x, 4 * width, stride))


def shortcut(x: Value, channels: int, stride: int) -> Value:
    """x itself, or a 1 x 1 projection where the shape changes"""
    if stride == 1 and x.shape[1] == channels:
        return x
    with scope("downsample"):
        return conv_norm(x, channels, 1, stride, names=("0", "1"))


def names(index: int) -> tuple[str, str]:
    """What a convolution and its batch norm are called."""
    return f"conv{index}", f"bn{index}"
