"""Video ResNets (Tran, Wang, Torresani, Ray, LeCun, Paluri: A closer look at spatiotemporal convolutions for action recognition, 2017).

Parameters are named as in torchvision. Videos are (n, 3, frames, height, width).
"""

from __future__ import annotations

from collections.abc import Callable

from ..frontends.dsl import Value, batch_norm, conv, flatten, global_average_pool, linear, model, relu, scope
from .blocks import BRANCH_GAIN, conv_norm

Triple = tuple[int, int, int]
"""Along frames, height and width."""
Convolution = Callable[[Value, int, Triple, int], Value]
"""Of (x, channels, stride, channels between its factors, if it has any)."""
WIDTHS = (64, 128, 256, 512)


@model(video=("batch=1", 3, "frames=16", "height=112", "width=112"))
def r3d_18(video: Value) -> Value:
    """R3D-18: 3-D convolutions, 400 classes of Kinetics (logits)."""
    return video_resnet(stem(video), (cube, cube, cube, cube))


@model(video=("batch=1", 3, "frames=16", "height=112", "width=112"))
def mc3_18(video: Value) -> Value:
    """MC3-18: 3-D convolutions first, then 2-D ones, 400 classes of Kinetics (logits)."""
    return video_resnet(stem(video), (cube, flat, flat, flat))


@model(video=("batch=1", 3, "frames=16", "height=112", "width=112"))
def r2plus1d_18(video: Value) -> Value:
    """R(2+1)D-18: each convolution first in space, then in time, 400 classes of Kinetics (logits)."""
    return video_resnet(factored_stem(video), (factored, factored, factored, factored))


def stem(video: Value) -> Value:
    """3 x 7 x 7, every second pixel"""
    with scope("stem"):
        return relu(conv_norm(video, 64, (3, 7, 7), (1, 2, 2), names=("0", "1")))


def factored_stem(video: Value) -> Value:
    """1 x 7 x 7, every second pixel, then 3 x 1 x 1"""
    with scope("stem"):
        x = relu(conv_norm(video, 45, (1, 7, 7), (1, 2, 2), names=("0", "1")))
        return relu(conv_norm(x, 64, (3, 1, 1), names=("3", "4")))


def cube(x: Value, channels: int, stride: Triple, between: int) -> Value:
    """3 x 3 x 3"""
    return conv(x, channels, 3, stride, pad=1, bias=False, name="0")


def flat(x: Value, channels: int, stride: Triple, between: int) -> Value:
    """1 x 3 x 3"""
    return conv(x, channels, (1, 3, 3), stride, pad=(0, 1, 1), bias=False, name="0")


def factored(x: Value, channels: int, stride: Triple, between: int) -> Value:
    """1 x 3 x 3, then 3 x 1 x 1"""
    time, height, width = stride
    with scope("0"):
        y = relu(conv_norm(x, between, (1, 3, 3), (1, height, width), names=("0", "1")))
        return conv(y, channels, (3, 1, 1), (time, 1, 1), pad=(1, 0, 0), bias=False, name="3")


def video_resnet(x: Value, convolutions: tuple[Convolution, ...], classes: int = 400) -> Value:
    """Two blocks of each width after the stem; from one width to the next the extents halve, in time unless convolutions are flat."""
    for stage, (width, convolution) in enumerate(zip(WIDTHS, convolutions, strict=True), start=1):
        half = (1 if convolution is flat else 2, 2, 2)
        for position in range(2):
            with scope(f"layer{stage}.{position}"):
                x = block(x, width, half if stage > 1 and position == 0 else (1, 1, 1), convolution)
    return linear(flatten(global_average_pool(x)), classes, name="fc")


def block(x: Value, channels: int, stride: Triple, convolution: Convolution) -> Value:
    """relu(convolution, convolution, + x)"""
    between = 27 * x.shape[1] * channels // (9 * x.shape[1] + 3 * channels)  # as many parameters as 3 x 3 x 3
    with scope("conv1"):
        y = relu(batch_norm(convolution(x, channels, stride, between), name="1"))
    with scope("conv2"):
        y = batch_norm(convolution(y, channels, (1, 1, 1), between), gain=BRANCH_GAIN, name="1")
    return relu(y + shortcut(x, channels, stride))


def shortcut(x: Value, channels: int, stride: Triple) -> Value:
    """x itself, or a 1 x 1 x 1 projection where the shape changes"""
    if x.shape[1] == channels:
        return x
    with scope("downsample"):
        return conv_norm(x, channels, 1, stride, names=("0", "1"))
