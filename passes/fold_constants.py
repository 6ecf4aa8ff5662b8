"""f(constants)  =>  constant, unless the result is large and much larger than its operands

A value without elements is known as well.
"""

from __future__ import annotations

import numpy as np

from ..engine.evaluate import evaluate_node
from ..engine.graph import Constant, Node, Result, Uses
from ..engine.rewrite import skip

ALWAYS = 1 << 16
"""Bytes below which no growth matters."""
GROWTH = 4


def fold_constants(node: Node, uses: Uses) -> Node | None:
    inner = node.node if isinstance(node, Result) else node
    values = {o: value for o in inner.operands if (value := known(o)) is not None}
    if not values or len(node.types) != 1 or any(o not in values for o in inner.operands):
        return None
    made, given = sum(t.nbytes for t in inner.types), sum(v.nbytes for v in values.values())
    if made > max(ALWAYS, GROWTH * given):
        return skip(f"{made} bytes computed from {given} bytes of constants are not worth storing")
    value = evaluate_node(inner, values)
    # A transposed weight stays a view: whoever packs it may well turn it back.
    return Constant(np.asarray(value[node.index] if isinstance(node, Result) else value), origin=node.origin)


def known(node: Node) -> np.ndarray | None:
    """What the node holds in every run, or None where that depends on inputs."""
    if isinstance(node, Constant):
        return node.data
    return np.empty(node.type.shape, node.type.dtype) if len(node.types) == 1 and node.type.size == 0 else None
