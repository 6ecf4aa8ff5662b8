"""Expression tree → ONNX nodes: a function in ONNX's own word where it has one, else by its definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...engine.errors import UnsupportedError
from ...engine.expression import FUNCTIONS, Apply, Convert, Expression, Literal, Operand, apply, result_dtype, substitute, walk
from .ops_elementwise import BINARY, UNARY
from .tensors import code_of
from .writer import Writer

WORDS = {
    **{function: op for op, function in (UNARY | BINARY).items() if op != "PRelu"},
    "is_inf": "IsInf", "less_equal": "LessOrEqual", "max": "Max", "min": "Min", "pow": "Pow", "where": "Where",
}  # fmt: skip
"""ONNX operators that are one function of operands alone."""
PARAMETERS = {"leaky_relu": ("LeakyRelu", "alpha"), "elu": ("Elu", "alpha"), "hard_sigmoid": ("HardSigmoid", "alpha", "beta")}
"""ONNX operators of one operand whose other arguments, if they are literals, are attributes."""
NEWER = {"bit_and": 18, "bit_or": 18, "bit_xor": 18, "bit_not": 18, "mish": 18}
"""The opset of the functions that opset 17 does not have."""


def opset_of_expression(expression: Expression) -> int:
    """The oldest opset that can say it."""
    return max((NEWER.get(e.function, 1) for e in walk(expression) if isinstance(e, Apply)), default=1)


def write_expression(to: Writer, expression: Expression, operands: Sequence[str], dtypes: Sequence[np.dtype]) -> str:
    """The name of the expression's value over operands of these names and dtypes."""
    return _Scribe(to, operands, dtypes).write(expression, None)


class _Scribe:
    """Writes one expression, equal parts of it once."""

    def __init__(self, to: Writer, operands: Sequence[str], dtypes: Sequence[np.dtype]) -> None:
        self.to, self.operands, self.dtypes = to, operands, dtypes
        self._written: dict[tuple[Expression, np.dtype | None], str] = {}

    def write(self, expression: Expression, dtype: np.dtype | None) -> str:
        """The name of a part; a number there takes the given dtype."""
        if isinstance(expression, Operand):
            return self.operands[expression.index]
        key = (expression, dtype)
        if key not in self._written:
            self._written[key] = self._write(expression, dtype)
        return self._written[key]

    def _write(self, expression: Expression, dtype: np.dtype | None) -> str:
        match expression:
            case Literal(value):
                return self.to.constant(value, dtype)
            case Convert(Literal() as number, target):
                return self.write(number, np.dtype(target))
            case Convert(arg, target):
                inner = self.write(arg, None)
                return inner if result_dtype(arg, self.dtypes) == target else self.to.emit("Cast", inner, to=code_of(np.dtype(target)))
            case Apply(function, args):
                known = [result_dtype(a, self.dtypes) for a in (args[1:] if function == "where" else args)]
                return self._apply(expression, next((d for d in known if d is not None), dtype))
        raise TypeError(expression)

    def _apply(self, expression: Apply, dtype: np.dtype | None) -> str:
        function, args = expression.function, expression.args
        if function in PARAMETERS and all(isinstance(a, Literal) for a in args[1:]):
            op, *names = PARAMETERS[function]
            numbers: dict[str, Any] = {name: float(a.value) for name, a in zip(names, args[1:], strict=True) if isinstance(a, Literal)}
            return self.to.emit(op, self.write(args[0], dtype), **numbers)
        if function == "clip" and all(isinstance(a, Literal) for a in args[1:]):
            return self.to.emit("Clip", *(self.write(a, dtype) for a in args))
        if function in WORDS:
            condition = np.dtype(bool) if function == "where" else dtype
            return self.to.emit(WORDS[function], self.write(args[0], condition), *(self.write(a, dtype) for a in args[1:]))
        if (definition := FUNCTIONS[function].definition) is not None:
            return self.write(substitute(definition, args), dtype)
        return self._spelled(function, args, dtype)

    def _spelled(self, function: str, args: tuple[Expression, ...], dtype: np.dtype | None) -> str:
        """Functions for which ONNX needs an attribute or other functions."""
        integer = dtype is not None and dtype.kind in "iu"
        match function:
            case "fmod":
                return self.to.emit("Mod", *(self.write(a, dtype) for a in args), fmod=1)
            case "remainder" if integer:
                return self.to.emit("Mod", *(self.write(a, dtype) for a in args))
            case "remainder":
                return self.write(args[0] - apply("floor", args[0] / args[1]) * args[1], dtype)
            case "log1p":
                return self.write(apply("log", 1 + args[0]), dtype)
            case "shift_left" | "shift_right" if dtype is not None and dtype.kind == "u":
                direction = function.removeprefix("shift_").upper()
                return self.to.emit("BitShift", *(self.write(a, dtype) for a in args), direction=direction)
        raise UnsupportedError(f"{function} of {dtype}")
