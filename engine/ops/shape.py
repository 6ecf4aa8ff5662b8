"""Data movement: the elements of the result are elements of the operands, put elsewhere."""

from __future__ import annotations

import dataclasses as dc
import math
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Node, op
from ..tensor import TensorType
from .reduce import check_axis

PAD_MODES = ("constant", "reflect", "edge", "wrap")


@op
class Reshape(Node):
    """y = the elements of x, in row-major order, under another shape."""

    x: Node
    _: dc.KW_ONLY
    shape: tuple[int, ...]

    def infer(self) -> TensorType:
        if min(self.shape, default=0) < 0 or math.prod(self.shape) != self.x.type.size:
            raise ModelError(f"expected a shape of {self.x.type.size} elements, got {self.shape}")
        return TensorType(self.x.type.dtype, self.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self.shape)


@op
class Transpose(Node):
    """y[i] = x[j], where axis k of y is axis permutation[k] of x."""

    x: Node
    _: dc.KW_ONLY
    permutation: tuple[int, ...]

    def infer(self) -> TensorType:
        x = self.x.type
        if sorted(self.permutation) != list(range(x.rank)):
            raise ModelError(f"expected a permutation of 0 to {x.rank - 1}, got {self.permutation}")
        return TensorType(x.dtype, tuple(x.shape[i] for i in self.permutation))

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.transpose(self.permutation)


@op
class Concat(Node):
    """y = the inputs one after the other along `axis`."""

    inputs: tuple[Node, ...]
    _: dc.KW_ONLY
    axis: int

    def infer(self) -> TensorType:
        if not self.inputs:
            raise ModelError("expected at least one input")
        first = self.inputs[0].type
        check_axis(self.axis, first)
        for other in self.inputs[1:]:
            if other.type.dtype != first.dtype:
                raise ModelError(f"expected inputs of one dtype, got {first.dtype} and {other.type.dtype}")
            if _without(other.type.shape, self.axis) != _without(first.shape, self.axis):
                raise ModelError(f"expected shapes that differ only at axis {self.axis}, got {first.shape} and {other.type.shape}")
        total = sum(i.type.shape[self.axis] for i in self.inputs)
        return TensorType(first.dtype, (*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]))

    def reference(self, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.concatenate(inputs, self.axis)


@op
class Slice(Node):
    """y[i] = x[start + i*step] for i < size, on every axis; a step may be negative."""

    x: Node
    _: dc.KW_ONLY
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def infer(self) -> TensorType:
        x = self.x.type
        for name in ("starts", "sizes", "steps"):
            if len(getattr(self, name)) != x.rank:
                raise ModelError(f"expected {name} with {x.rank} entries, got {getattr(self, name)}")
        for axis, (extent, start, size, step) in enumerate(zip(x.shape, self.starts, self.sizes, self.steps, strict=True)):
            last = start + (size - 1) * step
            if size < 0 or step == 0 or (size and not (0 <= start < extent and 0 <= last < extent)):
                raise ModelError(f"axis {axis} of extent {extent} has no {size} elements from {start} in steps of {step}")
        return TensorType(x.dtype, self.sizes)

    def reference(self, x: np.ndarray) -> np.ndarray:
        for axis, (start, size, step) in enumerate(zip(self.starts, self.sizes, self.steps, strict=True)):
            x = np.take(x, start + step * np.arange(size), axis)
        return x

    def keeps(self, axis: int) -> bool:
        """Whether the axis stays as it is."""
        return self.sizes[axis] == self.x.type.shape[axis] and (self.steps[axis] == 1 or self.sizes[axis] <= 1)


@op
class Pad(Node):
    """y = x with (before, after) more elements on every axis: `value`, mirrored, the edge again, or the other end."""

    x: Node
    _: dc.KW_ONLY
    pads: tuple[tuple[int, int], ...]
    mode: str = "constant"
    value: float | int = 0

    def infer(self) -> TensorType:
        x = self.x.type
        if self.mode not in PAD_MODES:
            raise ModelError(f"expected a mode among {', '.join(PAD_MODES)}, got {self.mode!r}")
        if len(self.pads) != x.rank or any(min(pair) < 0 for pair in self.pads):
            raise ModelError(f"expected {x.rank} pairs of pads of at least 0, got {self.pads}")
        if self.mode != "constant" and any(sum(pair) and not size for pair, size in zip(self.pads, x.shape, strict=True)):
            raise ModelError(f"mode {self.mode} has nothing to repeat on an empty axis of {x}")
        return TensorType(x.dtype, tuple(size + sum(pair) for size, pair in zip(x.shape, self.pads, strict=True)))

    def sources(self, axis: int) -> np.ndarray:
        """For each position along an axis of y its position in x; -1 where y holds `value`."""
        inside = np.arange(self.x.type.shape[axis])
        return np.pad(inside, self.pads[axis], **self._how(-1))

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.pad(x, self.pads, **self._how(self.value)) if self.pads else x  # NumPy does not pad a scalar, not even by nothing

    def _how(self, value: float | int) -> dict[str, Any]:
        return {"mode": self.mode} | ({"constant_values": value} if self.mode == "constant" else {})


@op
class Expand(Node):
    """y = x repeated along axes of extent 1 and along new leading axes, to `shape`."""

    x: Node
    _: dc.KW_ONLY
    shape: tuple[int, ...]

    def infer(self) -> TensorType:
        x = self.x.type.shape
        if len(x) > len(self.shape) or any(n not in (1, m) for n, m in zip(reversed(x), reversed(self.shape), strict=False)):
            raise ModelError(f"expected a shape that {self.x.type} broadcasts to, got {self.shape}")
        return TensorType(self.x.type.dtype, self.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x, self.shape)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]
