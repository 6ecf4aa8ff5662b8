"""DenseNet (Huang, Liu, van der Maaten, Weinberger: Densely connected convolutional networks, 2016); named as in torchvision."""

from __future__ import annotations

from ..frontends.dsl import (
    Value,
    average_pool,
    batch_norm,
    concat,
    conv,
    flatten,
    global_average_pool,
    linear,
    max_pool,
    model,
    relu,
    scope,
)
from .blocks import conv_norm

GROWTH = 32
"""How many channels a layer adds."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def densenet121(image: Value) -> Value:
    """DenseNet-121, 1000 classes (logits)."""
    return densenet(image, (6, 12, 24, 16))


@model(image=("batch=1", 3, "height=224", "width=224"))
def densenet169(image: Value) -> Value:
    """DenseNet-169, 1000 classes (logits)."""
    return densenet(image, (6, 12, 32, 32))


@model(image=("batch=1", 3, "height=224", "width=224"))
def densenet201(image: Value) -> Value:
    """DenseNet-201, 1000 classes (logits)."""
    return densenet(image, (6, 12, 48, 32))


def densenet(image: Value, depths: tuple[int, ...], classes: int = 1000) -> Value:
    """The stem, a dense block for each of `depths` with transitions between them, and the classifier."""
    with scope("features"):
        x = relu(conv_norm(image, 2 * GROWTH, 7, stride=2, names=("conv0", "norm0")))
        x = max_pool(x, 3, stride=2, pad=1)
        for block, depth in enumerate(depths, start=1):
            x = dense_block(transition(x, block - 1) if block > 1 else x, block, depth)
        x = relu(batch_norm(x, name=f"norm{len(depths) + 1}"))
    return linear(flatten(global_average_pool(x)), classes, name="classifier")


def dense_block(x: Value, block: int, depth: int) -> Value:
    """Layers that each read everything before them: x = concat(x, layer(x)), again and again"""
    for position in range(1, depth + 1):
        with scope(f"denseblock{block}.denselayer{position}"):
            x = concat(x, dense_layer(x))
    return x


def dense_layer(x: Value) -> Value:
    """norm, relu, 1 x 1 down to four times the growth, norm, relu, 3 x 3"""
    y = conv(relu(batch_norm(x, name="norm1")), 4 * GROWTH, 1, bias=False, name="conv1")
    return conv(relu(batch_norm(y, name="norm2")), GROWTH, 3, pad=1, bias=False, name="conv2")


def transition(x: Value, index: int) -> Value:
    """norm, relu, 1 x 1 down to half the channels, average of 2 x 2"""
    with scope(f"transition{index}"):
        return average_pool(conv(relu(batch_norm(x, name="norm")), x.shape[1] // 2, 1, bias=False, name="conv"), 2)
