"""What GoogLeNet, Inception v3 and v4 are made of: rectified convolutions, one after the other, in branches side by side."""

from __future__ import annotations

from ..frontends.dsl import Value, average_pool, concat, flatten, global_average_pool, linear, max_pool, relu, scope
from .blocks import conv_norm

Kernel = int | tuple[int, int]
Step = tuple[int, Kernel] | tuple[int, Kernel, int] | tuple[int, Kernel, int, int]
"""A convolution as figures write it: channels, kernel, stride, pad."""
ROW, COLUMN = (1, 3), (3, 1)
ROW_OF_7, COLUMN_OF_7 = (1, 7), (7, 1)
VALID = 0
"""The pad of convolutions that the figures mark with V; the others keep the extents."""
EPSILON = 1e-3
"""Of all batch norms in these families."""


def rectified(x: Value, channels: int, kernel: Kernel, stride: int = 1, pad: int | None = None, *, name: str) -> Value:
    """relu(batch_norm(conv(x))) in a scope of its own"""
    with scope(name):
        return relu(conv_norm(x, channels, kernel, stride, pad=pad, epsilon=EPSILON))


def chain(x: Value, name: str, *steps: Step, first: int = 0) -> Value:
    """Rectified convolutions one after the other; `name` has braces where their numbers go, which start with `first`."""
    for number, step in enumerate(steps, first):
        x = rectified(x, step[0], step[1], *step[2:], name=name.format(number))
    return x


def crossed(x: Value, channels: int, name: str) -> Value:
    """A row and a column of three side by side: what the last grids have instead of one after the other"""
    return concat(rectified(x, channels, ROW, name=f"{name}a"), rectified(x, channels, COLUMN, name=f"{name}b"))


def halved(x: Value) -> Value:
    """The largest number of each window of 3 x 3, two apart"""
    return max_pool(x, 3, 2)


def pool_branch(x: Value, channels: int, name: str, count_pad: bool = False) -> Value:
    """The mean of 3 x 3 neighbours, projected; count_pad: beyond the border they are zeros"""
    return rectified(average_pool(x, 3, 1, pad=1, count_pad=count_pad), channels, 1, name=name)


def classified(x: Value, classes: int = 1000, name: str = "fc") -> Value:
    """The classifier over the mean of each channel"""
    return linear(flatten(global_average_pool(x)), classes, name=name)
