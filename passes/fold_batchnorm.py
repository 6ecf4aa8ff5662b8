"""batchnorm(conv(x, w, b))  =>  conv(x, g*w, g*b + s),  and  conv(batchnorm(x), w, b)  =>  conv(x, g*w, b + sum of w*s)

where batchnorm(x) = g*x + s, g = scale / sqrt(variance + epsilon), s = shift - mean*g for each channel; conv may also be a
transposed one or a matrix product. The second form needs s = 0 wherever the convolution pads.
"""

from __future__ import annotations

from ..engine.graph import Node, Uses
from ..engine.ops import BatchNorm, Conv, ConvTranspose, MatMul
from ..engine.rewrite import merged_origin, only_reader, skip
from ._affine import Product, batchnorm_affine, channel_axis, input_axis, scale_input, scale_result


def fold_batchnorm(node: Node, uses: Uses) -> Node | None:
    match node:
        case BatchNorm(x=(Conv() | ConvTranspose() | MatMul()) as product):
            return _after(product, node, uses)
        case (Conv(x=BatchNorm() as norm) | ConvTranspose(x=BatchNorm() as norm) | MatMul(a=BatchNorm() as norm)) as product:
            return _before(norm, product, uses)
    return None


def _after(product: Product, norm: BatchNorm, uses: Uses) -> Node | None:
    if not only_reader(product, uses):
        return None
    if channel_axis(product) != 1:
        return skip(f"the channels of {product.opname} are not on axis 1")
    found = batchnorm_affine(norm)
    return None if found is None else scale_result(product, *found, merged_origin(product, norm))


def _before(norm: BatchNorm, product: Product, uses: Uses) -> Node | None:
    if not only_reader(norm, uses):
        return None
    if input_axis(product) != 1:
        return skip(f"the channels of {product.opname} are not on axis 1")
    found = batchnorm_affine(norm)
    return None if found is None else scale_input(product, *found, norm.x, merged_origin(norm, product))
