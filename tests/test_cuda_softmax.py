"""Softmax and positions of extremes on the emulated GPU, along any axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import channels_last, given
from cuda_harness import check_node, needs_compiler

from tilewright.engine.graph import Node
from tilewright.engine.ops import ArgReduce, Softmax

pytestmark = needs_compiler
F2, F4, F8 = np.float16, np.float32, np.float64


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("shape", [(3, 5, 37), (2, 1, 700), (1, 3, 5000), (40, 4, 3)])
def test_softmax(shape: tuple[int, ...], log: bool) -> None:
    """Rows of a part of a warp, of a warp, of a block; in registers and not."""
    x, values = given(shape)
    values[x] /= 10
    for axis in range(len(shape))[:: 2 if log else 1]:
        check_node(Softmax(x, axis=axis, log=log), values, 1e-5, 1e-6)


@pytest.mark.parametrize("dtype", [F8, F2, F4])
def test_softmax_with_channels_last(dtype: Any) -> None:
    x, values = given((2, 11, 5, 3), dtype, channels_last(dtype, 11))
    values[x] = (values[x] / 10).astype(dtype)
    for axis in range(4):
        check_node(Softmax(x, axis=axis, layout=x.layout), values, 3e-3 if dtype == F2 else 1e-5, 1e-6)


def test_rows_of_nothing_but_minus_infinity() -> None:
    x, values = given((3, 20))
    values[x][1] = -np.inf
    check_node(Softmax(x, axis=1), values, 1e-5, 1e-6)


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("last", [False, True])
def test_positions(kind: str, last: bool, rng: np.random.Generator) -> None:
    """Few different numbers, so that there are many equals."""
    for dtype, shape in ((F4, (3, 50, 7)), (np.int8, (2, 900)), (np.uint64, (70,)), (F2, (40, 6))):
        data = rng.integers(0, 4, shape).astype(dtype)
        if dtype == F4:
            data[1, 20:30, 3] = np.nan
        x = operand("x", data)
        values: dict[Node, np.ndarray] = {x: data}
        for axis in range(len(shape))[:: 2 if last else 1]:
            check_node(ArgReduce(x, kind=kind, axis=axis, last_index=last, keepdims=axis > 0), values)


def test_positions_with_channels_last() -> None:
    x, values = given((2, 21, 5, 3), F4, channels_last(F4, 21))
    for axis in range(4):
        check_node(ArgReduce(x, kind="max", axis=axis), values)
