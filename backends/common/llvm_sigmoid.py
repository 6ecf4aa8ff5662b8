"""y / (1 + exp(-x)) as one division: the sigmoid, and what is multiplied by one.

exp(-x) = 2**(h/n) * exp(-r), h = round(-n x / ln 2), |r| <= ln 2 / 2n. A register that can be indexed by another one holds the n
powers 2**(i/n), so that a short polynomial is left for exp(-r); elsewhere n is 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir
import numpy as np

from .llvm_math import DOUBLE, SINGLE, at_least, at_most, exp, format_of, integers, polynomial

if TYPE_CHECKING:
    from ..cpu.emit import Emitter

Value = Any
LONG = (1.0, -0.9999997063215047, 0.4999914790019402, -0.1666763817708798, 0.04189815169775968, -0.008290263386869133)
"""exp(-r) for |r| <= ln 2 / 2, lowest coefficient first."""
SHORT = (1.0, -1.0, 0.5000645915220234, -0.16666857708475788)
"""exp(-r) for |r| <= ln 2 / 16."""
LOOKUPS = {8: "llvm.x86.avx2.permps", 16: "llvm.x86.avx512.permvar.sf.512"}
"""Elements of a vector -> the x86 instruction that picks them by the low bits of as many integers."""


def sigmoid(k: Emitter, x: Value) -> Value:
    return over_one_plus_exp(k, k.splat(1.0, x.type), x)


def over_one_plus_exp(k: Emitter, y: Value, x: Value) -> Value:
    """y / (1 + exp(-x)); zero for finite y where the power overflows."""
    one = k.splat(1.0, x.type)
    if format_of(x) is DOUBLE:
        return k.b.fdiv(y, k.b.fadd(one, exp(k, k.b.fneg(x))))
    lookup = LOOKUPS.get(x.type.count) if k.target.architecture == "x86_64" else None
    steps = x.type.count if lookup else 1
    bounded = at_most(k, 88.0, at_least(k, -128.01 * math.log(2), x))
    shifted, r = _reduced(k, bounded, steps)
    scale = _power_of_two(k, shifted, steps, lookup)
    return k.b.fdiv(y, k.fma(polynomial(k, r, SHORT if lookup else LONG), scale, one))


def _reduced(k: Emitter, x: Value, steps: int) -> tuple[Value, Value]:
    """(a float with h + steps * bias in its low bits, r) for h = round(-steps * x / ln 2), r = x + h ln 2 / steps."""
    magic = k.splat(1.5 * 2.0**SINGLE.mantissa / steps + SINGLE.bias, x.type)
    shifted = k.fma(x, k.splat(-1 / math.log(2), x.type), magic)
    h, r = k.b.fsub(shifted, magic), x
    for part in SINGLE.two_log2:
        r = k.fma(h, k.splat(part / 2, x.type), r)
    return shifted, r


def _power_of_two(k: Emitter, shifted: Value, steps: int, lookup: str | None) -> Value:
    """2**(h/steps): the whole part of h/steps goes to the exponent; the rest reads the significand's distance from it."""
    bits = integers(k, shifted)
    field = k.b.bitcast(shifted, bits)
    power = k.b.shl(field, k.splat(SINGLE.mantissa - int(math.log2(steps)), bits))
    if lookup:
        table = ir.Constant(shifted.type, _corrections(steps))
        picked = k.intrinsic(lookup, shifted.type, [table, field], overloads=[])
        power = k.b.add(power, k.b.bitcast(picked, bits))
    return k.b.bitcast(power, shifted.type)


def _corrections(steps: int) -> list[float]:
    """For each i < steps what to add to the bits of 1 + i/steps to make them those of 2**(i/steps), as the bits of a float."""
    i = np.arange(steps)
    wanted, given = (v.astype(np.float32).view(np.int32) for v in (2.0 ** (i / steps), 1 + i / steps))
    return (wanted - given).astype(np.int32).view(np.float32).tolist()
