"""Pointwise expression trees as CUDA text: what pointwise kernels and the epilogues of others compute.

A value of dtype float16 or bfloat16 is carried as float: `loaded` and `stored` stand between that and memory. The text uses the
functions of the cuda backend's prelude, so that NVRTC and the emulator both take it.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence

import numpy as np

from ...engine.expression import FUNCTIONS, Apply, Convert, Expression, Literal, Operand
from .cuda_functions import BOOL, F32, F64, PRINTERS, convert, literal, power, register_type
from .cuda_functions import loaded as loaded
from .cuda_functions import memory_type as memory_type
from .cuda_functions import stored as stored
from .kinds import unsupported as unsupported


@dc.dataclass(frozen=True)
class _Typed:
    """A name or a short text of known dtype."""

    text: str
    dtype: np.dtype


@dc.dataclass(frozen=True)
class _Untyped:
    """A value made of literals alone; it takes the dtype of what it is combined with."""

    resolve: Callable[[np.dtype], str]
    number: float | int | bool | None = None


@dc.dataclass(frozen=True)
class _Frame:
    """What operands stand for inside an expression or a function's definition, and what has been printed there by identity."""

    operands: tuple[_Typed | _Untyped, ...]
    seen: dict[int, _Typed | _Untyped] = dc.field(default_factory=dict)


@dc.dataclass(frozen=True)
class Printed:
    """Statements, and the text of the value after them."""

    statements: tuple[str, ...]
    value: str


def print_expression(expression: Expression, values: Sequence[str], dtypes: Sequence[np.dtype], prefix: str = "t") -> Printed:
    """The expression over values of these dtypes, given as texts that may be written twice: names, usually.

    The value has the register type of `result_dtype(expression, dtypes)`. Names of the statements are `prefix` and a number. A
    sub-expression that occurs twice as one object is computed once.
    """
    frame = _Frame(tuple(_Typed(v, np.dtype(d)) for v, d in zip(values, dtypes, strict=True)))
    walk = _Printing(prefix)
    result = walk.visit(expression, frame)
    return Printed(tuple(walk.statements), _resolve(result, F32))


def _resolve(value: _Typed | _Untyped, dtype: np.dtype) -> str:
    return value.text if isinstance(value, _Typed) else value.resolve(dtype)


class _Printing:
    """The walk over one expression."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.statements: list[str] = []

    def named(self, text: str, dtype: np.dtype) -> _Typed:
        """A statement that gives the text a name."""
        name = f"{self.prefix}{len(self.statements)}"
        self.statements.append(f"const {register_type(dtype)} {name} = {text};")
        return _Typed(name, dtype)

    def visit(self, expression: Expression, frame: _Frame) -> _Typed | _Untyped:
        match expression:
            case Operand(index):
                return frame.operands[index]
            case Literal(value):
                return _Untyped(lambda dtype: literal(value, dtype), value)
        if id(expression) not in frame.seen:
            frame.seen[id(expression)] = self._print(expression, frame)
        return frame.seen[id(expression)]

    def _print(self, expression: Expression, frame: _Frame) -> _Typed | _Untyped:
        match expression:
            case Convert(arg, dtype):
                value, target = self.visit(arg, frame), np.dtype(dtype)
                source = value.dtype if isinstance(value, _Typed) else target
                return self.named(convert(_resolve(value, target), source, target), target)
            case Apply("mul", (x, Apply("sigmoid", (gate,)))) | Apply("mul", (Apply("sigmoid", (gate,)), x)):
                return self._gated(self.visit(x, frame), self.visit(gate, frame))
            case Apply(function, args):
                return self._call(function, tuple(self.visit(a, frame) for a in args))
        raise TypeError(expression)

    def _call(self, function: str, values: tuple[_Typed | _Untyped, ...]) -> _Typed | _Untyped:
        definition = FUNCTIONS[function].definition
        return self._apply(function, values) if definition is None else self.visit(definition, _Frame(values))

    def _gated(self, x: _Typed | _Untyped, gate: _Typed | _Untyped) -> _Typed | _Untyped:
        """x * sigmoid(gate) by the division that the sigmoid needs anyway."""
        if isinstance(x, _Typed) and isinstance(gate, _Typed):
            return self._apply("div", (x, self._call("add", (_Untyped(lambda d: literal(1, d)), self._exp_of_negative(gate)))))
        return self._apply("mul", (x, self._call("sigmoid", (gate,))))

    def _exp_of_negative(self, gate: _Typed) -> _Typed | _Untyped:
        return self._apply("exp", (self._apply("neg", (gate,)),))

    def _apply(self, function: str, args: tuple[_Typed | _Untyped, ...]) -> _Typed | _Untyped:
        rule = FUNCTIONS[function].rule
        conditions, others = (args[:1], args[1:]) if rule == "where" else ((), args)

        def text(dtype: np.dtype) -> str:
            values = [_resolve(c, BOOL) for c in conditions] + [_resolve(o, dtype) for o in others]
            if function == "pow" and isinstance(others[1], _Untyped):
                return power(dtype, values[0], values[1], others[1].number)
            return PRINTERS[function](dtype, *values)

        known = next((a.dtype for a in others if isinstance(a, _Typed)), None)
        if rule in ("compare", "logic"):
            return self.named(text(known or (BOOL if rule == "logic" else F64)), BOOL)
        return _Untyped(text) if known is None else self.named(text(known), known)
