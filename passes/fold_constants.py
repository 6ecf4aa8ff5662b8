"""f(constants)  =>  constant, unless the result is large and much larger than its operands"""

from __future__ import annotations

from ..engine.evaluate import evaluate_node
from ..engine.graph import Constant, Node, Result, Uses
from ..engine.rewrite import skip

ALWAYS = 1 << 16
"""Bytes below which no growth matters."""
GROWTH = 4


def fold_constants(node: Node, uses: Uses) -> Node | None:
    inner = node.node if isinstance(node, Result) else node
    constants = [o for o in inner.operands if isinstance(o, Constant)]
    if not constants or len(constants) != len(inner.operands) or len(node.types) != 1:
        return None
    made, given = sum(t.nbytes for t in inner.types), sum(c.type.nbytes for c in constants)
    if made > max(ALWAYS, GROWTH * given):
        return skip(f"{made} bytes computed from {given} bytes of constants are not worth storing")
    value = evaluate_node(inner, {c: c.data for c in constants})
    return Constant(value if inner is node else value[node.index], origin=node.origin)  # type: ignore[attr-defined]
