"""What is known of a value before it is computed: its TensorType, and the physical order of its elements."""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np


def dtype_name(dtype: np.dtype) -> str:
    """`float32` is f32, `int64` i64, `uint8` u8, `bool` bool."""
    return "bool" if dtype.kind == "b" else f"{dtype.kind}{dtype.itemsize * 8}"


@dc.dataclass(frozen=True)
class Blocked:
    """The physical order in which dimension `axis` is split into blocks and the block comes last.

    A tensor (n, c, h, w) with `Blocked(axis=1, block=16)` lies in memory as (n, ceil(c/16), h, w, 16). Lanes past the end
    of the last block are padding; what a kernel leaves there is finite.
    """

    axis: int
    block: int


@dc.dataclass(frozen=True)
class TensorType:
    """Element type, logical shape and physical layout (None: plain, row-major) of a value."""

    dtype: np.dtype
    shape: tuple[int, ...]
    layout: Blocked | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of logical elements."""
        return math.prod(self.shape)

    @property
    def physical_shape(self) -> tuple[int, ...]:
        """The shape of the array that holds the value: the logical one, with the blocked axis split."""
        if self.layout is None:
            return self.shape
        axis, block = self.layout.axis, self.layout.block
        return (*self.shape[:axis], -(-self.shape[axis] // block), *self.shape[axis + 1 :], block)

    @property
    def nbytes(self) -> int:
        """Bytes of the array that holds the value."""
        return math.prod(self.physical_shape) * self.dtype.itemsize

    def __str__(self) -> str:
        marks = [f"{n}/{self.layout.block}" if self.layout and i == self.layout.axis else str(n) for i, n in enumerate(self.shape)]
        return f"{dtype_name(self.dtype)}[{','.join(marks)}]"
