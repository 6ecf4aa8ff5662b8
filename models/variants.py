"""Every variant of convolution and pooling, an example each (Dumoulin, Visin: A guide to convolution arithmetic for deep learning, 2016).

They are no networks, so the zoo does not list them: `tw.compile(variants.dilated)` runs one. n is an extent of x, k one of the kernel.
"""

from __future__ import annotations

from ..frontends.dsl import (
    Value,
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    conv,
    conv_transpose,
    fractional_max_pool,
    global_average_pool,
    global_max_pool,
    max_pool,
    model,
)
from .pixelcnn import masked_conv

image = model(x=("batch=1", 6, "height=11", "width=14"))


@image
def valid(x: Value) -> Value:
    """Windows that lie inside: n - k + 1 results."""
    return conv(x, 4, (3, 4), pad="valid")


@image
def full(x: Value) -> Value:
    """All windows that meet x: n + k - 1 results."""
    return conv(x, 4, (3, 4), pad="full")


@image
def same_odd(x: Value) -> Value:
    """n results: (k - 1) / 2 zeros on both sides."""
    return conv(x, 4, (3, 5), pad="same")


@image
def same_even(x: Value) -> Value:
    """n results: k - 1 zeros cannot be shared evenly, the odd one comes after x."""
    return conv(x, 4, (2, 4), pad="same")


@image
def strided(x: Value) -> Value:
    """Every second window down, every third across: (n - k) // stride + 1 results."""
    return conv(x, 4, 3, stride=(2, 3))


@image
def dilated(x: Value) -> Value:
    """Taps two rows and three columns apart: a kernel of 3 sees 5 rows and 7 columns."""
    return conv(x, 4, 3, dilation=(2, 3))


@image
def transposed(x: Value) -> Value:
    """The way back from a stride of 2: (n - 1) * 2 + k - 2 * pad + output_pad results.

    A stride of 2 leads from 2n - 1 positions and from 2n to n; `output_pad` says to which of the two the way goes back.
    """
    return conv_transpose(x, 4, 3, stride=2, pad=1, output_pad=(1, 0))


@image
def grouped(x: Value) -> Value:
    """Three convolutions side by side, from two channels to four each."""
    return conv(x, 12, 3, groups=3)


@image
def depthwise(x: Value) -> Value:
    """A convolution for each channel, here two: as many groups as channels."""
    return conv(x, 2 * x.shape[1], 3, pad="same", groups=x.shape[1])


@image
def separable(x: Value) -> Value:
    """Depthwise in space, then 1 x 1 across channels: k * k * c + c * channels weights instead of k * k * c * channels."""
    return conv(conv(x, x.shape[1], 3, pad="same", groups=x.shape[1]), 4, 1)


@image
def separable_in_space(x: Value) -> Value:
    """A column, then a row: 2 * k weights instead of k * k."""
    return conv(conv(x, 4, (3, 1)), 4, (1, 3))


@image
def pointwise(x: Value) -> Value:
    """1 x 1: the same linear layer over the channels of every position."""
    return conv(x, 4, 1)


@image
def masked(x: Value) -> Value:
    """No window sees what comes later in reading order, nor (mask A) its own position."""
    return masked_conv(x, 4, 5, channels=1, kind="A")


@model(x=("batch=1", 6, "length=37"))
def one_dimensional(x: Value) -> Value:
    """Along time."""
    return conv(x, 4, 5, stride=2, pad=2, dilation=2)


@model(x=("batch=1", 3, "frames=5", "height=7", "width=9"))
def three_dimensional(x: Value) -> Value:
    """Along frames, rows and columns."""
    return conv(x, 4, (2, 3, 3), stride=(1, 2, 1), pad=((1, 0), (1, 1), (0, 2)))


@image
def max_pooling(x: Value) -> Value:
    """The maximum of each 2 x 2 block; an odd row or column at the end is left out."""
    return max_pool(x, 2)


@image
def average_pooling(x: Value) -> Value:
    """The mean of each 3 x 3 window, over the positions inside x."""
    return average_pool(x, 3, stride=2, pad=1)


@image
def overlapping_pooling(x: Value) -> Value:
    """Windows of 3 at every second position, as in AlexNet."""
    return max_pool(x, 3, stride=2)


@image
def pooling_to_the_end(x: Value) -> Value:
    """`ceil`: a last window that reaches beyond the end counts too, as in Caffe."""
    return max_pool(x, 2, ceil=True)


@image
def global_average_pooling(x: Value) -> Value:
    """The mean of each channel."""
    return global_average_pool(x)


@image
def global_max_pooling(x: Value) -> Value:
    """The maximum of each channel."""
    return global_max_pool(x)


@image
def adaptive_average_pooling(x: Value) -> Value:
    """4 x 7 means whatever the extents of x are; regions overlap where those do not divide."""
    return adaptive_average_pool(x, (4, 7))


@image
def adaptive_max_pooling(x: Value) -> Value:
    """4 x 7 maxima whatever the extents of x are."""
    return adaptive_max_pool(x, (4, 7))


@image
def fractional_pooling(x: Value) -> Value:
    """Fewer results by a factor between 1 and 2 (Graham 2014): regions of 2 and 3 positions, which share their borders."""
    return fractional_max_pool(x, (7, 9), seed=1)


@image
def disjoint_fractional_pooling(x: Value) -> Value:
    """Regions of 1 and 2 positions that share none."""
    return fractional_max_pool(x, (7, 9), overlap=False, seed=1)


VARIANTS = (
    *(valid, full, same_odd, same_even, strided, dilated, transposed, grouped, depthwise, separable, separable_in_space, pointwise, masked),
    *(one_dimensional, three_dimensional, max_pooling, average_pooling, overlapping_pooling, pooling_to_the_end),
    *(global_average_pooling, global_max_pooling, adaptive_average_pooling, adaptive_max_pooling),
    *(fractional_pooling, disjoint_fractional_pooling),
)
