"""float16 models: the graph computes in float32 and rounds at its outputs, since no kernel here is faster in half precision."""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ...engine.evaluate import widen
from ...engine.graph import Graph, Node
from ...engine.ops import cast

HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def compute_half_in_single(graph: Graph) -> Graph:
    """The same signature; inside, every float16 is a float32."""
    if all(kind.dtype != HALF for node in graph for kind in node.types):
        return graph
    wide = widen(graph, HALF, SINGLE)
    new: dict[Node, Node] = {}
    for old, widened in zip(graph.inputs, wide.inputs, strict=True):
        new[widened] = old if old.type.dtype == widened.type.dtype else cast(old, SINGLE)
    for node in wide:
        if node not in new:
            new[node] = node.map_operands(new.__getitem__)
    outputs = [_narrowed(new[w], o.type.dtype) for w, o in zip(wide.outputs, graph.outputs, strict=True)]
    return dc.replace(graph, outputs=tuple(outputs))


def _narrowed(node: Node, dtype: np.dtype) -> Node:
    return node if node.type.dtype == dtype else cast(node, dtype)
