"""Vector mathematics as LLVM values: exp, log, tanh, erf, pow of float32 and float64; what is rare calls the C library lane by lane.

exp(x) = s * s * (1 + m), s = 2**h, h = round(x / (2 ln 2)): two factors reach from the smallest subnormal to infinity without a
special case. log(m * 2**e) = e ln 2 + log(1 + f) by the series of atanh(f / (2 + f)). Coefficients for float32 are minimax fits.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir
import numpy as np

if TYPE_CHECKING:
    from ..cpu.emit import Emitter

Value = Any


@dc.dataclass(frozen=True)
class Format:
    """What the algorithms need to know of a floating-point format."""

    mantissa: int
    """Stored bits of the significand."""
    bias: int
    smallest: float
    """The smallest normal number."""
    lowest_power: float
    """Here exp is zero."""
    highest_power: float
    """Here exp is infinite."""
    exp: tuple[float, ...]
    """(exp(r) - 1 - r) / r**2 on |r| <= ln 2, lowest coefficient first."""
    log: tuple[float, ...]
    """(log(1 + f) / s - 2) / s**2 in powers of s**2, s = f / (2 + f)."""
    two_log2: tuple[float, float]
    """2 ln 2 in two parts."""


def _two_parts(value: np.longdouble, kind: type[np.floating[Any]]) -> tuple[float, float]:
    high = kind(value)
    return float(high), float(value - np.longdouble(high))


_TWO_LOG2 = 2 * np.log(np.longdouble(2))
SINGLE = Format(
    mantissa=23,
    bias=127,
    smallest=2.0**-126,
    lowest_power=-104.5,
    highest_power=89.0,
    exp=(0.5000003456218457, 0.16666614275419725, 0.04166127654828422, 0.008336098637890059, 0.0014104304615034054, 0.00019611802303700647),
    log=(0.6666677671720151, 0.39977495565299626, 0.2987307358497732),
    two_log2=_two_parts(_TWO_LOG2, np.float32),
)
DOUBLE = Format(
    mantissa=52,
    bias=1023,
    smallest=2.0**-1022,
    lowest_power=-746.0,
    highest_power=710.0,
    exp=tuple(1 / math.factorial(n + 2) for n in range(16)),
    log=tuple(2 / (2 * n + 3) for n in range(11)),
    two_log2=_two_parts(_TWO_LOG2, np.float64),
)
ERF_CENTRE = (
    *(1.1283791423420126, -0.37612445998738675, 0.11281321069971538, -0.026748873786620452),
    *(0.004967517225124049, -0.0005862123589919658),
)
"""erf(x) / x in powers of x**2 for |x| <= 0.95."""
ERF_TAIL = (
    *(0.00016644716016493528, 1.127797244752612, 0.6369760790699475, 0.10411368289016965, -0.02231521532471429),
    *(0.0030654909329905005, -0.00019821972607560515),
)
"""-log(1 - erf(x)) for 0.9 <= x <= 4, where erf rounds to one."""


def format_of(x: Value) -> Format:
    """The format of a vector's elements."""
    return SINGLE if isinstance(x.type.element, ir.FloatType) else DOUBLE


def polynomial(k: Emitter, x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] + c[1] x + c[2] x**2 + ... by Horner's rule."""
    result = k.splat(coefficients[-1], x.type)
    for coefficient in reversed(coefficients[:-1]):
        result = k.fma(result, x, k.splat(coefficient, x.type))
    return result


def integers(k: Emitter, x: Value) -> Any:
    """The type of the bits of a floating-point vector."""
    return ir.VectorType(ir.IntType(32 if format_of(x) is SINGLE else 64), x.type.count)


def constant_of(value: Value) -> float | int | None:
    """The number in every lane of a literal; None for anything computed."""
    return value.constant[0].constant if isinstance(value, ir.Constant) and isinstance(value.constant, list | tuple) else None


def extreme(k: Emitter, sign: str, a: Value, b: Value) -> Value:
    """The larger (">") or smaller ("<"); NaN where either is NaN.

    One instruction where one of the two is a literal, because the signs of zeros are left open; x86, whose own instruction gives b
    where either is NaN, needs one more otherwise.
    """
    if k.target.architecture == "x86_64" and constant_of(a) is None and constant_of(b) is None:
        chosen = k.b.select(k.b.fcmp_ordered(sign, a, b), a, b)
        return k.b.select(k.b.fcmp_ordered("ord", a, a), chosen, a)
    result = k.intrinsic("llvm.maximum" if sign == ">" else "llvm.minimum", a.type, [a, b])
    result.fastmath.add("nsz")
    return result


def at_least(k: Emitter, bound: float, x: Value) -> Value:
    """max(x, bound); NaN stays NaN."""
    return extreme(k, ">", x, k.splat(bound, x.type))


def at_most(k: Emitter, bound: float, x: Value) -> Value:
    """min(x, bound); NaN stays NaN."""
    return extreme(k, "<", x, k.splat(bound, x.type))


def absolute(k: Emitter, x: Value) -> Value:
    return k.intrinsic("llvm.fabs", x.type, [x])


def copysign(k: Emitter, size: Value, sign: Value) -> Value:
    return k.intrinsic("llvm.copysign", size.type, [size, sign])


def sqrt(k: Emitter, x: Value) -> Value:
    return k.intrinsic("llvm.sqrt", x.type, [x])


def _exp_parts(k: Emitter, x: Value) -> tuple[Value, Value]:
    """(s, m) with exp(x) = s * s * (1 + m), for x between the format's lowest and highest power.

    Adding 1.5 * 2**mantissa leaves the integer h in the low bits of the sum; with the bias added too, these are the exponent
    field of 2**h.
    """
    number = format_of(x)
    magic = k.splat(1.5 * 2.0**number.mantissa + number.bias, x.type)
    shifted = k.fma(x, k.splat(0.5 / math.log(2), x.type), magic)
    h = k.b.fsub(shifted, magic)
    bits = integers(k, x)
    scale = k.b.bitcast(k.b.shl(k.b.bitcast(shifted, bits), k.splat(number.mantissa, bits)), x.type)
    r = x
    for part in number.two_log2:
        r = k.fma(h, k.splat(-part, x.type), r)
    return scale, k.fma(k.b.fmul(r, r), polynomial(k, r, number.exp), r)


def exp(k: Emitter, x: Value) -> Value:
    number = format_of(x)
    scale, m = _exp_parts(k, at_most(k, number.highest_power, at_least(k, number.lowest_power, x)))
    return k.b.fmul(k.b.fmul(k.b.fadd(m, k.splat(1.0, x.type)), scale), scale)


def tanh(k: Emitter, x: Value) -> Value:
    """m / (m + 2) with m = exp(2|x|) - 1, which is exact to the last place also near zero."""
    size = k.b.fmul(absolute(k, x), k.splat(2.0, x.type))
    scale, m = _exp_parts(k, at_most(k, 20.0 if format_of(x) is SINGLE else 40.0, size))
    square = k.b.fmul(scale, scale)
    power = k.fma(square, m, k.b.fsub(square, k.splat(1.0, x.type)))
    return copysign(k, k.b.fdiv(power, k.b.fadd(power, k.splat(2.0, x.type))), x)


def _log_positive(k: Emitter, x: Value) -> Value:
    """log of finite positive numbers."""
    number, bits = format_of(x), integers(k, x)
    subnormal = k.b.fcmp_ordered("<", x, k.splat(number.smallest, x.type))
    scaled = k.b.select(subnormal, k.b.fmul(x, k.splat(2.0**number.mantissa, x.type)), x)
    half_root = int(np.float32(0.5**0.5).view(np.int32)) if number is SINGLE else int(np.float64(0.5**0.5).view(np.int64))
    field = k.b.bitcast(scaled, bits)
    exponent = k.b.ashr(k.b.sub(field, k.splat(half_root, bits)), k.splat(number.mantissa, bits))
    significand = k.b.bitcast(k.b.sub(field, k.b.shl(exponent, k.splat(number.mantissa, bits))), x.type)
    exponent = k.b.sub(exponent, k.b.select(subnormal, k.splat(number.mantissa, bits), k.splat(0, bits)))
    small = exponent if number is SINGLE else k.b.trunc(exponent, ir.VectorType(ir.IntType(32), x.type.count))
    return _log_sum(k, k.b.sitofp(small, x.type), k.b.fsub(significand, k.splat(1.0, x.type)))


def _log_sum(k: Emitter, exponent: Value, f: Value) -> Value:
    """exponent * ln 2 + log(1 + f); log(1 + f) = f - (f*f/2 - s * (f*f/2 + s*s*R))."""
    number = format_of(f)
    s = k.b.fdiv(f, k.b.fadd(f, k.splat(2.0, f.type)))
    z = k.b.fmul(s, s)
    half = k.b.fmul(k.b.fmul(f, f), k.splat(0.5, f.type))
    inner = k.fma(z, polynomial(k, z, number.log), half)
    high, low = (k.splat(part / 2, f.type) for part in number.two_log2)
    correction = k.fma(s, inner, k.b.fsub(k.b.fmul(exponent, low), half))
    return k.fma(exponent, high, k.b.fadd(f, correction))


def log(k: Emitter, x: Value) -> Value:
    zero, infinity = k.splat(0.0, x.type), k.splat(math.inf, x.type)
    result = k.b.select(k.b.fcmp_ordered("<", x, infinity), _log_positive(k, x), x)
    result = k.b.select(k.b.fcmp_ordered("==", x, zero), k.b.fneg(infinity), result)
    return k.b.select(k.b.fcmp_ordered("<", x, zero), k.splat(math.nan, x.type), result)


def log1p(k: Emitter, x: Value) -> Value:
    """log(u) + (x - (u - 1)) / u with u = 1 + x rounded: the quotient gives back what rounding lost, which matters for |x| < 1."""
    one = k.splat(1.0, x.type)
    u = k.b.fadd(x, one)
    lost = k.b.fdiv(k.b.fsub(x, k.b.fsub(u, one)), u)
    inside = k.b.fcmp_ordered("<", absolute(k, x), one)
    result = k.b.fadd(log(k, u), k.b.select(inside, lost, k.splat(0.0, x.type)))
    return k.b.select(k.b.fcmp_ordered("==", x, k.splat(0.0, x.type)), x, result)


def erf(k: Emitter, x: Value) -> Value:
    if format_of(x) is DOUBLE:
        return call_lanes(k, "erf", x)
    size = absolute(k, x)
    centre = k.b.fmul(x, polynomial(k, k.b.fmul(x, x), ERF_CENTRE))
    rest = exp(k, k.b.fneg(polynomial(k, at_most(k, 4.0, size), ERF_TAIL)))
    tail = copysign(k, k.b.fsub(k.splat(1.0, x.type), rest), x)
    return k.b.select(k.b.fcmp_ordered("<", size, k.splat(0.92, x.type)), centre, tail)


def power(k: Emitter, x: Value, y: Value) -> Value:
    """x ** y; float32 by exp(y log|x|) in float64, which leaves nothing to correct but signs and the cases that are one."""
    if format_of(x) is DOUBLE:
        return call_lanes(k, "pow", x, y)
    wide = ir.VectorType(ir.DoubleType(), x.type.count)
    base, exponent = k.b.fpext(absolute(k, x), wide), k.b.fpext(y, wide)
    size = k.b.fptrunc(exp(k, k.b.fmul(exponent, log(k, base))), x.type)
    zero, one = k.splat(0.0, x.type), k.splat(1.0, x.type)
    size = k.b.select(k.b.fcmp_ordered("==", absolute(k, x), one), one, size)
    whole, even = (_is_whole(k, v) for v in (y, k.b.fmul(y, k.splat(0.5, x.type))))
    odd = k.b.and_(whole, k.b.not_(even))
    signed = k.b.select(odd, copysign(k, size, x), size)
    negative = k.b.and_(k.b.fcmp_ordered("<", x, zero), k.b.fcmp_ordered(">", x, k.splat(-math.inf, x.type)))
    signed = k.b.select(k.b.and_(negative, k.b.not_(whole)), k.splat(math.nan, x.type), signed)
    always = k.b.or_(k.b.fcmp_ordered("==", y, zero), k.b.fcmp_ordered("==", x, one))
    return k.b.select(always, one, signed)


def _is_whole(k: Emitter, x: Value) -> Value:
    return k.b.fcmp_ordered("==", x, k.intrinsic("llvm.floor", x.type, [x]))


def call_lanes(k: Emitter, name: str, *arguments: Value) -> Value:
    """The C library's function of that name, lane by lane."""
    kind = arguments[0].type
    suffix = "f" if format_of(arguments[0]) is SINGLE else ""
    result: Value = ir.Constant(kind, ir.Undefined)
    for lane in range(kind.count):
        index = ir.Constant(ir.IntType(32), lane)
        elements = [k.b.extract_element(a, index) for a in arguments]
        result = k.b.insert_element(result, k.intrinsic(name + suffix, kind.element, elements, overloads=[]), index)
    return result
