"""The primitive pointwise functions as LLVM vector values, for every kind of dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import llvm_math as vm
from .kinds import KINDS as KINDS
from .llvm_sigmoid import sigmoid

if TYPE_CHECKING:
    from ..cpu.emit import Emitter

Value = Any
CONTRACT = ("contract",)
"""A product and the sum that takes it may become one fused multiply-add."""


def contracted(k: Emitter, instruction: str, a: Value, b: Value) -> Value:
    """fadd, fsub or fmul."""
    return getattr(k.b, instruction)(a, b, flags=CONTRACT)


def zero_of(k: Emitter, x: Value) -> Value:
    return k.splat(0, x.type)


def is_zero(k: Emitter, x: Value) -> Value:
    return k.b.icmp_signed("==", x, zero_of(k, x))


def add(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    if dtype.kind == "f":
        return contracted(k, "fadd", a, b)
    return k.b.or_(a, b) if dtype.kind == "b" else k.b.add(a, b)


def sub(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    return contracted(k, "fsub", a, b) if dtype.kind == "f" else k.b.sub(a, b)


def mul(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    if dtype.kind == "f":
        return contracted(k, "fmul", a, b)
    return k.b.and_(a, b) if dtype.kind == "b" else k.b.mul(a, b)


def div(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    """Division; of integers it truncates, and by zero it gives zero."""
    return k.b.fdiv(a, b) if dtype.kind == "f" else _divide_integers(k, dtype, a, b)[0]


def _divide_integers(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> tuple[Value, Value]:
    """Quotient and remainder; no lane reaches the machine's division with a divisor at which it would trap."""
    zero, one = zero_of(k, b), k.splat(1, b.type)
    by_zero = is_zero(k, b)
    safe = k.b.select(by_zero, one, b)
    if dtype.kind == "u":
        quotient, remainder = k.b.udiv(a, safe), k.b.urem(a, safe)
    else:
        negating = k.b.icmp_signed("==", b, k.splat(-1, b.type))
        safe = k.b.select(negating, one, safe)
        quotient = k.b.select(negating, k.b.sub(zero, a), k.b.sdiv(a, safe))
        remainder = k.b.srem(a, safe)
    return k.b.select(by_zero, zero, quotient), k.b.select(by_zero, zero, remainder)


def maximum(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    return _extreme(k, dtype, ">", a, b)


def minimum(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    return _extreme(k, dtype, "<", a, b)


def _extreme(k: Emitter, dtype: np.dtype, sign: str, a: Value, b: Value) -> Value:
    if dtype.kind == "b":
        return (k.b.or_ if sign == ">" else k.b.and_)(a, b)
    return vm.extreme(k, sign, a, b) if dtype.kind == "f" else k.b.select(compare(k, dtype, sign, a, b), a, b)


def compare(k: Emitter, dtype: np.dtype, sign: str, a: Value, b: Value) -> Value:
    if dtype.kind == "f":
        return k.b.fcmp_ordered(sign, a, b)
    return (k.b.icmp_signed if dtype.kind == "i" else k.b.icmp_unsigned)(sign, a, b)


def remainder(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    """a - floor(a / b) * b: it has the sign of b."""
    rest = fmod(k, dtype, a, b)
    if dtype.kind == "u":
        return rest
    zero = zero_of(k, b)
    wrong = k.b.xor(compare(k, dtype, "<", rest, zero), compare(k, dtype, "<", b, zero))
    if dtype.kind == "f":
        moved = k.b.select(wrong, k.b.fadd(rest, b), rest)
        return k.b.select(k.b.fcmp_ordered("==", rest, zero), vm.copysign(k, zero, b), moved)
    return k.b.select(k.b.and_(wrong, k.b.not_(is_zero(k, rest))), k.b.add(rest, b), rest)


def fmod(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    """a - trunc(a / b) * b: it has the sign of a."""
    return vm.call_lanes(k, "fmod", a, b) if dtype.kind == "f" else _divide_integers(k, dtype, a, b)[1]


def power(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    if dtype.kind != "f":
        return _integer_power(k, dtype, a, b)
    match vm.constant_of(b):
        case 0.5:
            return vm.sqrt(k, a)
        case 1:
            return a
        case 2:
            return mul(k, dtype, a, a)
        case 3:
            return mul(k, dtype, mul(k, dtype, a, a), a)
        case -1:
            return k.b.fdiv(k.splat(1.0, a.type), a)
    return vm.power(k, a, b)


def _integer_power(k: Emitter, dtype: np.dtype, a: Value, b: Value) -> Value:
    """By squaring, one bit of the exponent at a time; a negative exponent leaves only the powers of 1 and -1."""
    zero, one = zero_of(k, a), k.splat(1, a.type)
    if dtype.kind == "i":
        negative = compare(k, dtype, "<", b, zero)
        unit = k.b.or_(k.b.icmp_signed("==", a, one), k.b.icmp_signed("==", a, k.splat(-1, a.type)))
        a = k.b.select(k.b.and_(negative, k.b.not_(unit)), zero, a)
    with k.loop(0, 8 * dtype.itemsize, carried=[one, a, b], nonempty=True) as loop:
        result, square, rest = loop.values
        odd = k.b.icmp_unsigned("!=", k.b.and_(rest, one), zero)
        loop.carry([k.b.select(odd, k.b.mul(result, square), result), k.b.mul(square, square), k.b.lshr(rest, one)])
    return loop.results[0]


def neg(k: Emitter, dtype: np.dtype, x: Value) -> Value:
    return k.b.fneg(x) if dtype.kind == "f" else k.b.sub(zero_of(k, x), x)


def absolute(k: Emitter, dtype: np.dtype, x: Value) -> Value:
    if dtype.kind == "f":
        return vm.absolute(k, x)
    return k.b.select(compare(k, dtype, "<", x, zero_of(k, x)), neg(k, dtype, x), x) if dtype.kind == "i" else x


def sign(k: Emitter, dtype: np.dtype, x: Value) -> Value:
    """-1, 0 or 1; NaN stays NaN."""
    zero, one = zero_of(k, x), k.splat(1, x.type)
    positive = k.b.select(compare(k, dtype, ">", x, zero), one, zero if dtype.kind != "f" else x)
    if dtype.kind != "i" and dtype.kind != "f":
        return positive
    return k.b.select(compare(k, dtype, "<", x, zero), k.splat(-1, x.type), positive)


def shift(left: bool) -> Callable[..., Value]:
    """A shift; by the width or more nothing but the sign is left."""

    def emit(k: Emitter, dtype: np.dtype, x: Value, count: Value) -> Value:
        last = k.splat(8 * dtype.itemsize - 1, x.type)
        beyond = k.b.icmp_unsigned(">", count, last)
        safe = k.b.select(beyond, last, count)
        if not left and dtype.kind == "i":
            return k.b.ashr(x, safe)
        return k.b.select(beyond, zero_of(k, x), (k.b.shl if left else k.b.lshr)(x, safe))

    return emit


def rounding(intrinsic: str) -> Callable[..., Value]:
    """Rounding to an integer; integers are already."""
    return lambda k, dtype, x: k.intrinsic(intrinsic, x.type, [x]) if dtype.kind == "f" else x


def is_nan(k: Emitter, dtype: np.dtype, x: Value) -> Value:
    return k.b.fcmp_unordered("uno", x, x)


def is_inf(k: Emitter, dtype: np.dtype, x: Value) -> Value:
    return k.b.fcmp_ordered("==", vm.absolute(k, x), k.splat(math.inf, x.type))


def comparison(sign: str) -> Callable[..., Value]:
    return lambda k, dtype, a, b: compare(k, dtype, sign, a, b)


def bitwise(name: str) -> Callable[..., Value]:
    return lambda k, dtype, *values: getattr(k.b, name)(*values)


def vector(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function of llvm_math as one of this table."""
    return lambda k, dtype, *values: function(k, *values)


def library(name: str) -> Callable[..., Value]:
    return lambda k, dtype, x: vm.call_lanes(k, name, x)


EMITTERS: dict[str, Callable[..., Value]] = {
    "add": add, "sub": sub, "mul": mul, "div": div, "max": maximum, "min": minimum, "remainder": remainder, "fmod": fmod,
    "pow": power, "neg": neg, "abs": absolute, "sign": sign,
    "floor": rounding("llvm.floor"), "ceil": rounding("llvm.ceil"), "round": rounding("llvm.rint"),
    "bit_and": bitwise("and_"), "bit_or": bitwise("or_"), "bit_xor": bitwise("xor"), "bit_not": bitwise("not_"),
    "and": bitwise("and_"), "or": bitwise("or_"), "xor": bitwise("xor"), "not": bitwise("not_"), "where": bitwise("select"),
    "shift_left": shift(left=True), "shift_right": shift(left=False),
    "less": comparison("<"), "less_equal": comparison("<="), "equal": comparison("=="), "is_nan": is_nan, "is_inf": is_inf,
    "sqrt": vector(vm.sqrt), "exp": vector(vm.exp), "log": vector(vm.log), "log1p": vector(vm.log1p), "tanh": vector(vm.tanh),
    "erf": vector(vm.erf), "sigmoid": vector(sigmoid),
    **{name: library(name) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")},
}  # fmt: skip
