"""A convolution, or a matrix product, as one tiled product: y[m, n] = epilogue(sum over k of x[m, k] * w[n, k], sides...).

m counts output positions, n output channels, k pairs of a kernel tap and an input channel. The matrix of the left operand is never
made: the copies to shared memory find its rows in x. Copies of the next stages go on while a stage is multiplied; one barrier a
stage says that the copies of this one have arrived and that nobody reads the oldest one any more.
"""

from __future__ import annotations

import dataclasses as dc
import functools
from collections.abc import Iterator

import numpy as np

from ...engine.expression import Expression
from ..common.space import Dimension
from .gemm_epilogue import Side, TiledEpilogue, offset_text, sum_splits
from .gemm_tile import Columns, Copying, Gather, begin_left, copy_left, copy_right
from .kernel import Extent, Kernel, Parameter
from .product import Product
from .products import PRODUCTS
from .schedule import Tile

F2, F4, U4 = (np.dtype(t) for t in (np.float16, np.float32, np.uint32))


@dc.dataclass(frozen=True)
class ImplicitGemmKernel(Kernel):
    """One product, or a stack of products that differ in where their operands start."""

    product: str
    """A key of PRODUCTS."""
    tile: Tile
    left: Gather
    right: Columns
    weight_dtype: np.dtype
    batch: tuple[Dimension, ...]
    """The stack; strides of x, w, y and the sides."""
    rows: tuple[Dimension, ...]
    """The positions; strides of y and the sides."""
    stored: int
    """Columns that are written: those behind the last output channel become zero."""
    epilogue: Expression
    """Over the sum and the sides."""
    sides: tuple[Side, ...]
    result: Side
    is_packed: bool = True

    @property
    def family(self) -> str:
        return f"implicit_gemm_{self.product}"

    @property
    def x_dtype(self) -> np.dtype:
        """Of the left operand in memory."""
        return F2 if self.product == "fp16" else F4

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        sides = (Parameter(f"side{i}", side.dtype, alone=False) for i, side in enumerate(self.sides))
        y = Parameter("y", self.result.dtype, written=True, alone=False)
        shared = (Parameter("partial", F4, written=True, alone=False), Parameter("arrived", U4, written=True, alone=False))
        return (Parameter("x", self.x_dtype), Parameter("w", self.weight_dtype), *sides, y, *(shared if self.tile.splits > 1 else ()))

    @property
    def grid(self) -> Extent:
        return self.row_tiles * self.stack, self.column_tiles, self.tile.splits

    @property
    def block(self) -> Extent:
        return self.inner.threads, 1, 1

    @property
    def row_tiles(self) -> int:
        """Tiles that the positions fill."""
        return -(-self.left.rows // self.tile.rows)

    @property
    def column_tiles(self) -> int:
        """Tiles that the output channels of one product fill."""
        return -(-self.stored // self.tile.columns)

    @property
    def stack(self) -> int:
        """How many products there are."""
        return functools.reduce(lambda n, dimension: n * dimension.extent, self.batch, 1)

    @property
    def steps(self) -> int:
        """Stages that K fills."""
        return -(-self.left.depth // self.tile.depth)

    @property
    def stage(self) -> int:
        """Bytes of one stage."""
        product = self.inner
        return self.tile.depth * (self.tile.rows * product.item + self.tile.columns * product.right_item)

    @property
    def shared(self) -> int:
        return self.tile.stages * self.stage

    @property
    def partial_bytes(self) -> int:
        """Of the partial sums that blocks leave for each other."""
        return 4 * self.tile.rows * self.tile.columns * self.row_tiles * self.column_tiles * self.stack * self.tile.splits

    @functools.cached_property
    def inner(self) -> Product:
        """How a stage is multiplied."""
        kind = PRODUCTS[self.product]
        return kind(self.tile, self._width(kind), self.is_packed)

    def _width(self, kind: type[Product]) -> int:
        """Columns that a thread stores at a time: 16 bytes, where the warp's part is wide enough and everything is aligned."""
        wide = kind.item == 2 and self.tile.columns // self.tile.parts[1] % 32 == 0 and self.result.dtype.itemsize == 2
        return 8 if wide and self.result.is_aligned and all(side.is_aligned for side in self.sides if side.per_column) else 4

    def body(self) -> str:
        return "".join(f"  {line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        tile, product = self.tile, self.inner
        yield "SHARED_MEMORY(shared);"
        yield f"const int thread = threadIdx.x, first_column = blockIdx.y * {tile.columns};"
        if self.batch:
            yield f"const int number = blockIdx.x / {self.row_tiles}, first_row = blockIdx.x % {self.row_tiles} * {tile.rows};"
            names = ["x", "w", "y", *(f"side{i}" for i in range(len(self.sides)))]
            yield from (f"{name} += {offset_text('number', self.batch, i)};" for i, name in enumerate(names))
        else:
            yield f"const int first_row = blockIdx.x * {tile.rows};"
        yield from self._stages()
        yield from product.begin()
        yield from self._pipeline()
        if tile.splits > 1:
            yield from sum_splits(product, tile.splits, self.grid[0])
        rows = self.left.rows
        dtype = self.x_dtype
        end = TiledEpilogue(product, self.epilogue, dtype, self.sides, self.result, self.rows, rows, self.right.columns, self.stored)
        yield from end.text()

    def _stages(self) -> Iterator[str]:
        """Which stages are this block's, and how one is copied."""
        tile, product = self.tile, self.inner
        sizes = tile.depth, product.item, product.threads
        left = Copying("x", "x", tile.rows, *sizes, product.left_rows, "first_row")
        sizes = tile.depth, product.right_item, product.threads
        right = Copying("w", "w", tile.columns, *sizes, product.right_rows, "first_column")
        if tile.splits > 1:
            yield f"const int first_step = blockIdx.z * {self.steps} / {tile.splits};"
            yield f"const int steps = (blockIdx.z + 1) * {self.steps} / {tile.splits} - first_step;"
        else:
            yield f"const int first_step = 0, steps = {self.steps};"
        yield from begin_left(self.left, left)
        yield from right.begin()
        yield "auto copy = [&](int step, unsigned char* to) {"
        yield "  {"
        yield from (f"    {line}" for line in copy_left(self.left, left))
        yield "  }"
        yield f"  to += {tile.rows * product.left_rows.nbytes};"
        yield from (f"  {line}" for line in copy_right(self.right, right))
        yield "};"

    def _pipeline(self) -> Iterator[str]:
        stages, stage = self.tile.stages, self.stage
        yield f"UNROLL for (int i = 0; i < {stages - 1}; i++) {{"
        yield f"  if (i < steps) copy(first_step + i, shared + i * {stage});"
        yield "  cp_async_commit();"
        yield "}"
        yield f"int reading = 0, writing = {stages - 1};"
        yield "for (int i = 0; i < steps; i++) {"
        yield f"  cp_async_wait<{stages - 2}>();"
        yield "  __syncthreads();"
        yield f"  if (i + {stages - 1} < steps) copy(first_step + i + {stages - 1}, shared + writing * {stage});"
        yield "  cp_async_commit();"
        yield f"  const unsigned char* left = shared + reading * {stage};"
        yield f"  const unsigned char* right = left + {self.tile.rows * self.inner.left_rows.nbytes};"
        yield from (f"  {line}" for line in self.inner.multiply())
        yield f"  reading = reading + 1 == {stages} ? 0 : reading + 1;"
        yield f"  writing = writing + 1 == {stages} ? 0 : writing + 1;"
        yield "}"
