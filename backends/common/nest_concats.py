"""concat(a, b, c) beside concat(a, b)  =>  concat(concat(a, b), c): so that both can share memory, and nothing is copied

Densely connected blocks, as exporters write them, concatenate all earlier layers anew for every layer. Nested, each
result is the beginning of the next, and storage that writes operands into their Concat keeps the whole block in one piece.
"""

from __future__ import annotations

from ...engine.graph import Graph, Node
from ...engine.ops import Concat

FEWEST = 2
"""Operands that a Concat has at least."""


def nest_concats(graph: Graph) -> Graph:
    """The graph with every Concat starting from the longest other one that its operands begin with."""
    known: dict[tuple[int, tuple[Node, ...]], Concat] = {}
    new: dict[Node, Node] = {}
    for old in graph:
        node = old.map_operands(new.__getitem__)
        if isinstance(node, Concat):
            whole = node.axis, node.inputs
            node = _nested(node, known)
            known.setdefault(whole, node)
        new[old] = node
    return graph.with_outputs([new[o] for o in graph.outputs])


def _nested(node: Concat, known: dict[tuple[int, tuple[Node, ...]], Concat]) -> Concat:
    for length in range(len(node.inputs) - 1, FEWEST - 1, -1):
        if start := known.get((node.axis, node.inputs[:length])):
            return node.replace(inputs=(start, *node.inputs[length:]))
    return node
