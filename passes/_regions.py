"""Putting pointwise regions together: the expression of one node inside that of another, over the operands of both."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.expression import Apply, Convert, Expression, Operand, substitute, walk
from ..engine.graph import Constant, Node, Uses
from ..engine.ops import Conv, ConvTranspose, MatMul, Pointwise, Reshape
from ..engine.rewrite import merged_origin, only_reader, skip

Product = Conv | ConvTranspose | MatMul
"""The operators that multiply by weights: they take a bias and an epilogue."""

COMMUTATIVE = {"add", "mul", "max", "min", "equal", "and", "or", "xor", "bit_and", "bit_or", "bit_xor"}
MAX_EXPRESSION = 128
"""Regions stop to grow here: an operand that is read twice doubles what is substituted for it."""
MAX_EXTRAS = 4
"""Operands of an epilogue besides the result, so that a kernel can keep their addresses in registers."""


def channel_axis(node: Product) -> int:
    """The axis of the result that has one bias each."""
    return node.type.rank - 1 if isinstance(node, MatMul) else 1


def number(operands: list[Node], node: Node) -> Operand:
    """The node as a numbered operand, appended to the list if it is not there yet."""
    if node not in operands:
        operands.append(node)
    return Operand(operands.index(node))


def ordered(expression: Expression) -> Expression:
    """The same with the arguments of commutative functions in the order of their operands, numbers last: equal regions look equal."""
    match expression:
        case Apply(function, args):
            args = tuple(map(ordered, args))
            return Apply(function, tuple(sorted(args, key=_first_operand)) if function in COMMUTATIVE else args)
        case Convert(arg, dtype):
            return Convert(ordered(arg), dtype)
    return expression


def _first_operand(expression: Expression) -> float:
    return min((part.index for part in walk(expression) if isinstance(part, Operand)), default=float("inf"))


def inline(node: Pointwise, inner: Node, expression: Expression, slots: Sequence[Node], operands: list[Node]) -> Expression | None:
    """The expression of `node` with `expression` over `slots` in the place of its operand `inner`; None if it grows too large.

    `operands` is extended by what it reads.
    """
    inside = substitute(expression, [number(operands, s) for s in slots])
    made = ordered(substitute(node.expression, [inside if i is inner else number(operands, i) for i in node.inputs]))
    if sum(1 for _ in walk(made)) > MAX_EXPRESSION:
        return skip(f"the expression would have more than {MAX_EXPRESSION} terms")
    return made


def into_epilogue(node: Pointwise, product: Product, uses: Uses) -> Node | None:
    """The product with the whole region as its epilogue and the other operands of the region as extras.

    No cycle can arise: the region is the product's only reader, so none of its other operands depends on the product.
    """
    if not only_reader(product, uses):
        return None
    operands: list[Node] = [product, *product.extras]
    epilogue = inline(node, product, product.epilogue, tuple(operands), operands)
    extras = [as_extra(o, product) for o in operands[1:]]
    if epilogue is None or any(e is None for e in extras):
        return None
    if len(extras) > MAX_EXTRAS:
        return skip(f"the epilogue would have more than {MAX_EXTRAS} operands besides the result")
    return product.replace(extras=tuple(extras), epilogue=epilogue, origin=merged_origin(product, node))


def as_extra(operand: Node, product: Product) -> Node | None:
    """The operand as an epilogue may have it: of the result's shape, or (n or 1, k, 1, ...) with one number for each channel."""
    result, given = product.type.shape, operand.type.shape
    axis, shape = channel_axis(product), (1,) * (len(result) - len(given)) + given
    if shape != result and (shape[axis] != result[axis] or any(e != 1 and i not in (0, axis) for i, e in enumerate(shape))):
        return skip(f"operand {operand.type} is neither of the shape of {product.opname} nor one number for each channel")
    if shape == given:
        return operand
    return operand.replace(data=operand.data.reshape(shape)) if isinstance(operand, Constant) else Reshape(operand, shape=shape)
