"""The inner products of a tiled matrix product: what the threads of a block do with a stage in shared memory, and who holds which sums.

All have the same interface. `rows` are the positions, `columns` the channels that a block computes. A thread holds its sums in
vectors of `width` neighbouring columns, so that it stores them as such: the order of columns among the fragments of tensor cores is
free, and chosen for that.
"""

from __future__ import annotations

import dataclasses as dc
import math
from typing import ClassVar

from .gemm_tile import SharedRows, loop
from .schedule import Tile

Loop = tuple[str, int]


@dc.dataclass(frozen=True)
class Product:
    """What the kinds of inner product have in common."""

    tile: Tile
    width: int
    """Columns of a vector."""
    is_packed: bool
    """The right operand was prepared for this product; otherwise it is as x is."""

    item: ClassVar[int] = 4
    """Bytes of an element in shared memory."""
    packed_item: ClassVar[int] = 4
    """The same for a right operand that was prepared."""
    lanes: ClassVar[int] = 32
    """Threads of each part of a tile."""

    @property
    def threads(self) -> int:
        """Of a block."""
        return math.prod(self.tile.parts) * self.lanes

    @property
    def right_item(self) -> int:
        return self.packed_item if self.is_packed else self.item

    @property
    def part_rows(self) -> int:
        """Rows of a tile's part."""
        return self.tile.rows // self.tile.parts[0]

    @property
    def part_columns(self) -> int:
        return self.tile.columns // self.tile.parts[1]

    @property
    def left_rows(self) -> SharedRows:
        """How the left operand lies in shared memory."""
        return SharedRows(self.tile.depth * self.item, (0, 1, 2))

    @property
    def right_rows(self) -> SharedRows:
        raise NotImplementedError

    @property
    def row_loops(self) -> list[Loop]:
        """Loops over the rows of which a thread holds sums."""
        raise NotImplementedError

    @property
    def row(self) -> str:
        """The row inside the loops."""
        raise NotImplementedError

    @property
    def groups(self) -> int:
        """Vectors of a row that a thread holds."""
        raise NotImplementedError

    @property
    def column(self) -> str:
        """The first column of vector g."""
        raise NotImplementedError

    def element(self, v: str) -> str:
        """The v-th sum of vector g."""
        raise NotImplementedError

    @property
    def number(self) -> str:
        """Counts the vectors of a thread."""
        text = self.row_loops[0][0]
        for name, count in self.row_loops[1:]:
            text = f"({text} * {count} + {name})"
        return f"({text} * {self.groups} + g)"

    @property
    def vectors(self) -> int:
        """Of a thread."""
        return math.prod(count for _, count in self.row_loops) * self.groups

    def begin(self) -> list[str]:
        """Declares the sums."""
        raise NotImplementedError

    def multiply(self) -> list[str]:
        """Adds the products of a stage whose operands start at `left` and `right`."""
        raise NotImplementedError

    def each_row(self, body: list[str]) -> list[str]:
        """The body for every row that a thread holds."""
        for name, count in reversed(self.row_loops):
            body = loop(name, count, body)
        return body

    def each_vector(self, body: list[str]) -> list[str]:
        """The body for every vector that a thread holds."""
        return self.each_row(loop("g", self.groups, body))

    def clear(self) -> list[str]:
        """Sets the sums to zero."""
        return self.each_vector(loop("v", self.width, [f"{self.element('v')} = 0.0f;"]))
