"""Pooling with sliding windows over any number of spatial axes. (Pooling over a whole axis is Reduce.)"""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np

from ..errors import ModelError
from ..graph import Node, op, per_axis
from ..tensor import TensorType
from .conv import Pads, taps


@op
class Pool(Node):
    """An operator over the windows of x; `ceil_mode` adds a last one that reaches beyond the pads."""

    x: Node
    _: dc.KW_ONLY
    kernel: tuple[int, ...]
    strides: tuple[int, ...] = per_axis(default=1)
    pads: Pads = per_axis(default=(0, 0))
    dilations: tuple[int, ...] = per_axis(default=1)
    ceil_mode: bool = False

    def flops(self) -> int:
        return self.type.size * math.prod(self.kernel)


@op
class MaxPool(Pool):
    """y[n,c,o] = max over r of x[n, c, o*stride + r*dilation - pad]; positions outside x do not take part."""

    def infer(self) -> TensorType:
        return TensorType(self.x.type.dtype, pooled_shape(self))

    def reference(self, x: np.ndarray) -> np.ndarray:
        padded = pad_for_windows(self, x, lowest(x.dtype))
        result = np.full(self.type.shape, lowest(x.dtype), x.dtype)
        for _, window in taps(self, self.type.shape[2:]):
            result = np.maximum(result, padded[(..., *window)])
        return result


@op
class ArgMaxPool(Pool):
    """y[n,c,o] = flat position in x of the first maximum in the window at o, as MaxPool's second result in ONNX.

    `column_major` counts the spatial axes with the first one running fastest.
    """

    _: dc.KW_ONLY
    column_major: bool = False

    def infer(self) -> TensorType:
        return TensorType(np.dtype(np.int64), pooled_shape(self))

    def reference(self, x: np.ndarray) -> np.ndarray:
        padded = pad_for_windows(self, x, lowest(x.dtype))
        positions = pad_for_windows(self, self._positions(x.shape), -1)
        best = np.full(self.type.shape, lowest(x.dtype), x.dtype)
        found = np.full(self.type.shape, -1, np.int64)
        for _, window in taps(self, self.type.shape[2:]):
            value, position = padded[(..., *window)], positions[(..., *window)]
            better = (position >= 0) & ((value > best) | (found < 0))
            best, found = np.where(better, value, best), np.where(better, position, found)
        return found

    def _positions(self, shape: tuple[int, ...]) -> np.ndarray:
        order = "F" if self.column_major else "C"
        inside = np.arange(math.prod(shape[2:])).reshape(shape[2:], order=order)
        planes = np.arange(shape[0] * shape[1]) * math.prod(shape[2:])
        return planes.reshape(*shape[:2], *[1] * inside.ndim) + inside


@op
class AveragePool(Pool):
    """y[n,c,o] = sum over r of x[n, c, o*stride + r*dilation - pad], divided by the number of positions that count.

    Positions inside x count; with `count_include_pad` those inside the pads do too. What `ceil_mode` adds beyond never counts.
    """

    _: dc.KW_ONLY
    count_include_pad: bool = False

    def infer(self) -> TensorType:
        if self.x.type.dtype.kind != "f":
            raise ModelError(f"expected floating-point x, got {self.x.type}")
        return TensorType(self.x.type.dtype, pooled_shape(self))

    def counts(self, axis: int) -> np.ndarray:
        """For each result position along a spatial axis how many positions of its window count (at least 1)."""
        out, size, (before, after) = self.type.shape[2 + axis], self.x.type.shape[2 + axis], self.pads[axis]
        starts = np.arange(out)[:, None] * self.strides[axis] - before
        positions = starts + np.arange(self.kernel[axis]) * self.dilations[axis]
        low, high = (-before, size + after) if self.count_include_pad else (0, size)
        return np.maximum(((positions >= low) & (positions < high)).sum(axis=1), 1)

    def reference(self, x: np.ndarray) -> np.ndarray:
        padded = pad_for_windows(self, x, 0)
        total = np.zeros(self.type.shape, x.dtype)
        for _, window in taps(self, self.type.shape[2:]):
            total += padded[(..., *window)]
        for axis in range(len(self.kernel)):
            total = total / self.counts(axis).astype(x.dtype).reshape(-1, *[1] * (len(self.kernel) - 1 - axis))
        return total

    def flops(self) -> int:
        return self.type.size * (math.prod(self.kernel) + 1)


def output_extent(size: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int, ceil_mode: bool) -> int:
    """How many windows there are along an axis; `ceil_mode` keeps a last partial one if it starts before the pad at the end."""
    room = size + sum(pads) - (kernel - 1) * dilation - 1
    if not ceil_mode:
        return room // stride + 1
    extent = -(-room // stride) + 1
    return extent - 1 if (extent - 1) * stride >= size + pads[0] else extent


def pooled_shape(node: Pool) -> tuple[int, ...]:
    """The result shape, once the attributes are known to fit; else ModelError."""
    n, c, *spatial = check_windows(node)
    columns = zip(spatial, node.kernel, node.strides, node.pads, node.dilations, strict=True)
    out = tuple(output_extent(*column, node.ceil_mode) for column in columns)
    if min(out) < 1:
        raise ModelError(f"the kernel is larger than the padded input: the result would have shape {(n, c, *out)}")
    return (n, c, *out)


def check_windows(node: Pool) -> tuple[int, ...]:
    """The shape of x, once rank and attribute lengths are known to fit; else ModelError."""
    x = node.x.type
    if x.rank < 3:
        raise ModelError(f"expected x (n, c, *spatial), got rank {x.rank}")
    for name in ("kernel", "strides", "pads", "dilations"):
        if len(getattr(node, name)) != x.rank - 2:
            raise ModelError(f"expected {name} with {x.rank - 2} entries, got {getattr(node, name)}")
    if min((*node.kernel, *node.strides, *node.dilations)) < 1:
        raise ModelError("kernel, strides and dilations must be positive")
    if min(map(min, node.pads)) < 0:
        raise ModelError(f"expected pads of at least 0, got {node.pads}")
    return x.shape


def pad_for_windows(node: Pool, x: np.ndarray, value: float) -> np.ndarray:
    """x with its pads, and at the end of each axis as much more as the last window reaches."""
    pads = []
    for axis, (before, after) in enumerate(node.pads):
        reach = (node.type.shape[2 + axis] - 1) * node.strides[axis] + (node.kernel[axis] - 1) * node.dilations[axis] + 1
        pads.append((before, max(after, reach - x.shape[2 + axis] - before)))
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value)


def lowest(dtype: np.dtype) -> float | int | bool:
    """The neutral element of max."""
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else int(np.iinfo(dtype).min)
