"""The primitive pointwise functions as CUDA text, for every kind of dtype; dtypes in registers and in memory, and literals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .kinds import BFLOAT16, kind_of

F16, F32, F64, BOOL = (np.dtype(t) for t in (np.float16, np.float32, np.float64, bool))
MEMORY_TYPES: dict[np.dtype, str] = {F16: "float16", BFLOAT16: "bfloat16", F32: "float", F64: "double", BOOL: "bool"}
INFINITY, NAN = "bits_to_float(0x7F800000u)", "bits_to_float(0x7FC00000u)"


def memory_type(dtype: np.dtype) -> str:
    """The type of an element in memory."""
    return MEMORY_TYPES.get(dtype) or f"{'u' if dtype.kind == 'u' else ''}int{dtype.itemsize * 8}"


def register_type(dtype: np.dtype) -> str:
    """The type that carries an element."""
    return "float" if dtype in (F16, BFLOAT16) else memory_type(dtype)


def loaded(text: str, dtype: np.dtype) -> str:
    """An element that was read from memory, as registers carry it."""
    return f"widen({text})" if dtype in (F16, BFLOAT16) else text


def stored(text: str, dtype: np.dtype) -> str:
    """A register value as memory holds it."""
    return f"narrow_to_{memory_type(dtype)}({text})" if dtype in (F16, BFLOAT16) else text


def literal(value: float | int | bool, dtype: np.dtype) -> str:
    """A number as a register value, rounded to the dtype it is carried in."""
    if dtype == BOOL:
        return "true" if value else "false"
    if kind_of(dtype) != "f":
        return f"({memory_type(dtype)}){int(value) % (1 << 8 * dtype.itemsize):#x}ull"
    with np.errstate(over="ignore"):
        rounded = np.float64(value) if dtype == F64 else np.float32(value)
    if not np.isfinite(rounded):
        text = NAN if math.isnan(rounded) else f"-{INFINITY}" if rounded < 0 else INFINITY
        return f"({register_type(dtype)})({text})"
    digits = f"{rounded!s}{'' if dtype == F64 else 'f'}"
    return f"({digits})" if digits.startswith("-") else digits


def convert(text: str, source: np.dtype, target: np.dtype) -> str:
    """A register value as another dtype: floats to integers truncate, anything but zero is true, narrow floats are rounded to."""
    if source == target:
        return text
    if target == BOOL:
        return f"({text} != 0)"
    if target in (F16, BFLOAT16):
        wide = text if kind_of(source) == "f" and target == F16 else f"(float){text}"
        return f"widen(narrow_to_{memory_type(target)}({wide}))"
    if kind_of(source) == "f" and target.kind in "iu":
        return f"truncate<{memory_type(target)}>({text})"
    return f"({register_type(target)}){text}"


def library(name: str) -> Callable[..., str]:
    """A function of the C library."""
    return lambda dtype, *values: f"{name}{'' if dtype == F64 else 'f'}({', '.join(values)})"


def infix(sign: str) -> Callable[..., str]:
    return lambda dtype, a, b: f"({a} {sign} {b})"


def by_kind(**texts: str) -> Callable[..., str]:
    """A template for floats (f), integers (i) and bools (b)."""

    def print_one(dtype: np.dtype, *values: str) -> str:
        kind = kind_of(dtype)
        return texts["i" if kind == "u" else kind].format(*values, t=register_type(dtype))

    return print_one


def rounding(name: str) -> Callable[..., str]:
    """Rounding to an integer; integers are already."""
    return lambda dtype, x: library(name)(dtype, x) if kind_of(dtype) == "f" else x


def absolute(dtype: np.dtype, x: str) -> str:
    return library("fabs")(dtype, x) if kind_of(dtype) == "f" else f"size_of({x})" if dtype.kind == "i" else x


def bitwise(sign: str) -> Callable[..., str]:
    return lambda dtype, a, b: f"({register_type(dtype)})({a} {sign} {b})"


def power(dtype: np.dtype, a: str, b: str, exponent: float | int | bool | None) -> str:
    """A power whose exponent may be a known number; small ones are products."""
    if kind_of(dtype) != "f":
        return PRINTERS["pow"](dtype, a, b)
    one = literal(1, dtype)
    known = {0.5: library("sqrt")(dtype, a), 1: a, 2: f"({a} * {a})", 3: f"({a} * {a} * {a})", -1: f"({one} / {a})"}
    return known.get(exponent) or PRINTERS["pow"](dtype, a, b)


PRINTERS: dict[str, Callable[..., str]] = {
    "add": by_kind(f="({} + {})", i="wrapping_add<{t}>({}, {})", b="({} || {})"),
    "sub": by_kind(f="({} - {})", i="wrapping_sub<{t}>({}, {})"),
    "mul": by_kind(f="({} * {})", i="wrapping_mul<{t}>({}, {})", b="({} && {})"),
    "div": by_kind(f="({} / {})", i="quotient_of<{t}>({}, {})"),
    "max": by_kind(f="maximum<{t}>({}, {})", i="maximum<{t}>({}, {})", b="({} || {})"),
    "min": by_kind(f="minimum<{t}>({}, {})", i="minimum<{t}>({}, {})", b="({} && {})"),
    "remainder": by_kind(f="float_modulo<{t}>({}, {})", i="modulo<{t}>({}, {})"),
    "fmod": lambda dtype, a, b: f"rest_of(({register_type(dtype)}){a}, ({register_type(dtype)}){b})",
    "pow": lambda dtype, a, b: library("pow")(dtype, a, b) if kind_of(dtype) == "f" else f"integer_power<{register_type(dtype)}>({a}, {b})",
    "neg": by_kind(f="(-{})", i="wrapping_neg<{t}>({})"),
    "abs": absolute,
    "sign": by_kind(f="sign_of<{t}>({})", i="sign_of<{t}>({})"),
    "floor": rounding("floor"), "ceil": rounding("ceil"), "round": rounding("rint"),
    "bit_and": bitwise("&"), "bit_or": bitwise("|"), "bit_xor": bitwise("^"),
    "bit_not": by_kind(i="({t})~{}", b="(!{})"),
    "and": infix("&&"), "or": infix("||"), "xor": infix("!="), "not": lambda dtype, x: f"(!{x})",
    "where": lambda dtype, condition, a, b: f"({condition} ? {a} : {b})",
    "shift_left": by_kind(i="shift_left<{t}>({}, {})"), "shift_right": by_kind(i="shift_right<{t}>({}, {})"),
    "less": infix("<"), "less_equal": infix("<="), "equal": infix("=="),
    "is_nan": lambda dtype, x: f"({x} != {x})",
    "is_inf": lambda dtype, x: f"({library('fabs')(dtype, x)} == ({register_type(dtype)}){INFINITY})",
    **{name: library(name) for name in ("sqrt", "exp", "log", "log1p", "tanh", "erf", "sin", "cos", "tan", "asin", "acos", "atan",
                                        "sinh", "cosh", "asinh", "acosh", "atanh")},
}  # fmt: skip
