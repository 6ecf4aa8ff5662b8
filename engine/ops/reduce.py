"""Operators that look along whole axes: sums and extremes, softmax, arg-max, top-k, running sums."""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np

from .. import expression as ex
from ..errors import ModelError
from ..graph import Node, op
from ..tensor import TensorType

KINDS = ("sum", "mean", "max", "min", "prod")
INDEX = np.dtype(np.int64)


@op
class Reduce(Node):
    """y = sum, mean, max, min or product of x over `axes`; these stay with extent 1 or, without `keepdims`, go."""

    x: Node
    _: dc.KW_ONLY
    kind: str
    axes: tuple[int, ...]
    keepdims: bool = True

    def infer(self) -> TensorType:
        x = self.x.type
        if self.kind not in KINDS:
            raise ModelError(f"expected a kind among {', '.join(KINDS)}, got {self.kind!r}")
        if x.dtype.kind == "b" and self.kind not in ("max", "min"):
            raise ModelError(f"a {self.kind} needs numbers, got {x}")
        if len(set(self.axes)) != len(self.axes):
            raise ModelError(f"an axis is named twice: {self.axes}")
        for axis in self.axes:
            check_axis(axis, x)
        return TensorType(x.dtype, reduced_shape(x.shape, self.axes, self.keepdims))

    def reference(self, x: np.ndarray) -> np.ndarray:
        axes, keep = self.axes, self.keepdims
        match self.kind:
            case "max":
                return np.max(x, axes, keepdims=keep, initial=_end(x.dtype, -1))
            case "min":
                return np.min(x, axes, keepdims=keep, initial=_end(x.dtype, 1))
            case "prod":
                return np.prod(x, axes, x.dtype, keepdims=keep)
            case "mean":
                return np.mean(x, axes, keepdims=keep)
        return np.sum(x, axes, x.dtype, keepdims=keep)

    def flops(self) -> int:
        return self.x.type.size


@op
class Softmax(Node):
    """y = exp(x - max x) / sum of exp(x - max x), both along `axis`; with `log` the logarithm of that."""

    x: Node
    _: dc.KW_ONLY
    axis: int
    log: bool = False

    def infer(self) -> TensorType:
        check_axis(self.axis, self.x.type)
        if self.x.type.dtype.kind != "f":
            raise ModelError(f"expected floating-point x, got {self.x.type}")
        return TensorType(self.x.type.dtype, self.x.type.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        shifted = x - np.max(x, self.axis, keepdims=True, initial=-np.inf)
        powers = np.exp(shifted)
        total = np.sum(powers, self.axis, keepdims=True)
        return shifted - np.log(total) if self.log else powers / total

    def flops(self) -> int:
        return self.type.size * (4 + ex.FUNCTIONS["exp"].flops)


@op
class ArgReduce(Node):
    """y = index along `axis` of the largest or smallest x; of equals the first one or, with `last_index`, the last."""

    x: Node
    _: dc.KW_ONLY
    kind: str
    axis: int
    keepdims: bool = True
    last_index: bool = False

    def infer(self) -> TensorType:
        if self.kind not in ("max", "min"):
            raise ModelError(f"expected kind max or min, got {self.kind!r}")
        check_axis(self.axis, self.x.type)
        if self.x.type.shape[self.axis] == 0:
            raise ModelError(f"axis {self.axis} of {self.x.type} is empty: it has no {self.kind}")
        return TensorType(INDEX, reduced_shape(self.x.type.shape, (self.axis,), self.keepdims))

    def reference(self, x: np.ndarray) -> np.ndarray:
        seen = np.flip(x, self.axis) if self.last_index else x
        found = (np.argmax if self.kind == "max" else np.argmin)(seen, self.axis, keepdims=self.keepdims)
        return x.shape[self.axis] - 1 - found if self.last_index else found

    def flops(self) -> int:
        return self.x.type.size


@op
class TopK(Node):
    """values, indices = the k largest (or smallest) of x along `axis`, best first; of equals the lower index comes first."""

    x: Node
    _: dc.KW_ONLY
    k: int
    axis: int
    largest: bool = True

    def infer(self) -> tuple[TensorType, TensorType]:
        x = self.x.type
        check_axis(self.axis, x)
        if not 0 <= self.k <= x.shape[self.axis]:
            raise ModelError(f"expected k between 0 and the extent {x.shape[self.axis]} of axis {self.axis}, got {self.k}")
        shape = tuple(self.k if i == self.axis else n for i, n in enumerate(x.shape))
        return TensorType(x.dtype, shape), TensorType(INDEX, shape)

    def reference(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.largest:
            # A stable ascending sort of the reversed axis, read backwards, is descending with equals in their own order.
            order = x.shape[self.axis] - 1 - np.flip(np.argsort(np.flip(x, self.axis), self.axis, kind="stable"), self.axis)
        else:
            order = np.argsort(x, self.axis, kind="stable")
        chosen = np.take(order, range(self.k), self.axis)
        return np.take_along_axis(x, chosen, self.axis), chosen

    def flops(self) -> int:
        return self.x.type.size * max(1, math.ceil(math.log2(self.k + 1)))


@op
class CumSum(Node):
    """y[i] = sum of x[j] over j <= i along `axis`; `exclusive`: j < i; `reverse`: j >= i or j > i."""

    x: Node
    _: dc.KW_ONLY
    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self) -> TensorType:
        check_axis(self.axis, self.x.type)
        if self.x.type.dtype.kind == "b":
            raise ModelError(f"a sum needs numbers, got {self.x.type}")
        return TensorType(self.x.type.dtype, self.x.type.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        seen = np.flip(x, self.axis) if self.reverse else x
        if self.exclusive:
            before = np.pad(seen, [(1, 0) if i == self.axis else (0, 0) for i in range(x.ndim)])
            seen = np.take(before, range(x.shape[self.axis]), self.axis)
        total = np.cumsum(seen, self.axis, x.dtype)
        return np.flip(total, self.axis) if self.reverse else total

    def flops(self) -> int:
        return self.type.size


def check_axis(axis: int, x: TensorType) -> None:
    """ModelError unless 0 <= axis < rank."""
    if not 0 <= axis < x.rank:
        raise ModelError(f"expected an axis from 0 to {x.rank - 1} for {x}, got {axis}")


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape with the extents at `axes` made 1 or left out."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)


def _end(dtype: np.dtype, sign: int) -> float | int | bool:
    """The end of the dtype's number line in that direction."""
    if dtype.kind == "f":
        return sign * np.inf
    if dtype.kind == "b":
        return sign > 0
    return int(np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min)
