"""f(g(x, ...), y, ...)  =>  (f after g)(x, ..., y, ...)  where f is the only reader of g and both have the same shape"""

from __future__ import annotations

from ..engine.graph import Node, Uses
from ..engine.ops import Pointwise
from ..engine.rewrite import merged_origin, only_reader, skip
from ._regions import inline


def fuse_pointwise(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Pointwise):
        return None
    made = (_with_operand(node, i, uses) for i in dict.fromkeys(node.inputs) if isinstance(i, Pointwise))
    return next((m for m in made if m is not None), None)


def _with_operand(node: Pointwise, inner: Pointwise, uses: Uses) -> Node | None:
    if not only_reader(inner, uses):
        return None
    if inner.type.shape != node.type.shape:
        return skip(f"{inner.type} would be computed again for every element of {node.type}")
    operands: list[Node] = []
    expression = inline(node, inner, inner.expression, inner.inputs, operands)
    if expression is None:
        return None
    return Pointwise(tuple(operands), expression=expression, origin=merged_origin(inner, node))
