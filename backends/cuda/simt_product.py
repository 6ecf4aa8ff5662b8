"""The inner product without tensor cores."""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar

from .gemm_tile import SharedRows, loop
from .product import Loop, Product


@dc.dataclass(frozen=True)
class SimtProduct(Product):
    """float32 without tensor cores: a thread multiplies a few rows, apart from each other, with vectors of four columns."""

    lanes: ClassVar[int] = 1

    @property
    def right_rows(self) -> SharedRows:
        return SharedRows(self.tile.depth * self.item, (2, 3, 4))

    @property
    def row_loops(self) -> list[Loop]:
        return [("i", self.part_rows)]

    @property
    def row(self) -> str:
        return f"part_row + i * {self.tile.parts[0]}"

    @property
    def groups(self) -> int:
        return self.part_columns // 4

    @property
    def column(self) -> str:
        return f"part_column * 4 + g * {4 * self.tile.parts[1]}"

    def element(self, v: str) -> str:
        return f"sum[i][g * 4 + {v}]"

    def begin(self) -> list[str]:
        columns = self.tile.parts[1]
        lines = [f"const int part_column = thread % {columns}, part_row = thread / {columns};"]
        return [*lines, f"float sum[{self.part_rows}][{self.part_columns}];", *self.clear()]

    def multiply(self) -> list[str]:
        a, b = self.left_rows, self.right_rows
        right = f"part_column * 4 + j / 4 * {4 * self.tile.parts[1]} + j % 4"
        load_right = loop("j", self.part_columns, [f"b[j] = *(const float4*)(right + {b.place(right, 'c')});"])
        add = [f"sum[i][j] = fmaf(a.{e}, b[j].{e}, sum[i][j]);" for e in "xyzw"]
        body = [f"const float4 a = *(const float4*)(left + {a.place(self.row, 'c')});", *loop("j", self.part_columns, add)]
        rows = loop("i", self.part_rows, body)
        return loop("c", a.chunks, [f"float4 b[{self.part_columns}];", *load_right, *rows], "UNROLL_BY(2)")
