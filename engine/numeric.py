"""Functions that NumPy lacks, or defines in another way than ONNX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def divide(a: Any, b: Any) -> Any:
    """Division; of integers it truncates towards zero, as in C and in ONNX."""
    if np.result_type(a, b).kind == "f":
        return np.divide(a, b)
    quotient = np.floor_divide(a, b)
    return quotient + ((np.remainder(a, b) != 0) & ((np.asarray(a) < 0) != (np.asarray(b) < 0)))


def error_function(x: Any) -> Any:
    """erf by its Taylor series for small arguments and the continued fraction of erfc beyond; about 1e-15 relative (DLMF 7.6.1, 7.9.2)."""
    x = np.asarray(x)
    z = x.astype(np.float64)
    small = np.clip(z, -2.5, 2.5)
    term = total = small * (2 / math.sqrt(math.pi))
    for n in range(1, 60):
        term = term * (-small * small / n)
        total = total + term / (2 * n + 1)
    large = np.maximum(np.abs(z), 2.5)
    fraction = large
    for n in range(60, 0, -1):
        fraction = large + (n / 2) / fraction
    tail = 1 - np.exp(-large * large) / (math.sqrt(math.pi) * fraction)
    return np.where(np.isnan(z), z, np.where(np.abs(z) < 2.5, total, np.copysign(tail, z))).astype(x.dtype)
