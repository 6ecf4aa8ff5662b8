"""CumSum: running sums, of floating-point numbers in double precision."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ...engine.ops import CumSum
from .kernel import Call, Machine, NoKernel, grain_for, lowers
from .numba_kernel import Array, NumbaKernel


@dc.dataclass(frozen=True)
class CumSumKernel(NumbaKernel):
    """y[row, j, column] = sum of x[row, i, column] over i up to j; unit = row * columns + column."""

    parameters: ClassVar[tuple[str, ...]] = ("x*", "y*", "extent", "columns")
    dtype: np.dtype
    exclusive: bool
    reverse: bool

    @property
    def dtypes(self) -> dict[str, Any]:
        """See NumbaKernel."""
        return {"x": self.dtype, "y": self.dtype}

    def body(self) -> Callable[..., None]:
        """See NumbaKernel."""
        exclusive, reverse = self.exclusive, self.reverse
        zero = np.float64(0) if self.dtype.kind == "f" else self.dtype.type(0)

        def cumsum(begin: int, end: int, thread: int, x: Array, y: Array, extent: int, columns: int) -> None:
            for unit in range(begin, end):
                start = unit // columns * extent * columns + unit % columns
                total = zero
                for i in range(extent):
                    at = start + (extent - 1 - i if reverse else i) * columns
                    value = x[at]
                    y[at] = total if exclusive else total + value
                    total = total + value

        return cumsum


@lowers(CumSum)
def lower_cumsum(node: CumSum, machine: Machine) -> list[Call]:
    """One call, a unit a sequence."""
    x = node.x.type
    if x.layout or x.dtype == np.float16:
        raise NoKernel(f"running sums of {x}, which is blocked or float16")
    extent, columns = x.shape[node.axis], math.prod(x.shape[node.axis + 1 :])
    units = x.size // extent
    kernel = CumSumKernel(x.dtype, node.exclusive, node.reverse)
    return [
        Call(
            kernel,
            {"x": node.x, "y": node, "extent": extent, "columns": columns},
            units,
            grain_for(units, x.size * 1.5e-9, machine.threads),
        )
    ]
