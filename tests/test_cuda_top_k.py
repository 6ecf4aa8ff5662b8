"""The largest elements and running sums on the emulated GPU."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_harness import operand
from cuda_harness import check_node, needs_compiler

from tilewright.engine.graph import Node
from tilewright.engine.ops import CumSum, TopK

pytestmark = needs_compiler
F2, F4, F8 = np.float16, np.float32, np.float64


@pytest.mark.parametrize("largest", [True, False])
def test_top_k(largest: bool, rng: np.random.Generator) -> None:
    for dtype, shape, k in ((F4, (3, 50, 2), 7), (np.int8, (2, 300), 9), (F2, (6,), 1), (np.uint64, (20, 3), 3)):
        data = rng.integers(0, 12, shape).astype(dtype)
        if dtype is F4:
            data[1, 20:25] = np.nan
        x = operand("x", data)
        values: dict[Node, np.ndarray] = {x: data}
        for axis in range(data.ndim):
            check_node(TopK(x, k=min(k, shape[axis]), axis=axis, largest=largest), values)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_cumsum(exclusive: bool, reverse: bool, rng: np.random.Generator) -> None:
    for dtype, shape in ((F4, (3, 70, 5)), (np.int8, (2, 500)), (F2, (11,)), (F8, (1000, 1))):
        data = (rng.standard_normal(shape) * 9).astype(dtype)
        x = operand("x", data)
        values: dict[Node, np.ndarray] = {x: data}
        for axis in range(len(shape))[:: 1 if exclusive == reverse else 2]:
            node = CumSum(x, axis=axis, exclusive=exclusive, reverse=reverse)
            check_node(node, values, 2e-3 if dtype is F2 else 1e-5, 3e-2 if dtype is F2 else 1e-4)
