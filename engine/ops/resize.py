"""Resize: interpolation along every axis, in all of ONNX's coordinate modes; its tables of taps serve every backend."""

from __future__ import annotations

import dataclasses as dc
import functools
import math

import numpy as np

from ..errors import ModelError
from ..graph import Node, op
from ..tensor import TensorType

MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
RADIUS = {"linear": 1, "cubic": 2}


@op
class Resize(Node):
    """y[o] = sum over taps t of weights[o,t] * x[indices[o,t]], along each axis in turn.

    `shape` is the result's, `scales` (one an axis) are what the coordinates are computed with. `roi` (starts, then ends, as
    parts of each extent) belongs to "tf_crop_and_resize", where positions outside x become `extrapolation_value`.
    `nearest_rounding` "simple" is opset 10's: up where the axis shrinks, else down.
    """

    x: Node
    _: dc.KW_ONLY
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest_rounding: str = "round_prefer_floor"
    cubic_coefficient: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    roi: tuple[float, ...] | None = None
    extrapolation_value: float = 0.0

    def infer(self) -> TensorType:
        x = self.x.type
        if len(self.shape) != x.rank or len(self.scales) != x.rank:
            raise ModelError(f"expected a shape and scales with {x.rank} entries, got {self.shape} and {self.scales}")
        if min(self.scales, default=1) <= 0 or min(self.shape, default=1) < 0:
            raise ModelError(f"expected positive scales and a shape without negative extents, got {self.scales} and {self.shape}")
        if any(before == 0 < after for before, after in zip(x.shape, self.shape, strict=True)):
            raise ModelError(f"an empty axis of {x} cannot grow to {self.shape}")
        for name, known in (("mode", MODES), ("coordinates", COORDINATES), ("nearest_rounding", ROUNDINGS)):
            if getattr(self, name) not in known:
                raise ModelError(f"expected {name} among {', '.join(known)}, got {getattr(self, name)!r}")
        if self.coordinates == "tf_crop_and_resize" and (self.roi is None or len(self.roi) != 2 * x.rank):
            raise ModelError(f"tf_crop_and_resize expects a roi of {2 * x.rank} numbers, got {self.roi}")
        return TensorType(x.dtype, self.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        result = x if x.dtype.kind == "f" or self.mode == "nearest" else x.astype(np.float64)
        for axis in range(x.ndim):
            result = _interpolate(result, axis, *interpolation_tables(self, axis), self.extrapolation_value)
        if result.dtype == x.dtype:
            return result
        return np.clip(result, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)

    def flops(self) -> int:
        total, extents = 0, list(self.x.type.shape)
        for axis, extent in enumerate(self.shape):
            extents[axis] = extent
            taps = interpolation_tables(self, axis)[0].shape[1]
            total += 2 * taps * math.prod(extents) if taps > 1 else 0
        return total


def interpolation_tables(node: Resize, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(indices int64, weights float64), both (extent of the result, taps): which elements make a result along this axis, and how.

    An index of -1 stands for `extrapolation_value`. An axis that stays as it is has one tap of weight 1 at its own index. As in the
    ONNX specification of Resize; cubic after Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    size = node.x.type.shape[axis]
    # A scale is seldom exact in binary. Single precision, which exporters and runtimes use, decides the ties of "nearest";
    # the weights of the smooth modes are better off with double.
    positions = coordinates(node, axis, np.dtype(np.float32 if node.mode == "nearest" else np.float64))
    indices, weights = (_nearest_taps if node.mode == "nearest" else _smooth_taps)(node, axis, positions)
    indices = np.clip(indices, 0, size - 1)
    if node.coordinates == "tf_crop_and_resize":
        outside = (positions < 0) | (positions > size - 1)
        indices[outside], weights[outside] = -1, np.eye(1, weights.shape[1])
    used = weights.any(axis=0)
    return indices[:, used], weights[:, used]


def coordinates(node: Resize, axis: int, dtype: np.dtype) -> np.ndarray:
    """Where each position of the result along an axis lies in x, in units of its elements."""
    size, out = node.x.type.shape[axis], node.shape[axis]
    half, scale, o = dtype.type(0.5), dtype.type(node.scales[axis]), np.arange(out, dtype=dtype)
    match node.coordinates:
        case "asymmetric":
            return o / scale
        case "align_corners":
            return o * dtype.type(size - 1) / dtype.type(max(out - 1, 1))
        case "tf_crop_and_resize":
            assert node.roi is not None
            start, end = dtype.type(node.roi[axis]), dtype.type(node.roi[axis + len(node.shape)])
            step = (end - start) * dtype.type(size - 1) / dtype.type(out - 1) if out > 1 else 0
            first = start if out > 1 else (start + end) * half
            return first * dtype.type(size - 1) + o * step
        case "pytorch_half_pixel" if out == 1:
            return o
        case "half_pixel_symmetric":  # the centres of x and of the result meet, also where the scaled extent is no integer
            return size * half * (1 - out / (scale * size)) + (o + half) / scale - half
    return (o + half) / scale - half


def _nearest_taps(node: Resize, axis: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rounding = node.nearest_rounding
    if rounding == "simple":
        rounding = "ceil" if node.scales[axis] < 1 else "floor"
    lower = np.floor(positions)
    part = positions - lower
    up = {"floor": np.zeros_like(part), "ceil": part > 0, "round_prefer_floor": part > 0.5, "round_prefer_ceil": part >= 0.5}
    indices = (lower + up[rounding]).astype(np.int64)[:, None]
    return indices, np.ones(indices.shape)


def _smooth_taps(node: Resize, axis: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Taps around each position weighted by the kernel of the mode, which antialiasing stretches where the axis shrinks."""
    scale = min(node.scales[axis], 1.0) if node.antialias else 1.0
    start = math.floor(-RADIUS[node.mode] / scale) + 1
    offsets = np.arange(start, 2 - start)
    lower = np.floor(positions)
    indices = lower.astype(np.int64)[:, None] + offsets
    distance = np.abs(offsets - (positions - lower)[:, None]) * scale
    kernel = _linear if node.mode == "linear" else functools.partial(_cubic, a=node.cubic_coefficient)
    weights = kernel(distance)
    if node.exclude_outside:
        weights = weights * ((indices >= 0) & (indices < node.x.type.shape[axis]))
    return indices, weights / weights.sum(axis=1, keepdims=True)


def _linear(d: np.ndarray) -> np.ndarray:
    return np.maximum(1 - d, 0)


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _interpolate(x: np.ndarray, axis: int, indices: np.ndarray, weights: np.ndarray, outside: float) -> np.ndarray:
    column = [-1 if k == axis else 1 for k in range(x.ndim)]
    total = np.zeros((*x.shape[:axis], len(indices), *x.shape[axis + 1 :]), x.dtype)
    for index, weight in zip(indices.T, weights.T, strict=True):
        values = np.take(x, np.maximum(index, 0), axis)
        if index.min(initial=0) < 0:
            values = np.where((index < 0).reshape(column), np.asarray(outside, x.dtype), values)
        total = total + values * weight.astype(x.dtype).reshape(column)
    return total
