"""DeepLab-v3 (Chen, Papandreou, Schroff, Adam: Rethinking atrous convolution for semantic image segmentation, 2017).

Parameters are named as in torchvision. The dropout of the heads, which matters in training only, is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, concat, conv, expand, global_average_pool, model, relu, resize, scope
from .blocks import conv_norm
from .resnet import Stages, backbone, bottleneck, stages

RATES = (12, 24, 36)
"""The dilations of the head where the map has an eighth of the image's extents."""


@model(image=("batch=1", 3, "height=513", "width=513"))
def deeplab_v3_resnet50(image: Value) -> Value:
    """DeepLab-v3 on ResNet-50, output stride 8: logits of 21 classes for every pixel."""
    return deeplab_v3(image, stages(bottleneck, 3, 4, 6, 3))


@model(image=("batch=1", 3, "height=513", "width=513"))
def deeplab_v3_resnet101(image: Value) -> Value:
    """DeepLab-v3 on ResNet-101, output stride 8: logits of 21 classes for every pixel."""
    return deeplab_v3(image, stages(bottleneck, 3, 4, 23, 3))


def deeplab_v3(image: Value, blocks: Stages, classes: int = 21) -> Value:
    """The backbone, dilated where it would leave less than an eighth of the extents, the head, and its result enlarged."""
    with scope("backbone"):
        x = backbone(image, blocks, output_stride=8)
    with scope("classifier"):
        return resize(head(x, classes), image.shape[2:], "linear")


def head(x: Value, classes: int) -> Value:
    """The pyramid, a 3 x 3 convolution and the scores of the classes."""
    with scope("0"):
        x = atrous_pyramid(x, RATES)
    x = relu(conv_norm(x, 256, 3, names=("1", "2")))
    return conv(x, classes, 1, name="4")


def atrous_pyramid(x: Value, rates: tuple[int, ...], channels: int = 256) -> Value:
    """Atrous spatial pyramid pooling: 1 x 1, 3 x 3 at several dilations, and the mean of the image, side by side, then 1 x 1."""
    branches = [branch(x, channels, 1, 1, "convs.0")]
    branches += [branch(x, channels, 3, rate, f"convs.{i}") for i, rate in enumerate(rates, start=1)]
    image_level = branch(global_average_pool(x), channels, 1, 1, f"convs.{len(rates) + 1}", first=1)
    branches.append(expand(image_level, branches[0].shape))
    return branch(concat(*branches), channels, 1, 1, "project")


def branch(x: Value, channels: int, kernel: int, dilation: int, name: str, first: int = 0) -> Value:
    """relu(norm(conv)); the layers are numbered from `first` on."""
    with scope(name):
        return relu(conv_norm(x, channels, kernel, dilation=dilation, names=(str(first), str(first + 1))))
