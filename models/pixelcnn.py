"""PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu: Pixel recurrent neural networks, 2016); the plain one of the paper's table 1.

Pixels come in reading order, and at each pixel red before green before blue: masks in the kernels hide all that comes later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from ..frontends.dsl import Value, convolve, layer, model, normal, parameter, relu, reshape, scope
from .blocks import BRANCH_GAIN


@model(image=("batch=1", 1, "height=28", "width=28"))
def pixelcnn(image: Value) -> Value:
    """PixelCNN for binary images, 7 blocks of 16 features (logits: image, channel, value, row, column)."""
    return predictions(image, blocks=7, features=16, head=32, values=2)


@model(image=("batch=1", 3, "height=32", "width=32"))
def pixelcnn_cifar10(image: Value) -> Value:
    """PixelCNN for CIFAR-10, 256 values of each colour in [0, 1], 15 blocks of 128 features (logits: image, colour, value, row, column)."""
    return predictions(image, blocks=15, features=128, head=1024, values=256)


def predictions(image: Value, blocks: int, features: int, head: int, values: int) -> Value:
    """Table 1: 7 x 7 with mask A, residual blocks, two layers of 1 x 1, and a score for each value of each channel."""
    n, channels, *extents = image.shape
    x = masked_conv(image, 2 * features, 7, channels, "A")
    for block in range(blocks):
        with scope(f"block{block}"):
            x = x + residual(x, features, channels)
    for _ in range(2):
        x = masked_conv(relu(x), head, 1, channels, "B")
    scores = masked_conv(relu(x), channels * values, 1, channels, "B")
    return reshape(scores, (n, channels, values, *extents))


def residual(x: Value, features: int, channels: int) -> Value:
    """Figure 5, left: 1 x 1 to half the features, 3 x 3, 1 x 1 back"""
    y = masked_conv(relu(x), features, 1, channels, "B")
    y = masked_conv(relu(y), features, 3, channels, "B")
    return masked_conv(relu(y), x.shape[1], 1, channels, "B", gain=BRANCH_GAIN)


@layer
def masked_conv(
    x: Value, features: int, kernel: int, channels: int, kind: Literal["A", "B"], gain: float = 1.0, *, name: str | None = None
) -> Value:
    """A convolution that sees pixels before its own, there the channels before its own and with mask B its own too."""
    shape = (features, x.shape[1], kernel, kernel)
    mask = causal_mask(shape, channels, kind)
    seen = float(mask.sum()) / features
    weight = parameter("weight", shape, normal(0, gain * np.sqrt(2 / seen)))
    bias = parameter("bias", (features,), normal(0, 0.1))
    return convolve(x, weight * mask, bias, pad=kernel // 2)


def causal_mask(shape: tuple[int, int, int, int], channels: int, kind: Literal["A", "B"]) -> np.ndarray:
    """1 where a weight (k, c, rows, columns) looks at what comes before, else 0; features fall into equal parts, one a channel."""
    features, inputs, rows, columns = shape
    mask = np.zeros(shape, np.float32)
    mask[:, :, : rows // 2] = 1
    mask[:, :, rows // 2, : columns // 2] = 1
    to, of = (np.arange(count) * channels // count for count in (features, inputs))
    allowed = np.less if kind == "A" else np.less_equal
    mask[:, :, rows // 2, columns // 2] = allowed(of, to[:, None])
    return mask


def sample(predict: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int, int, int], seed: int = 0) -> np.ndarray:
    """Random pictures (n, channels, rows, columns) in [0, 1], number by number in the order of the masks.

    predict: logits of the pictures so far, like a compiled session of this shape; it is called once a number.
    """
    generator = np.random.default_rng(seed)
    pictures = np.zeros(shape, np.float32)
    _, channels, rows, columns = shape
    for h, w, c in np.ndindex(rows, columns, channels):
        logits = predict(pictures)[:, c, :, h, w]
        # The largest of logits plus Gumbel noise is a draw from their softmax.
        drawn = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
        pictures[:, c, h, w] = drawn / (logits.shape[1] - 1)
    return pictures
