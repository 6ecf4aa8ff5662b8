"""Normalisation with its own statistics or over channels. (Layer, instance, group and Lp normalisation are Reduce and Pointwise.)"""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ..errors import ModelError
from ..graph import Node, op
from ..tensor import TensorType


@op
class BatchNorm(Node):
    """y[n,c,...] = (x[n,c,...] - mean[c]) / sqrt(variance[c] + epsilon) * scale[c] + shift[c]."""

    x: Node
    scale: Node
    shift: Node
    mean: Node
    variance: Node
    _: dc.KW_ONLY
    epsilon: float = 1e-5

    def infer(self) -> TensorType:
        x = self.x.type
        if x.rank < 2 or x.dtype.kind != "f":
            raise ModelError(f"expected floating-point x (n, c, *spatial), got {x}")
        for name in ("scale", "shift", "mean", "variance"):
            given = getattr(self, name).type
            if given.shape != (x.shape[1],) or given.dtype != x.dtype:
                raise ModelError(f"expected {name} to be {TensorType(x.dtype, (x.shape[1],))}, got {given}")
        return TensorType(x.dtype, x.shape)

    def reference(self, x: np.ndarray, scale: np.ndarray, shift: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        scale, shift, mean, variance = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, shift, mean, variance))
        return (x - mean) / np.sqrt(variance + self.epsilon) * scale + shift

    def flops(self) -> int:
        return 2 * self.type.size


@op
class LRN(Node):
    """y[n,c,...] = x[n,c,...] / (bias + alpha/size * sum over a window of `size` channels around c of x^2) ^ beta."""

    x: Node
    _: dc.KW_ONLY
    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self) -> TensorType:
        x = self.x.type
        if x.rank < 3 or x.dtype.kind != "f":
            raise ModelError(f"expected floating-point x (n, c, *spatial), got {x}")
        if self.size < 1:
            raise ModelError(f"expected a size of at least 1, got {self.size}")
        return TensorType(x.dtype, x.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        before = (self.size - 1) // 2
        padded = np.pad(x * x, [(0, 0), (before, self.size - 1 - before), *[(0, 0)] * (x.ndim - 2)])
        squares = sum(padded[:, i : i + x.shape[1]] for i in range(self.size))
        return x / np.power(self.bias + self.alpha / self.size * squares, self.beta)

    def flops(self) -> int:
        return self.type.size * (2 * self.size + 22)
