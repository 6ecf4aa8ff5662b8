"""BoTNet (Srinivas, Lin, Parmar, Shlens, Abbeel, Vaswani: Bottleneck transformers for visual recognition, 2021)."""

from __future__ import annotations

import math

import numpy as np

from ..frontends.dsl import (
    Value,
    average_pool,
    batch_norm,
    constant,
    gather,
    layer,
    matmul,
    model,
    normal,
    parameter,
    relu,
    reshape,
    softmax,
    transpose,
)
from .blocks import BRANCH_GAIN, conv_norm
from .non_local import projection
from .resnet import bottleneck, names, resnet, shortcut, stages

HEADS = 4


@model(image=("batch=1", 3, "height=224", "width=224"))
def botnet50(image: Value) -> Value:
    """BoTNet-50: ResNet-50 with attention for the 3 x 3 convolutions of its last stage, 1000 classes (logits).

    What it learns about positions has the extents of the map, so weights are for one extent of images.
    """
    return resnet(image, [*stages(bottleneck, 3, 4, 6), *stages(bottleneck_transformer, 3)])


def bottleneck_transformer(x: Value, width: int, stride: int, _: tuple[int, int]) -> Value:
    """relu(1 x 1 down, attention, 1 x 1 up to four times the width, + x); a stride is an average pooling after the attention"""
    y = relu(conv_norm(x, width, 1, names=names(1)))
    y = attention(y, name="attention")
    y = average_pool(y, stride) if stride > 1 else y
    y = relu(batch_norm(y, name="bn2"))
    y = conv_norm(y, 4 * width, 1, names=names(3), gain=BRANCH_GAIN)
    return relu(y + shortcut(x, 4 * width, stride))


@layer
def attention(x: Value, *, name: str | None = None) -> Value:
    """softmax(q k + q r) v for each of four heads, where r depends on how far apart two pixels are in each direction"""
    n, channels, height, width = x.shape
    share = channels // HEADS
    query, key, value = (reshape(projection(x, channels, False, name=part), (n, HEADS, share, -1)) for part in ("query", "key", "value"))
    query = transpose(query, (0, 1, 3, 2)) * (1 / math.sqrt(share))
    scores = reshape(matmul(query, key), (n, HEADS, height, width, height, width))
    scores = scores + positions(reshape(query, (n, HEADS, height, width, share)))
    weights = softmax(reshape(scores, (n, HEADS, height * width, height * width)))
    return reshape(matmul(value, transpose(weights, (0, 1, 3, 2))), x.shape)


def positions(query: Value) -> Value:
    """q r for queries (n, heads, h, w, share): (n, heads, h, w, h', w'), the sum of a score for h' - h and one for w' - w."""
    n, heads, height, width, share = query.shape
    down = matmul(query, offsets("height", height, share))
    across = matmul(transpose(query, (0, 1, 3, 2, 4)), offsets("width", width, share))
    down = reshape(down, (n, heads, height, width, height, 1))
    return down + reshape(transpose(across, (0, 1, 3, 2, 4)), (n, heads, height, width, 1, width))


def offsets(name: str, extent: int, share: int) -> Value:
    """(extent, share, extent): what is learned for each difference of two positions, laid out by the first and the second."""
    learned = parameter(name, (2 * extent - 1, share), normal(0, 1 / math.sqrt(share)))
    differences = np.arange(extent) - np.arange(extent)[:, None]
    return transpose(gather(learned, constant(differences + extent - 1)), (0, 2, 1))
