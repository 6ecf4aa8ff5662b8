"""Operators that work element by element: each becomes one Pointwise."""

from __future__ import annotations

import functools

import numpy as np

from ...engine.errors import UnsupportedError
from ...engine.expression import IDENTITY, Convert, Expression, Operand, apply
from ...engine.graph import Constant, Node
from ...engine.ops.elementwise import Pointwise, cast, pointwise
from .convert import Call, Results, converter
from .tensors import dtype_of

UNARY = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh", "Atan": "atan", "Atanh": "atanh",
    "BitwiseNot": "bit_not", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor",
    "HardSwish": "hard_swish", "IsNaN": "is_nan", "Log": "log", "Mish": "mish", "Neg": "neg", "Not": "not",
    "Reciprocal": "reciprocal", "Relu": "relu", "Round": "round", "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin",
    "Sinh": "sinh", "Softplus": "softplus", "Softsign": "softsign", "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh",
}  # fmt: skip
BINARY = {
    "Add": "add", "And": "and", "BitwiseAnd": "bit_and", "BitwiseOr": "bit_or", "BitwiseXor": "bit_xor", "Div": "div",
    "Equal": "equal", "Less": "less", "LessOrEqual": "less_equal", "Mul": "mul", "Or": "or", "PRelu": "leaky_relu",
    "Sub": "sub", "Xor": "xor",
}  # fmt: skip
VARIADIC = {"Max": "max", "Mean": "add", "Min": "min", "Sum": "add"}


def over(expression: Expression, *operands: Node) -> Node:
    """A Pointwise over operands."""
    return Pointwise(operands, expression=expression)


@converter(*UNARY)
def unary(call: Call) -> Results:
    """f(x)."""
    return pointwise(UNARY[call.op], call[0])


@converter(*BINARY)
def binary(call: Call) -> Results:
    """f(a, b)."""
    return pointwise(BINARY[call.op], call[0], call[1])


@converter("Greater")
def greater(call: Call) -> Results:
    """a > b is b < a."""
    return pointwise("less", call[1], call[0])


@converter("GreaterOrEqual")
def greater_or_equal(call: Call) -> Results:
    """a >= b is b <= a."""
    return pointwise("less_equal", call[1], call[0])


@converter(*VARIADIC)
def variadic(call: Call) -> Results:
    """f(f(a, b), c) ..., for Mean divided by how many there are."""
    operands = tuple(call[i] for i in range(max(len(call), 1)))
    folded = functools.reduce(functools.partial(apply, VARIADIC[call.op]), map(Operand, range(len(operands))))
    return over(folded / len(operands) if call.op == "Mean" else folded, *operands) if len(operands) > 1 else call[0]


@converter("Mod")
def mod(call: Call) -> Results:
    """The remainder with the sign of b, or with fmod=1 that of a."""
    return pointwise("fmod" if call.integer("fmod") else "remainder", call[0], call[1])


@converter("Pow")
def power(call: Call) -> Results:
    """a ^ b in the dtype of a; a broken exponent of an integer is computed as the exponent's dtype."""
    base, exponent = call[0].type.dtype, call[1].type.dtype
    if base == exponent:
        return pointwise("pow", call[0], call[1])
    if base.kind != "f" and exponent.kind == "f":
        return over(Convert(apply("pow", Convert(Operand(0), exponent), Operand(1)), base), call[0], call[1])
    return over(apply("pow", Operand(0), Convert(Operand(1), base)), call[0], call[1])


@converter("BitShift")
def bit_shift(call: Call) -> Results:
    """a << b or a >> b."""
    direction = call.text("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise call.refuse("direction")
    return pointwise(f"shift_{direction.lower()}", call[0], call[1])


@converter("Where")
def where(call: Call) -> Results:
    """condition ? a : b."""
    return pointwise("where", call[0], call[1], call[2])


@converter("IsInf")
def is_inf(call: Call) -> Results:
    """Whether x is infinite, of either sign or of one."""
    found = apply("is_inf", IDENTITY)
    if not call.integer("detect_negative"):
        found = apply("and", found, apply("less", 0, IDENTITY))
    if not call.integer("detect_positive"):
        found = apply("and", found, IDENTITY < 0)
    return over(found, call[0])


@converter("Cast")
def cast_to(call: Call) -> Results:
    """x in another dtype."""
    dtype = dtype_of(call.integer("to"), "the result")
    return call[0] if dtype == call[0].type.dtype else cast(call[0], dtype)


@converter("CastLike")
def cast_like(call: Call) -> Results:
    """a in the dtype of b."""
    return call[0] if call[0].type.dtype == call[1].type.dtype else cast(call[0], call[1].type.dtype)


@converter("Clip")
def clip(call: Call) -> Results:
    """min(max(x, low), high); the bounds are attributes before opset 11, then inputs, and may be missing."""
    if call.opset < 11:
        # Before opset 11 an absent bound defaults to the end of float32's range, which bounds nothing but infinities.
        end = float(np.finfo(np.float32).max)
        numbers = [("max", call.number("min", -end)), ("min", call.number("max", end))]
        return _clip(call, [(function, bound) for function, bound in numbers if abs(bound) < end])
    known = [call.known(i) for i in (1, 2)]
    bounds = [k.item() if k is not None and k.size == 1 else call.get(i) for i, k in enumerate(known, start=1)]
    return _clip(call, [(f, b) for f, b in zip(("max", "min"), bounds, strict=True) if b is not None])


def _clip(call: Call, bounds: list[tuple[str, Node | float]]) -> Node:
    operands, result = [call[0]], IDENTITY
    for function, bound in bounds:
        if isinstance(bound, Node):
            operands.append(bound)
        result = apply(function, result, Operand(len(operands) - 1) if isinstance(bound, Node) else bound)
    return over(result, *operands) if bounds else call[0]


@converter("LeakyRelu")
def leaky_relu(call: Call) -> Results:
    """x < 0 ? alpha * x : x."""
    return pointwise("leaky_relu", call[0], call.number("alpha"))


@converter("Elu")
def elu(call: Call) -> Results:
    """x < 0 ? alpha * (exp(x) - 1) : x."""
    return pointwise("elu", call[0], call.number("alpha"))


@converter("Selu")
def selu(call: Call) -> Results:
    """gamma * elu(x, alpha)."""
    return over(apply("elu", IDENTITY, call.number("alpha")) * call.number("gamma"), call[0])


@converter("Celu")
def celu(call: Call) -> Results:
    """x < 0 ? alpha * (exp(x / alpha) - 1) : x."""
    alpha = call.number("alpha")
    curve = (apply("exp", apply("min", IDENTITY, 0) / alpha) - 1) * alpha
    return over(apply("where", IDENTITY < 0, curve, IDENTITY), call[0])


@converter("ThresholdedRelu")
def thresholded_relu(call: Call) -> Results:
    """x > alpha ? x : 0."""
    return over(apply("where", apply("less", call.number("alpha"), IDENTITY), IDENTITY, 0), call[0])


@converter("Shrink")
def shrink(call: Call) -> Results:
    """x moved by `bias` towards 0 where it is further than `lambd` from 0, else 0."""
    threshold, bias = call.number("lambd"), call.number("bias")
    above = apply("where", apply("less", threshold, IDENTITY), IDENTITY - bias, 0)
    return over(apply("where", apply("less", IDENTITY, -threshold), IDENTITY + bias, above), call[0])


@converter("HardSigmoid")
def hard_sigmoid(call: Call) -> Results:
    """clip(alpha * x + beta, 0, 1)."""
    return pointwise("hard_sigmoid", call[0], call.number("alpha"), call.number("beta"))


@converter("Swish")
def swish(call: Call) -> Results:
    """x * sigmoid(alpha * x)."""
    alpha = call.number("alpha")
    return pointwise("silu", call[0]) if alpha == 1 else over(IDENTITY * apply("sigmoid", IDENTITY * alpha), call[0])


@converter("Gelu")
def gelu(call: Call) -> Results:
    """x * Phi(x), exactly or by tanh."""
    functions = {"none": "gelu", "tanh": "gelu_tanh"}
    if call.text("approximate") not in functions:
        raise call.refuse("approximate")
    return pointwise(functions[call.text("approximate")], call[0])


@converter("Identity")
def identity(call: Call) -> Results:
    """x."""
    return call[0]


@converter("Dropout")
def dropout(call: Call) -> Results:
    """x: nothing is dropped in inference, so that the mask is all ones (bool from opset 10 on, before that in the dtype of x)."""
    if call.get(2) is not None and call.value(2).any() and (call.get(1) is None or call.value(1).any()):
        raise UnsupportedError("it drops elements at random in training; export the model for inference")
    dtype = np.dtype(bool) if call.opset >= 10 else call[0].type.dtype
    return call[0], Constant(np.ones(call[0].type.shape, dtype)) if call.wants(1) else None
