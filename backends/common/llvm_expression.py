"""Pointwise expression trees as LLVM vector values: what pointwise kernels and the epilogues of others compute.

A value of dtype float16 is carried as float32, one of bool as i1; `to_register` and `to_memory` of llvm_convert stand between that
and memory.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine.expression import FUNCTIONS, Apply, Convert, Expression, Literal, Operand
from .kinds import unsupported as unsupported
from .llvm_convert import BOOL, F32, F64, convert, splat
from .llvm_functions import EMITTERS
from .llvm_sigmoid import over_one_plus_exp

if TYPE_CHECKING:
    from ..cpu.emit import Emitter

Value = Any


@dc.dataclass(frozen=True)
class _Typed:
    """A value whose dtype is known."""

    value: Value
    dtype: np.dtype


@dc.dataclass(frozen=True)
class _Untyped:
    """A value made of literals alone; it takes the dtype of what it is combined with."""

    resolve: Callable[[np.dtype], Value]


@dc.dataclass(frozen=True)
class _Frame:
    """What operands stand for inside an expression or a function's definition, and what has been emitted there by identity."""

    operands: tuple[_Typed | _Untyped, ...]
    seen: dict[int, _Typed | _Untyped] = dc.field(default_factory=dict)


def emit_expression(k: Emitter, expression: Expression, values: Sequence[Value], dtypes: Sequence[np.dtype]) -> Value:
    """The value of the expression over register values of these dtypes, all with the same number of lanes.

    The result is a register value of `result_dtype(expression, dtypes)`. A sub-expression that occurs twice as one object is
    emitted once.
    """
    frame = _Frame(tuple(_Typed(v, np.dtype(d)) for v, d in zip(values, dtypes, strict=True)))
    return _resolve(_Emission(k, values[0].type.count).visit(expression, frame), F32)


def _resolve(value: _Typed | _Untyped, dtype: np.dtype) -> Value:
    return value.value if isinstance(value, _Typed) else value.resolve(dtype)


class _Emission:
    """The walk over one expression."""

    def __init__(self, k: Emitter, lanes: int) -> None:
        self.k, self.lanes = k, lanes

    def visit(self, expression: Expression, frame: _Frame) -> _Typed | _Untyped:
        match expression:
            case Operand(index):
                return frame.operands[index]
            case Literal(value):
                return _Untyped(lambda dtype: splat(self.k, value, dtype, self.lanes))
        if id(expression) not in frame.seen:
            frame.seen[id(expression)] = self._emit(expression, frame)
        return frame.seen[id(expression)]

    def _emit(self, expression: Expression, frame: _Frame) -> _Typed | _Untyped:
        match expression:
            case Convert(arg, dtype):
                value = self.visit(arg, frame)
                source, target = value.dtype if isinstance(value, _Typed) else np.dtype(dtype), np.dtype(dtype)
                return _Typed(convert(self.k, _resolve(value, target), source, target), target)
            case Apply("mul", (x, Apply("sigmoid", (gate,)))) | Apply("mul", (Apply("sigmoid", (gate,)), x)):
                return self._gated(self.visit(x, frame), self.visit(gate, frame))
            case Apply(function, args):
                values = tuple(self.visit(a, frame) for a in args)
                definition = FUNCTIONS[function].definition
                if definition is None or function in EMITTERS:
                    return self._apply(function, values)
                return self.visit(definition, _Frame(values))
        raise TypeError(expression)

    def _gated(self, x: _Typed | _Untyped, gate: _Typed | _Untyped) -> _Typed | _Untyped:
        """x * sigmoid(gate) by the division that the sigmoid needs anyway."""
        if isinstance(x, _Typed) and isinstance(gate, _Typed):
            return _Typed(over_one_plus_exp(self.k, x.value, gate.value), x.dtype)
        return self._apply("mul", (x, self._apply("sigmoid", (gate,))))

    def _apply(self, function: str, args: tuple[_Typed | _Untyped, ...]) -> _Typed | _Untyped:
        rule = FUNCTIONS[function].rule
        conditions, others = (args[:1], args[1:]) if rule == "where" else ((), args)

        def call(dtype: np.dtype) -> Value:
            values = [_resolve(c, BOOL) for c in conditions] + [_resolve(o, dtype) for o in others]
            return EMITTERS[function](self.k, dtype, *values)

        known = next((a.dtype for a in others if isinstance(a, _Typed)), None)
        if rule in ("compare", "logic"):
            return _Typed(call(known or (BOOL if rule == "logic" else F64)), BOOL)
        return _Untyped(call) if known is None else _Typed(call(known), known)
