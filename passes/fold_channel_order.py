"""conv(reversed channels of x, w)  =>  conv(x, reversed channels of w), also where a transpose stands between

Blue, green and red in the wrong order then cost nothing.
"""

from __future__ import annotations

import numpy as np

from ..engine.graph import Constant, Node, Uses
from ..engine.ops import Conv, Slice, Transpose
from ..engine.rewrite import merged_origin, skip


def fold_channel_order(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Conv):
        return None
    between = node.x if isinstance(node.x, Transpose) else None
    turned, axis = (node.x, 1) if between is None else (between.x, between.permutation[1])
    if not isinstance(turned, Slice) or not _only_reverses(turned, axis):
        return None
    if node.groups != 1 or not isinstance(weight := node.weight, Constant):
        return skip("the weight is not constant, or has groups of channels")
    x = turned.x if between is None else between.replace(x=turned.x)
    reordered = weight.replace(data=np.ascontiguousarray(weight.data[:, ::-1]))
    return node.replace(x=x, weight=reordered, origin=merged_origin(turned, node))


def _only_reverses(node: Slice, axis: int) -> bool:
    """Whether the slice is x with the elements of one axis, and of no other, in the opposite order."""
    others = all(node.keeps(a) for a in range(node.type.rank) if a != axis)
    return others and node.sizes[axis] == node.x.type.shape[axis] and node.steps[axis] == -1
