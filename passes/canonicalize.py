"""c + x  =>  x + c,  x - 2  =>  x + -2,  1*x  =>  x,  pow(x, 2)  =>  x*x,  f(x, x)  =>  f over one x: one spelling of pointwise expressions

Constants whose elements are all equal become numbers in the expression; operands that are there twice or never read go.
"""

from __future__ import annotations

import math

import numpy as np

from ..engine.errors import ModelError
from ..engine.expression import Apply, Convert, Expression, Literal, Operand, apply, result_dtype, substitute, walk
from ..engine.graph import Constant, Node, Uses
from ..engine.ops import Pointwise
from ..engine.rewrite import skip
from ._regions import number, ordered


def canonicalize(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Pointwise):
        return None
    made = _spelled(node, numbers=True)
    if made is None:
        skip("its constants are what gives it a type")
        made = _spelled(node, numbers=False)
    return None if made is None or (made.expression == node.expression and made.inputs == node.inputs) else made


def _spelled(node: Pointwise, numbers: bool) -> Pointwise | None:
    """The node in its one spelling, with uniform constants as numbers; None if it lost its type or a part of it did."""
    operands: list[Node] = []
    for i in sorted(node.inputs, key=lambda i: isinstance(i, Constant)):
        number(operands, i)
    expression = substitute(node.expression, [(_as_number(i) if numbers else None) or number(operands, i) for i in node.inputs])
    expression = _simplified(ordered(expression), [o.type.dtype for o in operands])
    read = sorted({part.index for part in walk(expression) if isinstance(part, Operand)})
    places = {index: Operand(place) for place, index in enumerate(read)}
    expression = substitute(expression, [places.get(index, Operand(index)) for index in range(len(operands))])
    inputs = tuple(operands[index] for index in read)
    try:
        made = Pointwise(inputs, expression=expression, origin=node.origin)
    except ModelError:
        return None
    return made if made.type == node.type and _is_typed(expression, [i.type.dtype for i in inputs]) else None


def _as_number(operand: Node) -> Literal | None:
    """The number that all elements of a constant are."""
    if not isinstance(operand, Constant) or not operand.data.size:
        return None
    first = operand.data.reshape(-1)[0]
    return Literal(first.item()) if np.isfinite(first) and (operand.data == first).all() else None


def _is_typed(expression: Expression, dtypes: list[np.dtype]) -> bool:
    """Whether every function has an argument that says in which dtype it is computed."""
    for part in walk(expression):
        if isinstance(part, Apply):
            args = part.args[1:] if part.function == "where" else part.args
            if all(result_dtype(a, dtypes) is None for a in args):
                return False
    return True


def _simplified(expression: Expression, dtypes: list[np.dtype]) -> Expression:
    match expression:
        case Apply(function, args):
            made = Apply(function, tuple(_simplified(a, dtypes) for a in args))
            return _simpler(made, result_dtype(made.args[0], dtypes)) or made
        case Convert(arg, dtype):
            inner = _simplified(arg, dtypes)
            return inner if result_dtype(inner, dtypes) == dtype else Convert(inner, dtype)
    return expression


def _simpler(expression: Apply, dtype: np.dtype | None) -> Expression | None:
    """A cheaper or more regular spelling of a function of x and a number; `dtype` is that of x."""
    if len(expression.args) != 2 or not isinstance(expression.args[1], Literal) or dtype is None:
        return None
    x, value = expression.args[0], expression.args[1].value
    match expression.function:
        case "add" | "sub" if value == 0:
            return x
        case "mul" | "div" | "pow" if value == 1:
            return x
        case "sub" if dtype.kind in "if":
            return apply("add", x, -value)
        case "div" if dtype.kind == "f" and _is_power_of_two(value):
            return apply("mul", x, 1 / value)
        case "pow" if value == 2 and isinstance(x, Operand):
            return apply("mul", x, x)
        case "pow" if value == 0.5 and dtype.kind == "f":
            return apply("sqrt", x)
    return None


def _is_power_of_two(value: float) -> bool:
    """Whether dividing by it is exactly multiplying by its reciprocal, in half precision too."""
    mantissa, exponent = math.frexp(abs(value))
    return mantissa == 0.5 and abs(exponent) <= 14
