"""f(conv(x, w, b), c...)  =>  conv(x, w, b, extras=c..., epilogue=f)  for any pointwise f whose other operands hold one number a channel

conv may also be a transposed one or a matrix product, and may already have an epilogue: f is applied to that.
"""

from __future__ import annotations

from ..engine.graph import Node, Uses
from ..engine.ops import Pointwise
from ._regions import Product, into_epilogue


def fuse_activation(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Pointwise):
        return None
    whole = [i for i in node.inputs if i.type.shape == node.type.shape]
    if len(whole) != 1 or not isinstance(whole[0], Product):
        return None
    return into_epilogue(node, whole[0], uses)
