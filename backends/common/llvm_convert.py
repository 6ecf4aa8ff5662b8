"""Element types in LLVM: what a dtype is in a register and in memory, conversions, and literals.

In registers float16 is carried as float32 and bool as i1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir
import numpy as np

if TYPE_CHECKING:
    from ..cpu.emit import Emitter

Value = Any
F16, F32, F64, BOOL = (np.dtype(t) for t in (np.float16, np.float32, np.float64, bool))
HALF, SINGLE, DOUBLE, BIT, BYTE = ir.HalfType(), ir.FloatType(), ir.DoubleType(), ir.IntType(1), ir.IntType(8)
REGISTER_TYPES: dict[np.dtype, Any] = {F16: SINGLE, F32: SINGLE, F64: DOUBLE, BOOL: BIT}


def register_type(dtype: np.dtype, lanes: int) -> Any:
    """The LLVM vector type that carries `lanes` elements."""
    return ir.VectorType(REGISTER_TYPES.get(dtype) or ir.IntType(dtype.itemsize * 8), lanes)


def register_bytes(dtype: np.dtype) -> int:
    """Bytes of one element in a register."""
    return 4 if dtype == F16 else dtype.itemsize


def splat(k: Emitter, value: float | int | bool, dtype: np.dtype, lanes: int) -> Value:
    """A literal in every lane."""
    return k.splat(bool(value) if dtype == BOOL else value, register_type(dtype, lanes))


def to_register(k: Emitter, value: Value, dtype: np.dtype) -> Value:
    """What was loaded from memory, as registers carry it."""
    if dtype == F16:
        return k.b.fpext(value, register_type(dtype, value.type.count))
    if dtype == BOOL:
        return k.b.icmp_unsigned("!=", value, k.splat(0, value.type))
    return value


def to_memory(k: Emitter, value: Value, dtype: np.dtype) -> Value:
    """A register value as memory holds it."""
    if dtype == F16:
        return k.b.fptrunc(value, ir.VectorType(HALF, value.type.count))
    if dtype == BOOL:
        return k.b.zext(value, ir.VectorType(BYTE, value.type.count))
    return value


def convert(k: Emitter, value: Value, source: np.dtype, target: np.dtype) -> Value:
    """A register value as another dtype: floats to integers truncate, anything but zero is true, float16 is rounded to."""
    if source == target:
        return value
    kind = register_type(target, value.type.count)
    if target == BOOL:
        zero = k.splat(0, value.type)
        return k.b.fcmp_unordered("!=", value, zero) if source.kind == "f" else k.b.icmp_unsigned("!=", value, zero)
    if source.kind == "f":
        return _from_float(k, value, source, target, kind)
    if target.kind == "f":
        number = (k.b.sitofp if source.kind == "i" else k.b.uitofp)(value, kind)
        return _round_to_half(k, number) if target == F16 else number
    if kind.element.width <= value.type.element.width:
        return value if kind == value.type else k.b.trunc(value, kind)
    return (k.b.sext if source.kind == "i" else k.b.zext)(value, kind)


def _from_float(k: Emitter, value: Value, source: np.dtype, target: np.dtype, kind: Any) -> Value:
    if target.kind == "f":
        narrowed = value if source != F64 or target == F64 else _narrow_to_odd(k, value) if target == F16 else k.b.fptrunc(value, kind)
        if target == F64:
            return k.b.fpext(value, kind)
        return _round_to_half(k, narrowed) if target == F16 else narrowed
    if target.itemsize < 4:
        # By way of int32, so that what is out of range wraps around, as NumPy's does.
        return k.b.trunc(k.b.fptosi(value, ir.VectorType(ir.IntType(32), kind.count)), kind)
    return (k.b.fptosi if target.kind == "i" else k.b.fptoui)(value, kind)


def _round_to_half(k: Emitter, value: Value) -> Value:
    return k.b.fpext(k.b.fptrunc(value, ir.VectorType(HALF, value.type.count)), value.type)


def _narrow_to_odd(k: Emitter, value: Value) -> Value:
    """float64 to float32 with an odd last bit where that is inexact, so that rounding to float16 afterwards rounds only once."""
    lanes = value.type.count
    bits, single = ir.VectorType(ir.IntType(32), lanes), ir.VectorType(SINGLE, lanes)
    near = k.b.fptrunc(value, single)
    back = k.b.fpext(near, value.type)
    sizes = [k.intrinsic("llvm.fabs", value.type, [v]) for v in (back, value)]
    too_far: Value = k.b.zext(k.b.fcmp_ordered(">", *sizes), bits)
    inexact: Value = k.b.zext(k.b.fcmp_ordered("!=", back, value), bits)
    return k.b.bitcast(k.b.or_(k.b.sub(k.b.bitcast(near, bits), too_far), inexact), single)
