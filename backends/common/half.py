"""A graph that computes in another floating-point type than it says: the same signature, casts at its ends."""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ...engine.evaluate import widen
from ...engine.graph import Graph, Node
from ...engine.ops import cast


def compute_in(graph: Graph, dtype: np.dtype, instead_of: np.dtype) -> Graph:
    """The same signature; inside, every value and weight of the type `instead_of` has `dtype`."""
    if all(kind.dtype != instead_of for node in graph for kind in node.types):
        return graph
    changed = widen(graph, instead_of, dtype)
    new: dict[Node, Node] = {}
    for old, inner in zip(graph.inputs, changed.inputs, strict=True):
        new[inner] = old if old.type.dtype == inner.type.dtype else cast(old, dtype)
    for node in changed:
        if node not in new:
            new[node] = node.map_operands(new.__getitem__)
    outputs = [_returned(new[w], o.type.dtype) for w, o in zip(changed.outputs, graph.outputs, strict=True)]
    return dc.replace(graph, outputs=tuple(outputs))


def _returned(node: Node, dtype: np.dtype) -> Node:
    return node if node.type.dtype == dtype else cast(node, dtype)
