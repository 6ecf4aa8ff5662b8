"""batchnorm(x, scale, shift, mean, var)  =>  x*g + s,  g = scale / sqrt(var + eps),  s = shift - mean*g for each channel

For those that no convolution takes in: as pointwise expressions they fuse with what is around them.
"""

from __future__ import annotations

from ..engine.expression import Operand, apply
from ..engine.graph import Constant, Node, Uses
from ..engine.ops import BatchNorm, Pointwise, Reshape
from ._affine import batchnorm_affine

X, A, B, C = map(Operand, range(4))


def expand_batchnorm(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, BatchNorm):
        return None
    gain, shift = (_along_channels(v, node) for v in _constant(node) or _computed(node))
    return Pointwise((node.x, gain, shift), expression=X * A + B, origin=node.origin)


def _constant(node: BatchNorm) -> tuple[Node, Node] | None:
    if not all(isinstance(p, Constant) for p in node.operands[1:]):
        return None
    found = batchnorm_affine(node)
    return None if found is None else (Constant(found[0].astype(node.type.dtype)), Constant(found[1].astype(node.type.dtype)))


def _computed(node: BatchNorm) -> tuple[Node, Node]:
    gain = Pointwise((node.scale, node.variance), expression=X / apply("sqrt", A + node.epsilon))
    return gain, Pointwise((node.shift, node.mean, gain), expression=X - A * B)


def _along_channels(values: Node, node: BatchNorm) -> Node:
    shape = (1, -1, *[1] * (node.type.rank - 2))
    if isinstance(values, Constant):
        return Constant(values.data.reshape(shape))
    return Reshape(values, shape=tuple(values.type.size if n == -1 else n for n in shape))
