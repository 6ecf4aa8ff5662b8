"""Operators that only a backend's lowering introduces: explicit changes of physical layout."""

from __future__ import annotations

import numpy as np

from ..graph import Node, op
from ..tensor import Blocked, TensorType


@op
class Reorder(Node):
    """y = x in another physical order, the one that `layout` names."""

    x: Node

    def infer(self) -> TensorType:
        return TensorType(self.x.type.dtype, self.x.type.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x


def to_physical(array: np.ndarray, layout: Blocked | None) -> np.ndarray:
    """The array in physical order; padding lanes are zero."""
    if layout is None:
        return np.asarray(array, order="C")
    axis, block = layout.axis, layout.block
    padding = [(0, -array.shape[axis] % block if i == axis else 0) for i in range(array.ndim)]
    padded = np.pad(array, padding)
    split = padded.reshape(*array.shape[:axis], padded.shape[axis] // block, block, *array.shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(split, axis + 1, -1))


def from_physical(array: np.ndarray, shape: tuple[int, ...], layout: Blocked | None) -> np.ndarray:
    """The logical array behind a physical one."""
    if layout is None:
        return array.reshape(shape)
    axis = layout.axis
    split = np.moveaxis(array, -1, axis + 1)
    merged = split.reshape(*shape[:axis], array.shape[axis] * layout.block, *shape[axis + 1 :])
    return merged[(slice(None),) * axis + (slice(0, shape[axis]),)]
