"""ResNet (He, Zhang, Ren, Sun: Deep residual learning for image recognition, 2015); parameters are named as in torchvision.

Bottlenecks have their stride in the 3 x 3 convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..frontends.dsl import Value, flatten, global_average_pool, linear, max_pool, model, relu, scope
from .blocks import BRANCH_GAIN, conv_norm

Block = Callable[[Value, int, int, tuple[int, int]], Value]
"""From x, the width of the stage, a stride, and the dilations where the stride is and after it, to x plus what the block learned."""
Stages = Sequence[Sequence[Block]]
"""A network as its blocks: those of the first stage, of the second, ..."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet18(image: Value) -> Value:
    """ResNet-18, 1000 classes (logits)."""
    return resnet(image, stages(basic, 2, 2, 2, 2))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet34(image: Value) -> Value:
    """ResNet-34, 1000 classes (logits)."""
    return resnet(image, stages(basic, 3, 4, 6, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet50(image: Value) -> Value:
    """ResNet-50, 1000 classes (logits)."""
    return resnet(image, stages(bottleneck, 3, 4, 6, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet101(image: Value) -> Value:
    """ResNet-101, 1000 classes (logits)."""
    return resnet(image, stages(bottleneck, 3, 4, 23, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnet152(image: Value) -> Value:
    """ResNet-152, 1000 classes (logits)."""
    return resnet(image, stages(bottleneck, 3, 8, 36, 3))


def stages(block: Block, *depths: int) -> list[list[Block]]:
    """Stages that repeat one block."""
    return [[block] * depth for depth in depths]


def resnet(image: Value, blocks: Stages, classes: int = 1000) -> Value:
    """The backbone and the classifier."""
    return linear(flatten(global_average_pool(backbone(image, blocks))), classes, name="fc")


def backbone(image: Value, blocks: Stages, output_stride: int = 32) -> Value:
    """The stem and the stages, each at half the extents and twice the width of the one before.

    From where the result would be smaller than 1 / output_stride of the image, stages dilate instead of striding (Chen et al. 2017).
    """
    x = relu(conv_norm(image, 64, 7, stride=2, names=names(1)))
    x = max_pool(x, 3, stride=2, pad=1)
    for stage, stage_blocks in enumerate(blocks):
        dilation = max(1, 2 ** (stage + 2) // output_stride)
        stride = 2 if stage > 0 and dilation == 1 else 1
        for position, block in enumerate(stage_blocks):
            with scope(f"layer{stage + 1}.{position}"):
                first = position == 0
                before = max(1, dilation // 2) if first else dilation
                x = block(x, 64 * 2**stage, stride if first else 1, (before, dilation))
    return x


def basic(x: Value, width: int, stride: int, dilations: tuple[int, int]) -> Value:
    """relu(3 x 3, 3 x 3, + x)"""
    y = relu(conv_norm(x, width, 3, stride, dilation=dilations[0], names=names(1)))
    y = conv_norm(y, width, 3, dilation=dilations[1], names=names(2), gain=BRANCH_GAIN)
    return relu(y + shortcut(x, width, stride))


def bottleneck(
    x: Value,
    width: int,
    stride: int,
    dilations: tuple[int, int],
    groups: int = 1,
    share: int = 64,
    attention: Callable[[Value], Value] | None = None,
) -> Value:
    """relu(1 x 1 down, 3 x 3, 1 x 1 up to four times the width, + x)

    groups: of the 3 x 3 convolution; share: channels of each, for a width of 64; attention: what weighs the result before it is added.
    """
    inner = width * share // 64 * groups
    y = relu(conv_norm(x, inner, 1, names=names(1)))
    y = relu(conv_norm(y, inner, 3, stride, groups=groups, dilation=dilations[0], names=names(2)))
    y = conv_norm(y, 4 * width, 1, names=names(3), gain=BRANCH_GAIN)
    return relu((attention(y) if attention else y) + shortcut(x, 4 * width, stride))


def shortcut(x: Value, channels: int, stride: int) -> Value:
    """x itself, or a 1 x 1 projection where the shape changes"""
    if stride == 1 and x.shape[1] == channels:
        return x
    with scope("downsample"):
        return conv_norm(x, channels, 1, stride, names=("0", "1"))


def names(index: int) -> tuple[str, str]:
    """What a convolution and its batch norm are called."""
    return f"conv{index}", f"bn{index}"
