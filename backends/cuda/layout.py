"""Channels last wherever a convolution or a pool is near: which layout every value gets on a GPU.

Channels last is a `Blocked` whose one block holds all channels, padded to whole pieces of 16 bytes: (n, c, h, w) lies in memory as
(n, h, w, c). So it is printed, verified, reordered and stored like every other blocked layout. An operator without a rule takes and
gives plain values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...engine.graph import Constant, Graph, Node
from ...engine.ops import (
    LRN,
    ArgReduce,
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    Expand,
    Gather,
    MaxPool,
    Pad,
    Pointwise,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from ...engine.tensor import Blocked, TensorType
from ..common.kinds import kind_of
from ..common.layouts import Answer, Layout, aligned_layout, assign
from .conv_stem import MOST_CHANNELS
from .elements import unit

Rule = Callable[..., Answer]
RULES: dict[type[Node], Rule] = {}


def channels_last(kind: TensorType) -> Blocked:
    """The layout of a value of this type and at least three dimensions with its channels, axis 1, innermost.

    Every pixel starts with what a thread can move at a time.
    """
    whole = unit(kind.dtype)
    return Blocked(1, max(-(-kind.shape[1] // whole), 1) * whole)


def rule(*operators: type[Node]) -> Callable[[Rule], Rule]:
    """Decorator: this function `(node, layouts its operands have now) -> Answer` speaks for these operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


def assign_layouts(graph: Graph) -> Graph:
    """The graph with every layout decided."""
    return assign(graph, lambda node, now: RULES.get(type(node), plain)(node, now))


def plain(node: Node, now: Sequence[Layout]) -> Answer:
    """Plain operands, plain result."""
    return Answer((None,) * len(now), None)


def has_channels_last(kind: TensorType, layout: Layout) -> bool:
    """Whether a value of this type has this layout because it is channels last."""
    return layout is not None and kind.rank >= 3 and layout == channels_last(kind)


@rule(Conv, ConvTranspose)
def _convolution(node: Conv | ConvTranspose, now: tuple[Layout, ...]) -> Answer:
    if not isinstance(node.weight, Constant) or kind_of(node.type.dtype) != "f" or 0 in (node.x.type.size, node.type.size):
        return plain(node, now)
    result = channels_last(node.type)
    extras = (aligned_layout(extra, node, result) for extra in node.extras)
    is_picture = isinstance(node, Conv) and now[0] is None and node.groups == 1 and node.x.type.shape[1] <= MOST_CHANNELS
    x = None if is_picture and node.x.type.dtype.itemsize <= 4 else channels_last(node.x.type)
    return Answer((x, None, *((None,) if node.bias else ()), *extras), result)


@rule(MaxPool, AveragePool)
def _pool(node: MaxPool | AveragePool, now: tuple[Layout, ...]) -> Answer:
    layout = channels_last(node.x.type)
    return Answer((layout,), layout)


@rule(Pointwise)
def _pointwise(node: Pointwise, now: tuple[Layout, ...]) -> Answer:
    """Channels last where a full operand is; operands that have one channel, or lack the axis, stay plain."""
    found = (l for l, o in zip(now, node.inputs, strict=True) if l is not None and o.type.shape == node.type.shape)
    layout = next(found, None)
    if layout is None:
        return plain(node, now)
    return Answer(tuple(aligned_layout(o, node, layout) for o in node.inputs), layout)


@rule(Concat)
def _concat(node: Concat, now: tuple[Layout, ...]) -> Answer:
    """Channels last where most of what comes in is; each operand is padded by itself."""
    own = zip(node.inputs, now, strict=True)
    size = sum(o.type.nbytes for o, layout in own if has_channels_last(o.type, layout))
    if 2 * size <= node.type.nbytes:
        return plain(node, now)
    return Answer(tuple(channels_last(o.type) for o in node.inputs), channels_last(node.type))


@rule(Slice, Pad)
def _part(node: Slice | Pad, now: tuple[Layout, ...]) -> Answer:
    return Answer(now, channels_last(node.type)) if has_channels_last(node.x.type, now[0]) else plain(node, now)


@rule(Softmax, LRN, BatchNorm)
def _normalisation(node: Softmax | LRN | BatchNorm, now: tuple[Layout, ...]) -> Answer:
    """As x is; statistics are plain."""
    layout = now[0] if has_channels_last(node.x.type, now[0]) else None
    return Answer((layout, *(None,) * (len(now) - 1)), layout)


@rule(Resize)
def _resize(node: Resize, now: tuple[Layout, ...]) -> Answer:
    """Channels stay last where they are not resized."""
    keeps = node.x.type.rank >= 3 and node.x.type.shape[1] == node.type.shape[1] and node.scales[1] == 1 and node.roi is None
    return Answer(now, now[0]) if keeps and has_channels_last(node.x.type, now[0]) else plain(node, now)


@rule(Reduce)
def _reduce(node: Reduce, now: tuple[Layout, ...]) -> Answer:
    """x as it is; the channels of the result are last where there are still some, and something behind them."""
    if not has_channels_last(node.x.type, now[0]):
        return plain(node, now)
    stays = 1 not in node.axes and node.type.rank >= 3 and (node.keepdims or 0 not in node.axes)
    return Answer(now, channels_last(node.type) if stays else None)


@rule(Gather)
def _gather(node: Gather, now: tuple[Layout, ...]) -> Answer:
    """By a list of indices everything else stays where it is."""
    if node.indices.type.rank != 1 or not has_channels_last(node.x.type, now[0]):
        return plain(node, now)
    return Answer((now[0], None), channels_last(node.type))


@rule(Expand)
def _expand(node: Expand, now: tuple[Layout, ...]) -> Answer:
    """Channels stay last where they are not what is repeated."""
    x, y = node.x.type.shape, node.type.shape
    keeps = has_channels_last(node.x.type, now[0]) and len(x) == len(y) and x[1] == y[1]
    return Answer(now, channels_last(node.type) if keeps else None)


@rule(Transpose, ArgReduce)
def _rearrange(node: Transpose | ArgReduce, now: tuple[Layout, ...]) -> Answer:
    """What reads any layout as it is and gives plain values."""
    return Answer(now, None)


@rule(Reshape)
def _reshape(node: Reshape, now: tuple[Layout, ...]) -> Answer:
    """(n, c, 1, 1) and (n, c) are the same bytes."""
    old, new, layout = node.x.type.shape, node.type.shape, now[0]
    same = layout is not None and layout.axis == 1 and old[:2] == new[:2] and math.prod(old[2:]) == 1 and math.prod(new[2:]) == 1
    return Answer(now, layout) if same else plain(node, now)
