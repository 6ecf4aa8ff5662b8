"""Pools on the emulated GPU, plain and with channels last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import channels_last
from cuda_harness import check_node, needs_compiler

from tilewright.engine.graph import Node
from tilewright.engine.ops import ArgMaxPool, AveragePool, MaxPool
from tilewright.engine.tensor import Blocked

pytestmark = needs_compiler
F2, F4, F8 = np.float16, np.float32, np.float64
CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 5, 9, 7), {"kernel": (3, 3), "strides": (2, 2), "pads": ((1, 1), (1, 1))}),
    ((1, 6, 8, 5), {"kernel": (3, 2), "strides": (2, 1), "pads": ((2, 1), (0, 1)), "dilations": (2, 3), "ceil_mode": True}),
    ((2, 3, 11), {"kernel": (4,), "strides": (3,), "ceil_mode": True}),
    ((1, 9, 5, 4, 6), {"kernel": (2, 3, 2), "strides": (2, 1, 2), "pads": ((0, 1), (1, 1), (1, 0))}),
]


@pytest.mark.parametrize(("shape", "window"), CASES)
@pytest.mark.parametrize("last", [False, True])
def test_pools(shape: tuple[int, ...], window: dict[str, Any], last: bool, rng: np.random.Generator) -> None:
    layout = channels_last(F4, shape[1]) if last else None
    data = rng.standard_normal(shape).astype(F4) - 3
    x = operand("x", data, layout)
    given: dict[Node, np.ndarray] = {x: data}
    check_node(MaxPool(x, layout=layout, **window), given, 0)
    for include in (False, True):
        check_node(AveragePool(x, layout=layout, count_include_pad=include, **window), given, 1e-6, 1e-6)


@pytest.mark.parametrize("dtype", [F2, F8, np.int8, np.uint8])
def test_pools_of_other_elements(dtype: Any, rng: np.random.Generator) -> None:
    data = (rng.standard_normal((1, 9, 7, 6)) * 50).astype(dtype)
    for layout in (None, channels_last(dtype, 9)):
        x = operand("x", data, layout)
        (call,) = check_node(MaxPool(x, kernel=(3, 3), pads=((1, 1), (1, 1)), layout=layout), {x: data}, 0)
        assert call.kernel.source().count("Pack<") and (layout is None or f", {16 // data.itemsize}>" in call.kernel.source())
        if data.dtype.kind == "f":
            check_node(AveragePool(x, kernel=(2, 3), strides=(2, 2), layout=layout), {x: data}, 1e-3 if dtype == F2 else 1e-12, 1e-2)


@pytest.mark.parametrize("column_major", [False, True])
def test_positions_of_maxima(column_major: bool, rng: np.random.Generator) -> None:
    """Small integers, so that the first of several maxima must be found."""
    data = rng.integers(-2, 3, (2, 5, 6, 7)).astype(F4)
    for layout in (None, Blocked(1, 8)):
        x = operand("x", data, layout)
        window = {"kernel": (3, 2), "strides": (2, 1), "pads": ((1, 1), (0, 1)), "dilations": (1, 2)}
        check_node(ArgMaxPool(x, column_major=column_major, **window), {x: data})


def test_nan_is_the_largest(rng: np.random.Generator) -> None:
    data = rng.standard_normal((1, 2, 6, 6)).astype(F4)
    data[0, 1, 3, 3] = np.nan
    x = operand("x", data)
    check_node(MaxPool(x, kernel=(3, 3)), {x: data}, 0)
