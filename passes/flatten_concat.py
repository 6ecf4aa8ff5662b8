"""concat(concat(a, b), c)  =>  concat(a, b, c)  along one axis, where the inner one has no other reader"""

from __future__ import annotations

from ..engine.graph import Node, Uses
from ..engine.ops import Concat
from ..engine.rewrite import merged_origin, skip


def flatten_concat(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Concat):
        return None
    flat: list[Node] = []
    merged: list[Node] = []
    for i in node.inputs:
        if isinstance(i, Concat) and i.axis == node.axis and _reads_all(node, i, uses):
            flat.extend(i.inputs)
            merged.append(i)
        else:
            flat.append(i)
    return node.replace(inputs=tuple(flat), origin=merged_origin(*merged, node)) if merged else None


def _reads_all(node: Concat, inner: Concat, uses: Uses) -> bool:
    if uses[inner] > node.inputs.count(inner):
        skip(f"the inner concat has {uses[inner]} readers")
        return False
    return True
