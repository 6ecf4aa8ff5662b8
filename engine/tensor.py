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
    pitch: int = 0
    """Elements from one block to the next where a value lies among the blocks of a wider one; 0: they follow each other."""

    @property
    def dense(self) -> Blocked:
        """The same lanes in an array of their own."""
        return dc.replace(self, pitch=0)


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
    def physical_strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each physical dimension."""
        shape = self.physical_shape
        if self.layout and self.layout.pitch:
            shape = (*shape[:-1], self.layout.pitch)
        return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))

    @property
    def is_dense(self) -> bool:
        """Whether the value has an array of its own."""
        return not (self.layout and self.layout.pitch)

    @property
    def dense(self) -> TensorType:
        """The same value in an array of its own."""
        return self if self.is_dense or not self.layout else dc.replace(self, layout=self.layout.dense)

    @property
    def nbytes(self) -> int:
        """Bytes of the array that holds the value, or of its elements among those of a wider one."""
        return math.prod(self.physical_shape) * self.dtype.itemsize

    def __str__(self) -> str:
        """Channels as 64/64, in blocks of 64; as 64/64:256 where these are among blocks of 256."""
        marks = [str(n) for n in self.shape]
        if layout := self.layout:
            marks[layout.axis] += f"/{layout.block}" + (f":{layout.pitch}" if layout.pitch else "")
        return f"{dtype_name(self.dtype)}[{','.join(marks)}]"
