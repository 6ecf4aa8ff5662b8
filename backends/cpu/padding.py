"""Padding lanes, those past the last channel of a blocked value: what is computed in them must stay finite.

A NaN there would not stay there: the next convolution multiplies it by a weight of zero, and the product is NaN.
"""

from __future__ import annotations

import numpy as np

from ...engine import expression as ex
from ...engine.expression import Apply, Expression, children

FINITE = frozenset(
    ["add", "sub", "mul", "max", "min", "neg", "abs", "sign", "floor", "ceil", "round", "tanh", "erf", "sin", "cos", "atan", "asinh"]
    + ["less", "less_equal", "equal", "is_nan", "is_inf", "and", "or", "xor", "not", "where", "relu", "clip", "leaky_relu", "elu"]
    + ["sigmoid", "hard_sigmoid", "hard_swish", "silu", "softplus", "softsign", "mish", "gelu", "gelu_tanh"]
)
"""Functions that give finite numbers for finite ones of moderate size."""


def stays_finite(expression: Expression) -> bool:
    """Whether any finite operands surely give finite numbers."""
    if isinstance(expression, Apply) and expression.function not in FINITE:
        return False
    return all(map(stays_finite, children(expression)))


def epilogue_stays_finite(epilogue: Expression, extras: int) -> bool:
    """Whether an epilogue does, whose accumulator is zero in padding lanes and whose extra operands hold any finite numbers there."""
    if extras:
        return stays_finite(epilogue)
    return bool(np.isfinite(ex.evaluate(epilogue, [np.zeros(1, np.float32)])).all())
