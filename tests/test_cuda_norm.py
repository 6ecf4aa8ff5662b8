"""Normalisation over channels on the emulated GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import channels_last, given
from cuda_harness import check_node, needs_compiler

from tilewright.engine.ops import LRN, BatchNorm

pytestmark = needs_compiler
F2, F4, F8 = np.float16, np.float32, np.float64


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [F4, F8, F2])
def test_local_response(dtype: Any, last: bool) -> None:
    x, values = given((2, 11, 3, 5), dtype, channels_last(dtype, 11) if last else None)
    values[x] = (values[x] / 50).astype(dtype)
    tolerance = 2e-3 if dtype == F2 else 1e-5
    check_node(LRN(x, size=5, layout=x.layout), values, tolerance)
    check_node(LRN(x, size=4, alpha=0.5, beta=0.6, bias=2.0, layout=x.layout), values, tolerance)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [F4, F2])
def test_batch_norm(dtype: Any, last: bool, rng: np.random.Generator) -> None:
    x, values = given((2, 11, 3, 5), dtype, channels_last(dtype, 11) if last else None)
    values[x] = (values[x] / 50).astype(dtype)
    statistics = [rng.random(11).astype(dtype) + dtype(0.5) for _ in range(4)]
    nodes = [operand(f"s{i}", s) for i, s in enumerate(statistics)]
    values |= dict(zip(nodes, statistics, strict=True))
    check_node(BatchNorm(x, *nodes, layout=x.layout), values, 3e-3 if dtype == F2 else 1e-5, 3e-3 if dtype == F2 else 1e-6)
