"""Which physical layout every value gets, and the Reorder nodes between those that disagree.

Convolutions want their channels blocked by the vector width, and everything that can follows the layout it is given, so that a
network stays blocked from its first convolution to its last. An operator without a rule takes and gives plain values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...engine.graph import Constant, Graph, Node
from ...engine.ops import (
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    Expand,
    Gather,
    MatMul,
    MaxPool,
    Pad,
    Pointwise,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)  # fmt: skip
from ...engine.tensor import Blocked
from ..common.layouts import Answer, Layout, aligned_layout, assign
from .epilogue import is_direct

PLAIN_CHANNELS = 4
"""A convolution reads a plain input with at most this many channels as it is, one channel at a time."""


Rule = Callable[..., Answer]
RULES: dict[type[Node], Rule] = {}


def rule(*operators: type[Node]) -> Callable[[Rule], Rule]:
    """Decorator: this function `(node, layouts its operands have now, lanes) -> Answer` speaks for these operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


def assign_layouts(graph: Graph, lanes: int) -> Graph:
    """The graph in layouts for vectors of so many lanes."""
    return assign(graph, lambda node, now: RULES.get(type(node), _plain)(node, now, lanes))


def _plain(node: Node, now: Sequence[Layout], lanes: int) -> Answer:
    return Answer((None,) * len(now), None)


def is_float32(node: Node) -> bool:
    """Whether every operand and the result are float32, which is what blocked kernels compute in."""
    return all(o.types[0].dtype == np.float32 for o in (*node.operands, node))


@rule(Conv, ConvTranspose)
def _convolution(node: Conv | ConvTranspose, now: tuple[Layout, ...], lanes: int) -> Answer:
    if not is_direct(node):
        return _plain(node, now, lanes)
    blocked = Blocked(1, lanes)
    x = None if now[0] is None and node.x.type.shape[1] <= PLAIN_CHANNELS else blocked
    extras = (blocked,) * len(node.extras)
    return Answer((x, None, *((None,) if node.bias else ()), *extras), blocked)


@rule(MatMul)
def _matmul(node: MatMul, now: tuple[Layout, ...], lanes: int) -> Answer:
    if not is_direct(node):
        return _plain(node, now, lanes)
    blocked = Blocked(node.type.rank - 1, lanes)
    bias = (None,) if node.bias else ()
    extras = (blocked,) * len(node.extras)
    if isinstance(node.b, Constant) and node.b.type.rank == 2:
        a = blocked if now[0] == Blocked(node.a.type.rank - 1, lanes) else None
        return Answer((a, None, *bias, *extras), blocked)
    return Answer((None, Blocked(node.b.type.rank - 1, lanes), *bias, *extras), blocked)


@rule(MaxPool, AveragePool)
def _pool(node: MaxPool | AveragePool, now: tuple[Layout, ...], lanes: int) -> Answer:
    return Answer((Blocked(1, lanes),), Blocked(1, lanes)) if is_float32(node) else _plain(node, now, lanes)


@rule(Resize)
def _resize(node: Resize, now: tuple[Layout, ...], lanes: int) -> Answer:
    spatial_only = node.x.type.shape[:2] == node.type.shape[:2] and node.x.type.rank > 2
    return Answer(now, now[0]) if spatial_only and is_float32(node) and now[0] == Blocked(1, lanes) else _plain(node, now, lanes)


@rule(Pointwise)
def _pointwise(node: Pointwise, now: tuple[Layout, ...], lanes: int) -> Answer:
    """Blocked where a full operand is; operands that have extent 1 along the blocked axis, or lack it, stay plain."""
    if not is_float32(node):
        return _plain(node, now, lanes)
    shape = node.type.shape
    layout = next((l for l, o in zip(now, node.inputs, strict=True) if l is not None and o.type.shape == shape), None)
    if layout is None:
        return _plain(node, now, lanes)
    return Answer(tuple(aligned_layout(o, node, layout) for o in node.inputs), layout)


@rule(Softmax)
def _softmax(node: Softmax, now: tuple[Layout, ...], lanes: int) -> Answer:
    return Answer(now, now[0]) if is_float32(node) else _plain(node, now, lanes)


@rule(Reduce)
def _reduce(node: Reduce, now: tuple[Layout, ...], lanes: int) -> Answer:
    """Blocked where the blocked axis is in front of what is reduced; without it plain, and read as it is."""
    layout = now[0]
    if layout is None or not is_float32(node):
        return _plain(node, now, lanes)
    if layout.axis in node.axes:
        return Answer(now, None)
    return Answer(now, layout) if all(axis > layout.axis for axis in node.axes) else _plain(node, now, lanes)


@rule(Concat)
def _concat(node: Concat, now: tuple[Layout, ...], lanes: int) -> Answer:
    """Blocked where most of what comes in is."""
    layout = Blocked(1, lanes)
    blocked = sum(o.type.nbytes for o, l in zip(node.inputs, now, strict=True) if l == layout)
    if is_float32(node) and node.type.rank >= 3 and 2 * blocked > node.type.nbytes and node.axis in (0, 1):
        return Answer((layout,) * len(now), layout)
    return _plain(node, now, lanes)


@rule(Slice)
def _slice(node: Slice, now: tuple[Layout, ...], lanes: int) -> Answer:
    layout = now[0]
    if layout != Blocked(1, lanes):
        return _plain(node, now, lanes)
    others_stay = all(node.keeps(axis) for axis in range(node.type.rank) if axis != 1)
    return Answer(now, layout) if node.steps[1] == 1 or others_stay else _plain(node, now, lanes)


@rule(Gather)
def _gather(node: Gather, now: tuple[Layout, ...], lanes: int) -> Answer:
    """Channels by constant indices stay blocked."""
    constant = isinstance(node.indices, Constant) and node.indices.type.rank == 1
    stays = constant and now[0] == Blocked(node.axis, lanes)
    return Answer((now[0], None), now[0]) if stays else _plain(node, now, lanes)


@rule(Transpose, Expand)
def _rearrange(node: Transpose | Expand, now: tuple[Layout, ...], lanes: int) -> Answer:
    """A copy that reads a blocked value as it is."""
    return Answer(now, None)


@rule(Pad)
def _pad(node: Pad, now: tuple[Layout, ...], lanes: int) -> Answer:
    layout = now[0]
    return Answer(now, layout if layout and node.pads[layout.axis] == (0, 0) else None)


@rule(Reshape)
def _reshape(node: Reshape, now: tuple[Layout, ...], lanes: int) -> Answer:
    """(n, c, 1, 1) and (n, c) are the same blocked value."""
    old, new, layout = node.x.type.shape, node.type.shape, now[0]
    same = layout == Blocked(1, lanes) and old[:2] == new[:2] and len(new) >= 2 and math.prod(old[2:]) == 1 and math.prod(new[2:]) == 1
    return Answer(now, layout) if same else _plain(node, now, lanes)
