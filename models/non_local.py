"""Non-local blocks (Wang, Girshick, Gupta, He: Non-local neural networks, 2017), in the form "embedded Gaussian".

As in the authors' code, and not in the paper's formula, scores are divided by the square root of the channels. No map is subsampled.
"""

from __future__ import annotations

import math

from ..frontends.dsl import Value, batch_norm, conv, convolve, layer, matmul, model, normal, parameter, reshape, softmax, transpose
from .blocks import BRANCH_GAIN
from .resnet import bottleneck, resnet, stages

PROJECTION_GAIN = 0.25
"""How strongly projections start: where products of two of them are large, a softmax is a choice of one pixel."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def nonlocal_resnet50(image: Value) -> Value:
    """ResNet-50 with a non-local block before the last block of its third stage, 1000 classes (logits)."""
    blocks = stages(bottleneck, 3, 4, 6, 3)
    blocks[2][-1] = lambda x, *how: bottleneck(non_local(x, name="non_local"), *how)
    return resnet(image, blocks)


@layer
def non_local(x: Value, *, name: str | None = None) -> Value:
    """x + norm(1 x 1(softmax(theta phi) g)) with half the channels between: every pixel gets a mean over all, weighted by likeness"""
    n, channels, *extents = x.shape
    inner = channels // 2
    theta, phi, g = (reshape(projection(x, inner, name=part), (n, inner, -1)) for part in ("theta", "phi", "g"))
    weights = softmax(matmul(transpose(theta, (0, 2, 1)), phi) * (1 / math.sqrt(inner)))
    y = reshape(matmul(g, transpose(weights, (0, 2, 1))), (n, inner, *extents))
    return x + batch_norm(conv(y, channels, 1, name="output"), gain=BRANCH_GAIN, name="norm")


@layer
def projection(x: Value, channels: int, bias: bool = True, *, name: str | None = None) -> Value:
    """A 1 x 1 convolution."""
    weight = parameter("weight", (channels, x.shape[1], 1, 1), normal(0, PROJECTION_GAIN / math.sqrt(x.shape[1])))
    return convolve(x, weight, parameter("bias", (channels,), normal(0, 0.1)) if bias else None)
