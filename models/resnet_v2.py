"""ResNet v2 (He, Zhang, Ren, Sun: Identity mappings in deep residual networks, 2016); parameters are named as in timm's resnetv2_50.

Norm and relu come before each convolution, and nothing after a sum. Bottlenecks have their stride in the 3 x 3 convolution.
"""

from __future__ import annotations

from ..frontends.dsl import Value, batch_norm, conv, flatten, global_average_pool, max_pool, model, relu, scope
from .blocks import BRANCH_GAIN


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet50_v2(image: Value) -> Value:
    """ResNet-50 v2, 1000 classes (logits)."""
    return imagenet(image, (3, 4, 6, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet101_v2(image: Value) -> Value:
    """ResNet-101 v2, 1000 classes (logits)."""
    return imagenet(image, (3, 4, 23, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet152_v2(image: Value) -> Value:
    """ResNet-152 v2, 1000 classes (logits)."""
    return imagenet(image, (3, 8, 36, 3))


@model(image=("batch=1", 3, "height=32", "width=32"))
def resnet164_v2(image: Value) -> Value:
    """ResNet-164 v2 for CIFAR: 54 bottlenecks, 10 classes (logits)."""
    return cifar(image, 18)


def imagenet(image: Value, depths: tuple[int, ...]) -> Value:
    """Four stages after a stem that leaves a quarter of the extents"""
    x = conv(image, 64, 7, stride=2, pad=3, bias=False, name="stem.conv")
    return resnet_v2(max_pool(x, 3, stride=2, pad=1), 64, depths, 1000)


def cifar(image: Value, depth: int) -> Value:
    """Three stages of `depth` blocks, at full extents, a half and a quarter of them"""
    x = conv(image, 16, 3, pad=1, bias=False, name="stem.conv")
    return resnet_v2(x, 16, (depth,) * 3, 10)


def resnet_v2(x: Value, width: int, depths: tuple[int, ...], classes: int) -> Value:
    """A stage of `depth` blocks for each of `depths`, each with twice the width of the one before; norm and relu; the classifier"""
    for stage, depth in enumerate(depths):
        for position in range(depth):
            with scope(f"stages.{stage}.blocks.{position}"):
                x = bottleneck(x, width * 2**stage, 2 if stage > 0 and position == 0 else 1)
    x = global_average_pool(relu(batch_norm(x, name="norm")))
    return flatten(conv(x, classes, 1, name="head.fc"))


def bottleneck(x: Value, width: int, stride: int) -> Value:
    """x + (norm, relu, 1 x 1 down, norm, relu, 3 x 3, norm, relu, 1 x 1 up to four times the width)"""
    first = activated(x, 1)
    y = conv(first, width, 1, bias=False, name="conv1")
    y = conv(activated(y, 2), width, 3, stride, pad=1, bias=False, name="conv2")
    y = conv(activated(y, 3, BRANCH_GAIN), 4 * width, 1, bias=False, name="conv3")
    return y + shortcut(x, first, 4 * width, stride)


def activated(x: Value, index: int, gain: float = 1.0) -> Value:
    """relu(norm(x))"""
    return relu(batch_norm(x, gain=gain, name=f"norm{index}"))


def shortcut(x: Value, first: Value, channels: int, stride: int) -> Value:
    """x itself, or where the shape changes a 1 x 1 projection of `first`, x after the block's first norm and relu"""
    if stride == 1 and x.shape[1] == channels:
        return x
    return conv(first, channels, 1, stride, bias=False, name="downsample.conv")
