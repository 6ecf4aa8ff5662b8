"""Operands of a Concat that are computed in it: where channels are last, each lies among the channels of the wider result.

A channels-last value has all channels of a position in one piece, so that an operand of a Concat is no piece of the result; but it
is one by strides, if the distance from one position to the next is that of the wider value (`Blocked.pitch`). Who reads it goes by
strides as well. So a densely connected block, in which every Concat is the beginning of the next, is one piece of memory.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from ...engine.graph import Graph, Node
from ...engine.ops import AveragePool, Concat, Conv, ConvTranspose, MaxPool, Pointwise, Reorder, Resize
from ...engine.tensor import TensorType
from .elements import MOST_ELEMENTS, is_channels_last, unit

READERS = (Conv, ConvTranspose, MaxPool, AveragePool, Pointwise, Concat, Reorder)
"""Operators whose lowerings take operands by strides, or leave them to one that does."""
WRITERS = (Conv, ConvTranspose, MaxPool, AveragePool, Pointwise, Concat, Resize)
"""Those that store their results so."""
Parts = Mapping[Node, tuple[Node, int]]
"""For each operand that is computed in a Concat: that Concat, and the bytes from the start of its first position."""
Readers = Mapping[Node, list[Node]]


def with_parts(graph: Graph) -> tuple[Graph, Parts]:
    """The graph with such operands laid out in their Concats."""
    homes, new = homes_of(graph), dict[Node, Node]()
    for old in graph:
        node = old.map_operands(new.__getitem__)
        new[old] = _among_others(node, homes, old) if old in homes else node
    return graph.with_outputs([new[o] for o in graph.outputs]), {new[old]: (new[home], at) for old, (home, at) in homes.items()}


def homes_of(graph: Graph) -> Parts:
    """What can be computed in a Concat that reads it; those that come last, and so have others in them, choose first.

    Outputs of the graph are plain, so that none of them is such an operand.
    """
    readers, homes = defaultdict[Node, list[Node]](list), dict[Node, tuple[Node, int]]()
    for node in graph:
        for operand in node.operands:
            readers[operand].append(node)
    for node in reversed(graph.nodes):
        if isinstance(node, Concat) and node.axis == 1 and is_channels_last(node.type) and _is_indexable(node.type):
            for operand, start in _fitting(node, readers):
                homes.setdefault(operand, (node, start * operand.type.dtype.itemsize))
    return homes


def _among_others(node: Node, homes: Parts, old: Node) -> Node:
    """The node with the pitch of the outermost Concat that it lies in."""
    layout = node.type.layout
    while old in homes:
        old = homes[old][0]
    assert layout is not None and old.type.layout is not None
    return node.replace(layout=dc.replace(layout, pitch=old.type.layout.block))


def _is_indexable(kind: TensorType) -> bool:
    return math.prod(kind.physical_shape) <= MOST_ELEMENTS


def _fitting(node: Concat, readers: Readers) -> Iterator[tuple[Node, int]]:
    """Operands that start and end with whole vectors, whose steps and readers go by strides, and their first channels."""
    start = 0
    for operand in node.inputs:
        channels, whole = operand.type.shape[1], unit(operand.type.dtype)
        by_strides = isinstance(operand, WRITERS) and all(isinstance(reader, READERS) for reader in readers[operand])
        fits = start % whole == 0 and channels % whole == 0 and operand.type.layout is not None
        if by_strides and fits and node.inputs.count(operand) == 1:
            yield operand, start
        start += channels
