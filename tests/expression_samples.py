"""Operands for tests of expression trees: every dtype, special values, and what NumPy makes of them."""

from __future__ import annotations

import math

import numpy as np

from tilewright.backends.common.kinds import KINDS
from tilewright.engine import expression as ex
from tilewright.engine.expression import FUNCTIONS, Apply, Expression, Operand, apply

INTEGERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]
FLOATS = [np.dtype(t) for t in (np.float16, np.float32, np.float64)]
BOOL = np.dtype(bool)
DTYPES = [*FLOATS, *INTEGERS, BOOL]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e-30, -1e30, 88.7, -88.7, 104.0, -104.0, math.inf, -math.inf, math.nan, 1e-40, 0.99999994]
RELATIVE = {2: 1e-3, 4: 3e-7, 8: 3e-14}
ABSOLUTE = {2: 6e-8, 4: 1e-44, 8: 1e-320}
CANCELLING = {"elu", "gelu", "gelu_tanh", "mish", "softplus", "hard_sigmoid", "hard_swish", "silu"}
"""Functions whose definition loses relative accuracy near a zero or in a tail."""
SIGMOID_ENDS = 4.3e-39
"""Below this the sigmoid of float32 may be zero: its divisor overflows."""


def judge(expression: Expression, arrays: list[np.ndarray]) -> np.ndarray:
    """The expression by NumPy, floats in float64."""
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    return np.broadcast_to(np.asarray(ex.evaluate(expression, wide)), arrays[0].shape)


def samples(rng: np.random.Generator, dtype: np.dtype, count: int = 333) -> np.ndarray:
    """Random values over the range of a dtype, with its special ones."""
    if dtype == BOOL:
        return rng.random(count) < 0.5
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        wild = rng.integers(limits.min, limits.max, count, dtype, endpoint=True)
        tame = rng.integers(-4 if dtype.kind == "i" else 0, 9, count).astype(dtype)
        return np.concatenate([wild, tame, np.array([limits.min, limits.max], dtype)])
    values = np.concatenate([rng.standard_normal(count) * 4, rng.uniform(-1, 1, count), SPECIAL])
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def operands(rng: np.random.Generator, function: str, dtype: np.dtype) -> list[np.ndarray]:
    """Operands for a function: pairs of everything where it has two."""
    arity = FUNCTIONS[function].arity
    found = [rng.permutation(samples(rng, dtype)) for _ in range(arity)]
    if function == "where":
        found[0] = rng.random(found[1].size) < 0.5
    if function == "pow" and dtype.kind in "iu":
        found[1] = rng.integers(0, 7, found[1].size).astype(dtype)
    if function.startswith("shift"):
        found[1] = rng.integers(0, 8 * dtype.itemsize + 3, found[1].size).astype(dtype)
    if function in ("leaky_relu", "clip", "hard_sigmoid", "elu"):
        found[1:] = [np.full(found[0].size, value, dtype) for value in (0.25, 0.75)[: arity - 1]]
    return found


def kinds(function: str) -> set[str]:
    """The kinds of dtype for which every primitive behind a function is emitted."""
    definition = ex.expand(apply(function, *map(Operand, range(FUNCTIONS[function].arity))))
    names = {part.function for part in ex.walk(definition) if isinstance(part, Apply)}
    own = set(KINDS[function]) if function in KINDS else set("f")
    logic = {"b"} if FUNCTIONS[function].rule == "logic" else set("fiub")
    return own.intersection(logic, *(KINDS[n] for n in names))


def convertible(rng: np.random.Generator, source: np.dtype, target: np.dtype) -> np.ndarray:
    """Values whose conversion is defined: what is out of range of an integer is not."""
    values = samples(rng, source)
    if source.kind == "f" and target.kind in "iu":
        limits = np.iinfo(target)
        low, high = (0, 200) if target.kind == "u" else (max(-3e4, limits.min), min(3e4, limits.max))
        return rng.uniform(low, min(high, 6e4, limits.max), 333).astype(source)
    return values
