"""The inner products of tensor cores: float16, TF32 once and three times, bfloat16."""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar

from .gemm_tile import SharedRows, loop
from .product import Loop, Product

PARTS = ("low", "high")
MOST_UNROLLED = 8
"""Pairs of fragments, each of three products, up to which all steps of a stage are one piece of text."""


@dc.dataclass(frozen=True)
class TensorProduct(Product):
    """Tensor cores: a warp multiplies fragments of 16 rows with fragments of 8 columns."""

    instruction: ClassVar[str] = ""
    chunks_at_once: ClassVar[int] = 2
    """Chunks of the left operand that one instruction takes."""

    @property
    def row_fragments(self) -> int:
        return self.part_rows // 16

    @property
    def column_fragments(self) -> int:
        return self.part_columns // 8

    @property
    def right_rows(self) -> SharedRows:
        half = self.width.bit_length() - 1
        return SharedRows(self.tile.depth * self.right_item, (0, half, half + 1))

    @property
    def row_loops(self) -> list[Loop]:
        return [("i", self.row_fragments), ("h", 2)]

    @property
    def row(self) -> str:
        return "part_row + i * 16 + h * 8 + lane / 4"

    @property
    def groups(self) -> int:
        return self.part_columns // (4 * self.width)

    @property
    def column(self) -> str:
        return f"part_column + g * {4 * self.width} + lane % 4 * {self.width}"

    def element(self, v: str) -> str:
        return f"sum[i][g * {self.width // 2} + {v} / 2][h * 2 + {v} % 2]"

    def begin(self) -> list[str]:
        rows = self.tile.parts[0]
        return [
            "const int lane = thread % 32;",
            f"const int part_row = thread / 32 % {rows} * {self.part_rows}, part_column = thread / {32 * rows} * {self.part_columns};",
            f"float sum[{self.row_fragments}][{self.column_fragments}][4];",
            *self.clear(),
        ]

    def right_row(self) -> str:
        """The row that this lane points to for the p-th pair of column fragments: see `column` and `element`."""
        pairs = self.width // 4
        within = f"(p % {pairs} * 4 + lane / 16 * 2)" if pairs > 1 else "lane / 16 * 2"
        return f"part_column + p / {pairs} * {4 * self.width} + {within} + lane % 8 / 2 * {self.width} + lane % 2"

    def load_left(self) -> list[str]:
        """Fragments a[i] of the k-th step."""
        return loop("i", self.row_fragments, [self._ldmatrix_left("a[i]", "k * 2")])

    def load_right(self) -> list[str]:
        """Pairs of fragments b[p] of the k-th step."""
        return loop("p", self.column_fragments // 2, [self._ldmatrix_right("b[p]", "k * 2")])

    def _ldmatrix_left(self, to: str, chunk: str) -> str:
        return f"ldmatrix_x4({to}, left + {self.left_rows.place('part_row + i * 16 + lane % 16', f'{chunk} + lane / 16')});"

    def _ldmatrix_right(self, to: str, chunk: str) -> str:
        return f"ldmatrix_x4({to}, right + {self.right_rows.place(self.right_row(), f'{chunk} + lane / 8 % 2')});"

    @property
    def unroll(self) -> str:
        """How the steps of a stage are."""
        return "UNROLL"

    def convert(self) -> list[str]:
        """What happens to the fragments before they are multiplied."""
        return []

    def mma(self) -> list[str]:
        """All products of the fragments."""
        one = f"{self.instruction}(sum[i][j], a[i], b[j / 2] + j % 2 * 2);"
        return loop("i", self.row_fragments, loop("j", self.column_fragments, [one]))

    def multiply(self) -> list[str]:
        declare = f"uint32 a[{self.row_fragments}][4], b[{self.column_fragments // 2}][4];"
        steps = self.left_rows.chunks // self.chunks_at_once
        return loop("k", steps, [declare, *self.load_left(), *self.load_right(), *self.convert(), *self.mma()], self.unroll)


class HalfProduct(TensorProduct):
    """float16 with sums in float32."""

    instruction, item, packed_item = "mma_f16", 2, 2


class Tf32Product(TensorProduct):
    """float32 whose factors are rounded to 11 bits; those of a prepared right operand already are."""

    instruction = "mma_tf32"

    def convert(self) -> list[str]:
        left = loop("i", self.row_fragments, loop("e", 4, ["a[i][e] = float_to_bits(round_to_tf32(bits_to_float(a[i][e])));"]))
        right = loop("p", self.column_fragments // 2, loop("e", 4, ["b[p][e] = float_to_bits(round_to_tf32(bits_to_float(b[p][e])));"]))
        return left if self.is_packed else left + right


class ExactTf32Product(TensorProduct):
    """float32 in about its own accuracy: both factors as sums of two TF32 numbers; of the four products all but the smallest.

    Tensor cores cut their sums off, which over a long K would cost more than TF32's parts have gained. So they sum no more than one
    step's products, and these sums are added as floats are (Ootomo and Yokota: Recovering single precision accuracy from Tensor Cores
    while surpassing the FP32 theoretical peak performance, 2022).
    """

    instruction = "mma_tf32"

    @property
    def unroll(self) -> str:
        """One step of many products is enough for a warp to do, and holds all the registers that there are."""
        return "UNROLL" if self.row_fragments * self.column_fragments <= MOST_UNROLLED else "UNROLL_BY(1)"

    def convert(self) -> list[str]:
        right = loop("p", self.column_fragments // 2, loop("e", 4, ["split_tf32(&b[p][e], &b_low[p][e]);"]))
        return [f"uint32 b_low[{self.column_fragments // 2}][4];", *right]

    def mma(self) -> list[str]:
        """The small products first."""
        left = ["uint32 a_low[4];", *loop("e", 4, ["split_tf32(&a[i][e], &a_low[e]);"])]
        pairs = (("a_low", "b"), ("a[i]", "b_low"), ("a[i]", "b"))
        products = [f"{self.instruction}(part, {a}, {b}[j / 2] + j % 2 * 2);" for a, b in pairs]
        one = ["float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};", *products, *loop("e", 4, ["sum[i][j][e] += part[e];"])]
        return loop("i", self.row_fragments, [*left, *loop("j", self.column_fragments, one)])


class BrainProduct(TensorProduct):
    """bfloat16 factors of operands that are float32 in memory; a prepared right operand is bfloat16 already.

    ldmatrix gives a lane element l of each chunk of four floats. Elements of two chunks make one word, so that K is in another
    order in the fragments than in memory; `pack.BRAIN_ORDER` puts a prepared operand into this order.
    """

    instruction, packed_item, chunks_at_once = "mma_bf16", 2, 4

    def load_left(self) -> list[str]:
        words = [f"a[i][{2 * n + m}] = pack_bfloat16({part}[{m}], {part}[{m + 2}]);" for n, part in enumerate(PARTS) for m in range(2)]
        loads = [self._ldmatrix_left(part, f"k * 4 + {2 * n}") for n, part in enumerate(PARTS)]
        return loop("i", self.row_fragments, ["uint32 low[4], high[4];", *loads, *words])

    def load_right(self) -> list[str]:
        if self.is_packed:
            return super().load_right()
        words = [
            f"b[p][{2 * m + n}] = pack_bfloat16({part}[{2 * m}], {part}[{2 * m + 1}]);" for n, part in enumerate(PARTS) for m in range(2)
        ]
        loads = [self._ldmatrix_right(part, f"k * 4 + {2 * n}") for n, part in enumerate(PARTS)]
        return loop("p", self.column_fragments // 2, ["uint32 low[4], high[4];", *loads, *words])
