"""FCN (Long, Shelhamer, Darrell: Fully convolutional networks for semantic segmentation, 2015); the padding, the cropping and the
names of the scores are those of the authors' models for Caffe, the other parameters are named as VGG-16's.

Dropout does nothing in inference and is left out. Training leaves the transposed convolutions at what `bilinear` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..frontends.dsl import Value, conv, conv_transpose, model, relu
from .vgg import DEPTHS, WIDTHS, stages

PAD = 100
"""Zeros around the image, so that the smallest has a map of 7 x 7 after five poolings."""
SKIPS = (("upscore2", "score_pool4", 5), ("upscore_pool4", "score_pool3", 9))
"""Which layer doubles the scores, which makes scores of an earlier map, and at which position of these the doubled ones begin."""
BEGIN = (19, 27, 31)
"""At which position of the last scores the image begins, without skips and with one or two of them."""


@model(image=("batch=1", 3, "height=500", "width=500"))
def fcn32s(image: Value) -> Value:
    """FCN-32s over VGG-16, 21 classes for every pixel (logits)."""
    return fcn(image, skips=0)


@model(image=("batch=1", 3, "height=500", "width=500"))
def fcn16s(image: Value) -> Value:
    """FCN-16s over VGG-16 with scores of pool4, 21 classes for every pixel (logits)."""
    return fcn(image, skips=1)


@model(image=("batch=1", 3, "height=500", "width=500"))
def fcn8s(image: Value) -> Value:
    """FCN-8s over VGG-16 with scores of pool4 and pool3, 21 classes for every pixel (logits)."""
    return fcn(image, skips=2)


def fcn(image: Value, skips: int, classes: int = 21, widths: Sequence[int] = WIDTHS, hidden: int = 4096) -> Value:
    """VGG-16 with convolutions for its fully connected layers; coarse scores are doubled and added to finer ones, `skips` times."""
    *_, pool3, pool4, pool5 = stages(image, DEPTHS["D"], widths, first_pad=PAD, ceil=True)
    x = relu(conv(pool5, hidden, 7, name="classifier.0"))
    x = relu(conv(x, hidden, 1, name="classifier.3"))
    scores = conv(x, classes, 1, name="score_fr")
    for pooled, (doubling, scoring, begin) in zip((pool4, pool3)[:skips], SKIPS, strict=False):
        scores = conv_transpose(scores, classes, 4, stride=2, bias=False, name=doubling)
        scores = scores + cropped(conv(pooled, classes, 1, name=scoring), begin, scores)
    stride = 32 >> skips
    scores = conv_transpose(scores, classes, 2 * stride, stride, bias=False, name=f"upscore{stride}")
    return cropped(scores, BEGIN[skips], image)


def cropped(x: Value, begin: int, like: Value) -> Value:
    """As much of x as `like` has, from position (begin, begin) on."""
    height, width = like.shape[2:]
    return x[:, :, begin : begin + height, begin : begin + width]


def as_convolutions(weights: Mapping[str, np.ndarray], maps: Mapping[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """The weights of a classifier, fully connected ones as kernels (features, c, height, width) of a network that takes any size.

    maps: (height, width) of the maps that layers read which have a position in view, as {"classifier.0": (7, 7)} for VGG-16.
    """
    found = dict(weights)
    for name, array in weights.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and array.ndim == 2:
            height, width = maps.get(layer, (1, 1))
            found[name] = array.reshape(len(array), -1, height, width)
    return found


def bilinear(channels: int, stride: int) -> np.ndarray:
    """Weights (c, c, 2*stride, 2*stride) with which a transposed convolution interpolates each channel for itself."""
    distance = np.abs(np.arange(2 * stride) - (stride - 0.5)) / stride
    tent = np.outer(1 - distance, 1 - distance)
    return (np.eye(channels)[:, :, None, None] * tent).astype(np.float32)
