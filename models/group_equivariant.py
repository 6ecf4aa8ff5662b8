"""Group-equivariant CNN (Cohen, Welling: Group equivariant convolutional networks, 2016).

Maps have an orientation beside their channel: (n, channels, 4, height, width). When the picture turns by 90 degrees, maps turn
and orientations move on by one. The filter bank of a layer is four turned copies of one parameter; a compiled network holds
the copies as constants.
"""

from __future__ import annotations

from ..frontends.dsl import (
    Value,
    batch_norm,
    concat,
    convolve,
    expand,
    flatten,
    he_normal,
    largest,
    layer,
    max_pool,
    model,
    normal,
    parameter,
    relu,
    reshape,
    transpose,
)

ORIENTATIONS = 4
"""The group p4: translations and turns by multiples of 90 degrees."""


@model(image=("batch=1", 1, 28, 28))
def p4_cnn(image: Value) -> Value:
    """P4CNN for rotated MNIST, 10 classes (logits): seven layers of ten channels, the same logits for every quarter turn of the image."""
    x = p4_layer(reshape(image, (image.shape[0], 1, 1, *image.shape[2:])), 10)
    x = max_pool(p4_layer(x, 10), (1, 2, 2))
    for _ in range(4):
        x = p4_layer(x, 10)
    return flatten(largest(p4_conv(x, 10, 4), axes=2))


def p4_layer(x: Value, channels: int) -> Value:
    """relu(batch_norm(3 x 3)); a channel has one scale for all of its orientations."""
    return relu(batch_norm(p4_conv(x, channels, 3)))


@layer
def p4_conv(x: Value, channels: int, kernel: int, *, name: str | None = None) -> Value:
    """Group convolution of x (n, c, orientations, height, width): 1 orientation for a picture, which is lifted to 4, or 4.

    Parameters: weight (channels, c, orientations, kernel, kernel) and bias (channels,), for all orientations of a channel.
    """
    n, c, orientations, height, width = x.shape
    weight = parameter("weight", (channels, c, orientations, kernel, kernel), he_normal(c * orientations * kernel**2))
    bias = parameter("bias", (channels, 1), normal(0, 0.1))
    bank = concat(*(reshape(turned(weight, turns), (channels, 1, -1, kernel, kernel)) for turns in range(ORIENTATIONS)))
    y = convolve(
        reshape(x, (n, c * orientations, height, width)),
        reshape(bank, (channels * ORIENTATIONS, c * orientations, kernel, kernel)),
        reshape(expand(bias, (channels, ORIENTATIONS)), (-1,)),
    )
    return reshape(y, (n, channels, ORIENTATIONS, *y.shape[2:]))


def turned(weight: Value, turns: int) -> Value:
    """weight (k, c, orientations, height, width) under quarter turns, anticlockwise; its orientations move on with each."""
    for _ in range(turns):
        weight = transpose(weight, (0, 1, 2, 4, 3))[..., ::-1, :]
        weight = concat(weight[:, :, -1:], weight[:, :, :-1], axis=2)
    return weight
