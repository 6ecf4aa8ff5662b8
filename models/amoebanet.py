"""AmoebaNet-A (Real, Aggarwal, Huang, Le: Regularized evolution for image classifier architecture search, 2018).

The cells are those of the paper's figure 5, with what is around them as its authors published it for TPUs (after NASNet). Their drop
path and dropout do nothing in inference and are left out, and so is the auxiliary classifier, which only training has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..frontends.dsl import (
    Value,
    average_pool,
    batch_norm,
    concat,
    conv,
    flatten,
    global_average_pool,
    linear,
    max_pool,
    model,
    pad,
    relu,
    scope,
)
from .blocks import conv_norm

EPSILON = 1e-3
GAIN = 0.6
"""How strongly projections and separable convolutions start: cells are sums of them, and 24 cells must stay in range."""


class Cell(NamedTuple):
    """What evolution found: each combination adds two operations on earlier states and makes the next state."""

    combinations: tuple[tuple[tuple[str, int], tuple[str, int]], ...]
    """(operation, state), twice. State 0 is the value before this cell, 1 the one before that; the first combination makes state 2."""
    outputs: tuple[int, ...]
    """The states that are the cell's result, side by side."""
    stride: int
    """Of all operations on states 0 and 1."""


NORMAL = Cell(
    (
        (("average 3x3", 0), ("max 3x3", 0)),
        (("separable 3x3", 1), ("none", 1)),
        (("none", 0), ("average 3x3", 1)),
        (("separable 3x3", 0), ("separable 5x5", 2)),
        (("average 3x3", 5), ("separable 3x3", 0)),
    ),
    outputs=(1, 3, 4, 6),
    stride=1,
)
REDUCTION = Cell(
    (
        (("separable 3x3", 1), ("average 3x3", 0)),
        (("max 3x3", 0), ("separable 7x7", 2)),
        (("max 3x3", 1), ("max 3x3", 0)),
        (("separable 3x3", 4), ("1x7 7x1", 0)),
        (("average 3x3", 1), ("separable 7x7", 0)),
    ),
    outputs=(2, 3, 4, 5, 6),  # 2 and 4, which others read, are among them as published; without them there were 3 % fewer parameters
    stride=2,
)


@model(image=("batch=1", 3, "height=331", "width=331"))
def amoebanet_a(image: Value) -> Value:
    """AmoebaNet-A with N = 6, F = 190 for ImageNet, 1000 classes (logits)."""
    x = conv_norm(image, 32, 3, 2, pad=0, epsilon=EPSILON, names=("stem.conv", "stem.bn"))
    return amoebanet(x, [(REDUCTION, 190 // 4), (REDUCTION, 190 // 2), *stacks(6, 190)], 1000)


@model(image=("batch=1", 3, "height=32", "width=32"))
def amoebanet_a_small(image: Value) -> Value:
    """AmoebaNet-A with N = 6, F = 36 for CIFAR-10, 10 classes (logits)."""
    x = conv_norm(image, 3 * 36, 3, epsilon=EPSILON, names=("stem.conv", "stem.bn"))
    return amoebanet(x, stacks(6, 36), 10)


def stacks(n: int, f: int) -> list[tuple[Cell, int]]:
    """Figure 1: three stacks of n normal cells with f, 2 f and 4 f channels, a reduction cell before the second and the third."""
    first, second, third = (n * [(NORMAL, width)] for width in (f, 2 * f, 4 * f))
    return [*first, (REDUCTION, 2 * f), *second, (REDUCTION, 4 * f), *third]


def amoebanet(stem: Value, cells: list[tuple[Cell, int]], classes: int) -> Value:
    """Each cell, with its number of channels, reads what the last two gave."""
    before, x = None, stem
    for number, (found, channels) in enumerate(cells):
        with scope(f"cells.{number}"):
            before, x = x, cell(found, x, before, channels)
    return linear(flatten(global_average_pool(relu(x))), classes, name="fc")


def cell(found: Cell, x: Value, before: Value | None, channels: int) -> Value:
    """The last states of a cell, side by side"""
    states = [projected(relu(x), channels, "input0"), x if before is None else fitted(before, x, channels)]
    for pair in found.combinations:
        a, b = (term(found, states, *chosen, channels, side) for chosen, side in zip(pair, ("left", "right"), strict=True))
        states.append(a + b)
    return concat(*(matched(states[i], channels, f"output{i}") for i in found.outputs))


def term(found: Cell, states: list[Value], operation: str, state: int, channels: int, side: str) -> Value:
    """An operation on one of the states, for the next one"""
    with scope(f"{len(states)}.{side}"):
        return OPERATIONS[operation](states[state], channels, found.stride if state < 2 else 1)


def fitted(before: Value, x: Value, channels: int) -> Value:
    """State 1, with the extents of x and as many channels as state 0"""
    if before.shape[2:] == x.shape[2:]:
        return before if before.shape[1] == channels else projected(relu(before), channels, "input1")
    with scope("input1"):
        return factorized_reduction(relu(before), channels)


def factorized_reduction(x: Value, channels: int) -> Value:
    """Every second position, projected, beside the ones diagonally between them, so that nothing that x knows is left out"""
    between = pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))[:, :, 1:, 1:]
    halves = conv(x, channels - channels // 2, 1, 2, bias=False, name="even"), conv(between, channels // 2, 1, 2, bias=False, name="odd")
    return batch_norm(concat(*halves), EPSILON, name="bn")


def matched(x: Value, channels: int, name: str) -> Value:
    """x, projected if it has another number of channels"""
    return x if x.shape[1] == channels else projected(x, channels, name)


def projected(x: Value, channels: int, name: str) -> Value:
    """A convolution of 1 x 1"""
    with scope(name):
        return conv_norm(x, channels, 1, gain=GAIN, epsilon=EPSILON)


def identity(x: Value, channels: int, stride: int) -> Value:
    """x, or a convolution of 1 x 1 where the shape changes"""
    return x if stride == 1 and x.shape[1] == channels else conv_norm(relu(x), channels, 1, stride, epsilon=EPSILON)


def pooled(x: Value, channels: int, stride: int, pool: Callable[..., Value]) -> Value:
    """The mean or the maximum of 3 x 3 neighbours"""
    return matched(pool(x, 3, stride, pad="same"), channels, "projection")


def separable(x: Value, channels: int, stride: int, kernel: int) -> Value:
    """Each channel for itself, then 1 x 1; and all of it once more"""
    for step, distance in ((1, stride), (2, 1)):
        depth = x.shape[1]
        x = conv(relu(x), depth, kernel, distance, pad="same", groups=depth, bias=False, name=f"depthwise{step}")
        x = conv_norm(x, channels, 1, gain=GAIN, epsilon=EPSILON, names=(f"pointwise{step}", f"bn{step}"))
    return x


def factorized_7x7(x: Value, channels: int, stride: int) -> Value:
    """A row and a column of seven with a quarter of the channels"""
    narrow = channels // 4
    steps = ((narrow, (1, 1), (1, 1)), (narrow, (1, 7), (1, stride)), (narrow, (7, 1), (stride, 1)), (channels, (1, 1), (1, 1)))
    for number, (width, kernel, distance) in enumerate(steps, start=1):
        x = conv_norm(relu(x), width, kernel, distance, pad="same", epsilon=EPSILON, names=(f"conv{number}", f"bn{number}"))
    return x


OPERATIONS: dict[str, Callable[[Value, int, int], Value]] = {
    "none": identity,
    "average 3x3": partial(pooled, pool=average_pool),
    "max 3x3": partial(pooled, pool=max_pool),
    "separable 3x3": partial(separable, kernel=3),
    "separable 5x5": partial(separable, kernel=5),
    "separable 7x7": partial(separable, kernel=7),
    "1x7 7x1": factorized_7x7,
}
"""From a state, a number of channels and a stride to a state of so many channels."""
