"""f(conv(x, w, b), y)  =>  conv(x, w, b, extras=(y,), epilogue=f)  for any pointwise f, like relu(conv + y), and y of the same shape

Where several operands are convolutions (or transposed ones, or matrix products) the one that is computed last takes the others in.
"""

from __future__ import annotations

from ..engine.graph import Node, Uses
from ..engine.ops import Pointwise
from ._regions import Product, into_epilogue


def fuse_residual(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Pointwise):
        return None
    whole = [i for i in node.inputs if i.type.shape == node.type.shape]
    if len(whole) < 2:
        return None
    # Operands are computed in order, and an operand with one reader is no part of what another one needs.
    fused = (into_epilogue(node, i, uses) for i in reversed(whole) if isinstance(i, Product))
    return next((made for made in fused if made is not None), None)
