"""a*conv(x, w, c) + b  =>  conv(x, a*w, a*c + b),  and  conv(a*x + b, w, c)  =>  conv(x, a*w, c + sum of w*b)

for any pointwise expression of that form with constants a and b for each channel; conv may also be a transposed one or a matrix
product. The second form needs b = 0 wherever the convolution pads.
"""

from __future__ import annotations

import numpy as np

from ..engine.graph import Constant, Node, Uses
from ..engine.ops import MatMul, Pointwise
from ..engine.rewrite import merged_origin, only_reader, skip
from ._affine import Product, affine, channel_axis, input_axis, per_channel, scale_input, scale_result


def fold_affine(node: Node, uses: Uses) -> Node | None:
    if isinstance(node, Pointwise):
        products = [i for i in dict.fromkeys(node.inputs) if isinstance(i, Product)]
        return _after(products[0], node, uses) if len(products) == 1 else None
    if isinstance(node, Product):
        x = node.a if isinstance(node, MatMul) else node.x
        return _before(x, node, uses) if isinstance(x, Pointwise) else None
    return None


def _after(product: Product, node: Pointwise, uses: Uses) -> Node | None:
    if product.type != node.type:
        return None
    found = _per_channel_affine(node, product, channel_axis(product))
    if found is None or not only_reader(product, uses):
        return None
    return scale_result(product, *found, merged_origin(product, node))


def _before(node: Pointwise, product: Product, uses: Uses) -> Node | None:
    computed = [i for i in node.inputs if not isinstance(i, Constant)]
    if len(computed) != 1 or computed[0].type != node.type:
        return None
    found = _per_channel_affine(node, computed[0], input_axis(product))
    if found is None or not only_reader(node, uses):
        return None
    return scale_input(product, *found, computed[0], merged_origin(node, product))


def _per_channel_affine(node: Pointwise, x: Node, axis: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(a, b) with node = a*x + b, one number a channel."""
    if node.type.dtype.kind != "f" or any(i is not x and not isinstance(i, Constant) for i in node.inputs):
        return None
    with np.errstate(all="ignore"):
        found = affine(node.expression, [i.data.astype(np.float64) if isinstance(i, Constant) else None for i in node.inputs])
    if found is None or found[0] is None:
        return None
    gain, shift = (per_channel(value, node.type, axis) for value in found)
    if gain is None or shift is None:
        return skip(f"its constants vary along more than the channels of {x.opname}")
    return gain, shift
