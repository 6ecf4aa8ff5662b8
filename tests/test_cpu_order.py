"""Positions of extremes, the top k, running sums and local response normalisation of the cpu backend against NumPy."""

import itertools

import numpy as np
import pytest
from cpu_harness import check_node, operand

from tilewright.engine.ops import LRN, ArgReduce, CumSum, TopK


def ties(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    """Few different numbers, so that many are equal."""
    return rng.integers(0 if dtype[0] in "u?" else -4, 2 if dtype == "?" else 5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i4", "i8", "u1", "?"])
@pytest.mark.parametrize("kind", ["max", "min"])
def test_arg_reduce(rng, kind, dtype):
    for shape, last in itertools.product(((3, 5, 37), (2, 70, 3), (1, 1, 1), (2, 4, 3, 19)), (False, True)):
        values = ties(rng, shape, dtype)
        for axis in range(len(shape)):
            x = operand("x", values)
            check_node(ArgReduce(x, kind=kind, axis=axis, keepdims=axis % 2 == 0, last_index=last), {x: values})


def test_arg_reduce_finds_nan(rng):
    for axis, last, kind in itertools.product((0, 1), (False, True), ("max", "min")):
        values = rng.standard_normal((40, 40)).astype(np.float32)
        values[rng.integers(0, 40, 30), rng.integers(0, 40, 30)] = np.nan
        x = operand("x", values)
        check_node(ArgReduce(x, kind=kind, axis=axis, last_index=last), {x: values})


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1"])
@pytest.mark.parametrize("largest", [True, False])
def test_topk(rng, dtype, largest):
    for shape, axis, k in (((5, 40), 1, 3), ((40, 6), 0, 40), ((3, 90, 2), 1, 33), ((2, 3, 7), 2, 1), ((100,), 0, 100), ((2, 1), 1, 1)):
        values = ties(rng, shape, dtype)
        x = operand("x", values)
        check_node(TopK(x, k=k, axis=axis, largest=largest), {x: values})


def test_topk_orders_nan(rng):
    for k, largest in itertools.product((4, 60), (True, False)):
        values = rng.standard_normal((3, 60)).astype(np.float32)
        values[:, [5, 9, 31]] = np.nan
        x = operand("x", values)
        check_node(TopK(x, k=k, axis=1, largest=largest), {x: values})


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u8"])
def test_cumsum(rng, dtype):
    values = ties(rng, (3, 17, 5), dtype)
    for axis, exclusive, reverse in itertools.product(range(3), (False, True), (False, True)):
        x = operand("x", values)
        check_node(CumSum(x, axis=axis, exclusive=exclusive, reverse=reverse), {x: values})


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_lrn(rng, dtype):
    for shape, size in itertools.product(((2, 7, 5, 9), (1, 3, 40), (1, 64, 13, 13)), (1, 2, 5, 9)):
        values = (rng.standard_normal(shape) * 3).astype(dtype)
        x = operand("x", values)
        node = LRN(x, size=size, alpha=0.02, beta=0.75, bias=1.5)
        check_node(node, {x: values}, relative=2e-3 if dtype == "f2" else 2e-6, absolute=1e-7)
