"""f(x)  =>  x  where f moves, pads, repeats, pools, resizes or computes nothing; a reduction of single elements  =>  reshape(x)"""

from __future__ import annotations

import math

from ..engine.expression import IDENTITY, Convert, Expression
from ..engine.graph import Node, Uses
from ..engine.ops import AveragePool, Concat, CumSum, Expand, MaxPool, Pad, Pointwise, Reduce, Reshape, Resize, Slice, Transpose


def drop_identity(node: Node, uses: Uses) -> Node | None:
    if isinstance(node, Reduce) and math.prod(node.x.type.shape[a] for a in node.axes) == 1:
        return node.x if node.type == node.x.type else Reshape(node.x, shape=node.type.shape)
    if not node.operands or len(node.types) != 1 or node.operands[0].types != node.types:
        return None
    return node.operands[0] if _is_identity(node) else None


def _is_identity(node: Node) -> bool:
    """Whether the node, which has the type of its first operand, also has its value."""
    match node:
        case Reshape() | Expand() | Pad():
            return True
        case Concat(inputs):
            return len(inputs) == 1
        case Transpose(permutation=permutation):
            return permutation == tuple(sorted(permutation))
        case Slice():
            return all(map(node.keeps, range(node.type.rank)))
        case Pointwise(expression=expression):
            return _without_casts(expression, node) == IDENTITY
        case MaxPool() | AveragePool():
            return set(node.kernel) | set(node.strides) == {1} and not any(map(any, node.pads))
        case CumSum():
            return node.type.shape[node.axis] == 1 and not node.exclusive
        case Resize():
            return set(node.scales) == {1.0} and node.coordinates != "tf_crop_and_resize"
    return False


def _without_casts(expression: Expression, node: Pointwise) -> Expression:
    """The expression without conversions to the dtype that everything has anyway."""
    while isinstance(expression, Convert) and expression.dtype == node.type.dtype:
        expression = expression.arg
    return expression
