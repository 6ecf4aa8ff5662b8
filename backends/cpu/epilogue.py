"""conv(x, w, b, extras=c..., epilogue=f)  =>  f(conv(x, w) + b, c...)  where the direct kernels cannot take b, c or f along.

What they take: a constant bias, float32 operands of the result's shape or with one number for each channel, and a function that is
finite in padding lanes. Whatever else a model's epilogue holds becomes a pointwise step of its own.
"""

from __future__ import annotations

import math

import numpy as np

from ...engine import expression as ex
from ...engine.graph import Constant, Graph, Node
from ...engine.ops import Conv, ConvTranspose, MatMul, Pointwise, Reshape
from .padding import epilogue_stays_finite

Product = Conv | ConvTranspose | MatMul
F4 = np.dtype(np.float32)


def is_direct(node: Product) -> bool:
    """Whether the direct kernels compute the product: of float32 numbers, a convolution with a constant weight or any of matrices."""
    left, right = node.operands[:2]
    fits = isinstance(node, MatMul) or isinstance(right, Constant)
    return fits and left.type.dtype == F4 and 0 not in (left.type.size, right.type.size)


def split_epilogues(graph: Graph, lanes: int) -> Graph:
    """The graph without epilogues that no direct kernel can take along."""
    new: dict[Node, Node] = {}
    for old in graph:
        node = old.map_operands(new.__getitem__)
        if isinstance(node, Product) and not (is_direct(node) and takes_along(node, lanes)):
            node = split(node)
        new[old] = node
    return graph.with_outputs([new[o] for o in graph.outputs])


def takes_along(node: Product, lanes: int) -> bool:
    """Whether bias, extras and epilogue fit a direct kernel."""
    axis = node.type.rank - 1 if isinstance(node, MatMul) else 1
    fits = isinstance(node.bias, Constant | None) and all(_is_full_or_channel(e, node, axis) for e in node.extras)
    is_finite = node.type.shape[axis] % lanes == 0 or epilogue_stays_finite(node.epilogue, len(node.extras))
    return fits and is_finite and node.type.dtype == F4


def _is_full_or_channel(extra: Node, node: Product, axis: int) -> bool:
    shape, result = extra.type.shape, node.type.shape
    one_each = len(shape) == len(result) and axis == 1 and shape[1] == result[1] and math.prod(shape[2:]) == 1
    return extra.type.dtype == F4 and (shape == result or one_each)


def split(node: Product) -> Node:
    """The bare product, and after it a pointwise step with everything else."""
    bias, operands = node.bias, list(node.extras)
    first: ex.Expression = ex.IDENTITY
    if bias is not None and not isinstance(bias, Constant):
        shape = (bias.type.size, *[1] * (node.type.rank - 2))
        operands.append(bias if isinstance(node, MatMul) else Reshape(bias, shape=shape, origin=bias.origin))
        first = first + ex.Operand(len(operands))
        bias = None
    bare = node.replace(bias=bias, extras=(), epilogue=ex.IDENTITY)
    if not operands and node.epilogue == ex.IDENTITY:
        return bare
    expression = ex.substitute(node.epilogue, [first, *(ex.Operand(i + 1) for i in range(len(node.extras)))])
    return Pointwise((bare, *operands), expression=expression, origin=node.origin)
