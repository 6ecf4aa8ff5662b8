"""ShuffleNetV2 (Ma, Zhang, Zheng, Sun: ShuffleNet V2: practical guidelines for efficient CNN architecture design, 2018).

Parameters are named as in torchvision.
"""

from __future__ import annotations

from ..frontends.dsl import (
    Value,
    concat,
    flatten,
    global_average_pool,
    layer,
    linear,
    max_pool,
    model,
    relu,
    reshape,
    scope,
    split,
    transpose,
)
from .blocks import conv_norm

REPETITIONS = (4, 8, 4)
LINEAR_GAIN = 0.7
"""How strongly a batch norm starts that no relu follows: the next layer's weights expect that half of the variance is cut off."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def shufflenet_v2_x0_5(image: Value) -> Value:
    """ShuffleNetV2 0.5x, 1000 classes (logits)."""
    return shufflenet(image, (48, 96, 192), 1024)


@model(image=("batch=1", 3, "height=224", "width=224"))
def shufflenet_v2_x1_0(image: Value) -> Value:
    """ShuffleNetV2 1x, 1000 classes (logits)."""
    return shufflenet(image, (116, 232, 464), 1024)


@model(image=("batch=1", 3, "height=224", "width=224"))
def shufflenet_v2_x1_5(image: Value) -> Value:
    """ShuffleNetV2 1.5x, 1000 classes (logits)."""
    return shufflenet(image, (176, 352, 704), 1024)


@model(image=("batch=1", 3, "height=224", "width=224"))
def shufflenet_v2_x2_0(image: Value) -> Value:
    """ShuffleNetV2 2x, 1000 classes (logits)."""
    return shufflenet(image, (244, 488, 976), 2048)


def shufflenet(image: Value, widths: tuple[int, int, int], features: int, classes: int = 1000) -> Value:
    """A column of the paper's table 5: stages 2 to 4 have `widths` channels, conv5 `features`."""
    x = relu(conv_norm(image, 24, 3, stride=2, names=("conv1.0", "conv1.1")))
    x = max_pool(x, 3, stride=2, pad=1)
    for stage, (width, repetitions) in enumerate(zip(widths, REPETITIONS, strict=True), start=2):
        for position in range(repetitions):
            with scope(f"stage{stage}.{position}"):
                x = unit(x) if position else downsampling_unit(x, width)
    x = relu(conv_norm(x, features, 1, names=("conv5.0", "conv5.1")))
    return linear(flatten(global_average_pool(x)), classes, name="fc")


def unit(x: Value) -> Value:
    """The paper's figure 3 (c): half of the channels stay as they are"""
    kept, taken = split(x, 2)
    return channel_shuffle(concat(kept, branch(taken, kept.shape[1], 1)))


def downsampling_unit(x: Value, channels: int) -> Value:
    """The paper's figure 3 (d): both branches see all channels, at stride 2"""
    with scope("branch1"):
        y = conv_norm(x, x.shape[1], 3, 2, groups=x.shape[1], gain=LINEAR_GAIN, names=("0", "1"))
        y = relu(conv_norm(y, channels // 2, 1, names=("2", "3")))
    return channel_shuffle(concat(y, branch(x, channels // 2, 2)))


def branch(x: Value, channels: int, stride: int) -> Value:
    """1 x 1, 3 x 3 depthwise, 1 x 1: the branch on the right of both figures"""
    with scope("branch2"):
        y = relu(conv_norm(x, channels, 1, names=("0", "1")))
        y = conv_norm(y, channels, 3, stride, groups=channels, gain=LINEAR_GAIN, names=("3", "4"))
        return relu(conv_norm(y, channels, 1, names=("5", "6")))


@layer
def channel_shuffle(x: Value, groups: int = 2) -> Value:
    """Channels of all groups in turns: with 2 groups 0, c/2, 1, c/2 + 1, ..."""
    batch, channels, *spatial = x.shape
    parts = reshape(x, (batch, groups, channels // groups, *spatial))
    return reshape(transpose(parts, (0, 2, 1, *range(3, len(parts.shape)))), x.shape)
