"""Pointwise expression trees: what a Pointwise node computes, and what a kernel applies to its result before it is stored.

The table FUNCTIONS is every pointwise function there is. A function with a `definition` is spelled in terms of others, so a
code generator needs to know only those without one.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .errors import ModelError
from .numeric import divide, error_function


class Expression:
    """An immutable tree over numbered operands; compared by structure."""

    def __add__(self, other: Expression | float) -> Expression:
        return apply("add", self, other)

    def __radd__(self, other: float) -> Expression:
        return apply("add", other, self)

    def __sub__(self, other: Expression | float) -> Expression:
        return apply("sub", self, other)

    def __rsub__(self, other: float) -> Expression:
        return apply("sub", other, self)

    def __mul__(self, other: Expression | float) -> Expression:
        return apply("mul", self, other)

    def __rmul__(self, other: float) -> Expression:
        return apply("mul", other, self)

    def __truediv__(self, other: Expression | float) -> Expression:
        return apply("div", self, other)

    def __rtruediv__(self, other: float) -> Expression:
        return apply("div", other, self)

    def __neg__(self) -> Expression:
        return apply("neg", self)

    def __lt__(self, other: Expression | float) -> Expression:
        return apply("less", self, other)

    def __str__(self) -> str:
        return render(self, lambda index: f"${index}")


@dc.dataclass(frozen=True)
class Operand(Expression):
    """The operand with this number."""

    index: int


@dc.dataclass(frozen=True)
class Literal(Expression):
    """A number; it takes the dtype of what it is combined with."""

    value: float | int | bool


@dc.dataclass(frozen=True)
class Apply(Expression):
    """A function of FUNCTIONS over arguments."""

    function: str
    args: tuple[Expression, ...]


@dc.dataclass(frozen=True)
class Convert(Expression):
    """The argument converted to a dtype: to integers it truncates, to bool it asks whether it is not zero."""

    arg: Expression
    dtype: np.dtype


@dc.dataclass(frozen=True)
class Function:
    """One pointwise function: its type rule ("same", "compare" or "logic"), NumPy meaning or definition, and flops."""

    arity: int
    rule: str
    numpy: Callable[..., Any] | None = None
    definition: Expression | None = None
    flops: int = 1


IDENTITY = Operand(0)
FUNCTIONS: dict[str, Function] = {}


def apply(function: str, *args: Expression | float) -> Apply:
    """`apply("max", x, 0)`; Python numbers become literals. Raises ModelError for an unknown function or a wrong number of arguments."""
    known = FUNCTIONS.get(function)
    if known is None or known.arity != len(args):
        raise ModelError(f"no pointwise function {function} of {len(args)} arguments")
    return Apply(function, tuple(a if isinstance(a, Expression) else Literal(a) for a in args))


def _primitive(name: str, arity: int, numpy: Callable[..., Any], rule: str = "same", flops: int = 1) -> None:
    FUNCTIONS[name] = Function(arity, rule, numpy=numpy, flops=flops)


def _composite(name: str, arity: int, build: Callable[..., Expression], flops: int = 4) -> None:
    FUNCTIONS[name] = Function(arity, "same", definition=build(*map(Operand, range(arity))), flops=flops)


for _name, _ufunc in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": divide, "max": np.maximum, "min": np.minimum,
    "remainder": np.remainder, "fmod": np.fmod, "bit_and": np.bitwise_and, "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor,
    "shift_left": np.left_shift, "shift_right": np.right_shift,
}.items():  # fmt: skip
    _primitive(_name, 2, _ufunc)
_primitive("pow", 2, np.power, flops=20)
for _name, _ufunc in {
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "bit_not": np.invert,
}.items():  # fmt: skip
    _primitive(_name, 1, _ufunc)
for _name, _ufunc in {
    "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "erf": error_function,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
}.items():  # fmt: skip
    _primitive(_name, 1, _ufunc, flops=10)
for _name, _ufunc in {"less": np.less, "less_equal": np.less_equal, "equal": np.equal}.items():
    _primitive(_name, 2, _ufunc, "compare")
for _name, _ufunc in {"is_nan": np.isnan, "is_inf": np.isinf}.items():
    _primitive(_name, 1, _ufunc, "compare")
for _name, _ufunc in {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.items():
    _primitive(_name, 2, _ufunc, "logic")
_primitive("not", 1, np.logical_not, "logic")
_primitive("where", 3, np.where, "where")

_composite("relu", 1, lambda x: apply("max", x, 0), flops=1)
_composite("clip", 3, lambda x, low, high: apply("min", apply("max", x, low), high), flops=2)
_composite("leaky_relu", 2, lambda x, slope: apply("where", x < 0, x * slope, x), flops=2)
_composite("reciprocal", 1, lambda x: 1 / x, flops=1)
_composite("sigmoid", 1, lambda x: 1 / (1 + apply("exp", -x)), flops=12)
_composite("hard_sigmoid", 3, lambda x, scale, shift: apply("clip", x * scale + shift, 0, 1))
_composite("hard_swish", 1, lambda x: x * apply("hard_sigmoid", x, 1 / 6, 0.5), flops=5)
_composite("silu", 1, lambda x: x * apply("sigmoid", x), flops=13)
_composite("softplus", 1, lambda x: apply("max", x, 0) + apply("log1p", apply("exp", -apply("abs", x))), flops=22)
_composite("softsign", 1, lambda x: x / (1 + apply("abs", x)), flops=3)
_composite("mish", 1, lambda x: x * apply("tanh", apply("softplus", x)), flops=34)
_composite("elu", 2, lambda x, scale: apply("where", x < 0, (apply("exp", apply("min", x, 0)) - 1) * scale, x), flops=13)
_composite("gelu", 1, lambda x: x * 0.5 * (apply("erf", x * math.sqrt(0.5)) + 1), flops=14)
_composite("gelu_tanh", 1, lambda x: x * 0.5 * (apply("tanh", (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) + 1), flops=18)


def children(expression: Expression) -> tuple[Expression, ...]:
    """The direct sub-expressions."""
    match expression:
        case Apply(_, args):
            return args
        case Convert(arg, _):
            return (arg,)
    return ()


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and everything below it, parents first."""
    yield expression
    for child in children(expression):
        yield from walk(child)


def substitute(expression: Expression, replacements: Sequence[Expression]) -> Expression:
    """The expression with operand i replaced by `replacements[i]`."""
    match expression:
        case Operand(index):
            return replacements[index]
        case Apply(function, args):
            return Apply(function, tuple(substitute(a, replacements) for a in args))
        case Convert(arg, dtype):
            return Convert(substitute(arg, replacements), dtype)
    return expression


def expand(expression: Expression) -> Expression:
    """The expression in terms of primitive functions only."""
    match expression:
        case Apply(function, args):
            expanded = tuple(map(expand, args))
            definition = FUNCTIONS[function].definition
            return Apply(function, expanded) if definition is None else expand(substitute(definition, expanded))
        case Convert(arg, dtype):
            return Convert(expand(arg), dtype)
    return expression


def evaluate(expression: Expression, operands: Sequence[Any]) -> Any:
    """The NumPy meaning; floating-point exceptions give inf and nan quietly, as on every machine."""
    with np.errstate(all="ignore"):
        return _evaluate(expand(expression), operands)


def _evaluate(expression: Expression, operands: Sequence[Any]) -> Any:
    match expression:
        case Operand(index):
            return operands[index]
        case Literal(value):
            return value
        case Convert(arg, dtype):
            return np.asarray(_evaluate(arg, operands)).astype(dtype)
        case Apply(function, args):
            meaning = FUNCTIONS[function].numpy
            assert meaning is not None
            return meaning(*(_evaluate(a, operands) for a in args))
    raise TypeError(expression)


def result_dtype(expression: Expression, dtypes: Sequence[np.dtype]) -> np.dtype | None:
    """The dtype of the value, given those of the operands; None for a bare literal. Raises ModelError where they do not fit."""
    match expression:
        case Operand(index):
            return np.dtype(dtypes[index])
        case Convert(arg, dtype):
            result_dtype(arg, dtypes)
            return np.dtype(dtype)
        case Apply(function, args):
            return _apply_dtype(function, [result_dtype(a, dtypes) for a in args])
    return None


def _apply_dtype(function: str, args: list[np.dtype | None]) -> np.dtype | None:
    rule = FUNCTIONS[function].rule
    if rule == "where":
        if args[0] not in (np.dtype(bool), None):
            raise ModelError(f"where: expected a bool condition, got {args[0]}")
        args = args[1:]
    known = {a for a in args if a is not None}
    if len(known) > 1:
        raise ModelError(f"{function}: expected operands of one dtype, got {' and '.join(sorted(map(str, known)))}")
    if rule == "logic" and known - {np.dtype(bool)}:
        raise ModelError(f"{function}: expected bool operands, got {known.pop()}")
    if rule in ("compare", "logic"):
        return np.dtype(bool)
    return known.pop() if known else None


def flops(expression: Expression) -> int:
    """Arithmetic operations for one element."""
    own = FUNCTIONS[expression.function].flops if isinstance(expression, Apply) else 0
    return own + sum(flops(child) for child in children(expression))


INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "less": ("<", 0)}


def render(expression: Expression, operand_name: Callable[[int], str], level: int = 0) -> str:
    """The expression as text; `level` is the binding strength of what stands around it."""
    match expression:
        case Operand(index):
            return operand_name(index)
        case Literal(value):
            return f"{value:.9g}" if isinstance(value, float) else str(value)
        case Convert(arg, dtype):
            return f"{dtype}({render(arg, operand_name)})"
        case Apply(function, (left, right)) if function in INFIX:
            sign, strength = INFIX[function]
            text = f"{render(left, operand_name, strength)} {sign} {render(right, operand_name, strength + 1)}"
            return f"({text})" if strength < level else text
        case Apply(function, args):
            return f"{function}({', '.join(render(a, operand_name) for a in args)})"
    raise TypeError(expression)


def change_dtypes(expression: Expression, change: Callable[[np.dtype], np.dtype]) -> Expression:
    """The expression with the dtype of every Convert replaced by `change(dtype)`."""
    match expression:
        case Apply(function, args):
            return Apply(function, tuple(change_dtypes(a, change) for a in args))
        case Convert(arg, dtype):
            return Convert(change_dtypes(arg, change), change(np.dtype(dtype)))
    return expression
