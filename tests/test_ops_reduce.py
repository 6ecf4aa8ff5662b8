"""Normalisation and operators along whole axes against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operator_oracles import check_op, evaluate_op, onnx_results, onnxruntime_results, randn

from tilewright.engine.ops import LRN, ArgReduce, BatchNorm, CumSum, Reduce, Softmax, TopK

Random = np.random.Generator


@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 7), (2, 5, 3, 7), (1, 5, 2, 3, 4)])
@pytest.mark.parametrize("epsilon", [1e-5, 0.25])
def test_batch_norm(rng: Random, shape: tuple[int, ...], epsilon: float) -> None:
    arrays = [randn(rng, *shape), *(randn(rng, 5) for _ in range(3)), rng.random(5, np.float32)]
    expected = onnxruntime_results("BatchNormalization", arrays, epsilon=epsilon)
    check_op(lambda *n: BatchNorm(*n, epsilon=epsilon), arrays, expected)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_lrn(rng: Random, size: int) -> None:
    x = randn(rng, 7, 7, 3, 5)
    parameters: dict[str, Any] = {"alpha": 0.3, "beta": 0.6, "bias": 1.5}
    # The ONNX package sums for as many channels as there are images, and onnxruntime takes odd sizes only.
    check_op(lambda i: LRN(i, size=size, **parameters), [x], onnx_results("LRN", [x], size=size, **parameters))
    if size % 2:
        check_op(lambda i: LRN(i, size=size, **parameters), [x], onnxruntime_results("LRN", [x], size=size, **parameters))


def test_lrn_defaults(rng: Random) -> None:
    x = randn(rng, 2, 7, 3, 5) * 50
    check_op(lambda i: LRN(i, size=5), [x], onnxruntime_results("LRN", [x], size=5))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
@pytest.mark.parametrize("kind", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize(("axes", "keepdims"), [((1,), True), ((0, 2), False), ((2, 3), True), ((0, 1, 2, 3), False), ((3, 1), True)])
def test_reduce(rng: Random, kind: str, axes: tuple[int, ...], keepdims: bool, dtype: Any) -> None:
    x = rng.integers(1, 4, (3, 2, 4, 5)).astype(dtype) * rng.choice([-1, 1], (3, 2, 4, 5)).astype(dtype)
    x = x + (rng.random(x.shape).astype(dtype) if dtype == np.float32 else 0)
    if kind == "prod" and dtype != np.float32:
        x = np.where(np.abs(x) == 3, 1, x).astype(dtype)[:, :, :2, :3]  # within the range of the dtype
    given = [x, np.array(axes, np.int64)]
    expected = onnxruntime_results(f"Reduce{kind.capitalize()}", given, opset=18, keepdims=int(keepdims))
    check_op(lambda i: Reduce(i, kind=kind, axes=axes, keepdims=keepdims), [x], expected)


@pytest.mark.parametrize(("kind", "neutral"), [("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf)])
def test_reduce_of_nothing_is_the_neutral_element(kind: str, neutral: float) -> None:
    (result,) = evaluate_op(lambda i: Reduce(i, kind=kind, axes=(1,)), [np.zeros((2, 0, 3), np.float32)])
    assert result.shape == (2, 1, 3)
    assert (result == neutral).all()


@pytest.mark.parametrize(("kind", "reduction"), [("max", np.any), ("min", np.all)])
def test_reduce_of_booleans(rng: Random, kind: str, reduction: Any) -> None:
    x = rng.random((4, 3)) < 0.5
    check_op(lambda i: Reduce(i, kind=kind, axes=(1,), keepdims=False), [x], [reduction(x, axis=1)])


def test_reduce_over_no_axes_is_the_identity(rng: Random) -> None:
    x = randn(rng, 3, 4)
    check_op(lambda i: Reduce(i, kind="mean", axes=()), [x], [x])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("log", [False, True])
def test_softmax(rng: Random, axis: int, log: bool) -> None:
    x = randn(rng, 3, 5, 7) * 40  # large, so that exp overflows unless the maximum is taken off
    x[1] += 300
    expected = onnxruntime_results("LogSoftmax" if log else "Softmax", [x], axis=axis)
    check_op(lambda i: Softmax(i, axis=axis, log=log), [x], expected)


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("last_index", [False, True])
@pytest.mark.parametrize(("axis", "keepdims"), [(0, True), (1, False), (2, True)])
def test_arg_reduce(rng: Random, kind: str, axis: int, keepdims: bool, last_index: bool) -> None:
    x = rng.integers(-2, 3, (5, 4, 6)).astype(np.float32)  # few values, so that there are ties
    attributes = {"axis": axis, "keepdims": int(keepdims), "select_last_index": int(last_index)}
    expected = onnxruntime_results(f"Arg{kind.capitalize()}", [x], **attributes)
    check_op(lambda i: ArgReduce(i, kind=kind, axis=axis, keepdims=keepdims, last_index=last_index), [x], expected)


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize(("axis", "k"), [(0, 1), (1, 3), (2, 6), (1, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_top_k(rng: Random, axis: int, k: int, largest: bool, dtype: Any) -> None:
    x = rng.integers(-4, 4, (5, 4, 6)).astype(dtype)  # few values, so that there are ties
    expected = onnxruntime_results("TopK", [x, np.array([k])], 2, axis=axis, largest=int(largest), sorted=1)
    check_op(lambda i: TopK(i, k=k, axis=axis, largest=largest), [x], expected)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_cum_sum(rng: Random, axis: int, exclusive: bool, reverse: bool, dtype: Any) -> None:
    x = (randn(rng, 5, 4, 6) * 9).astype(dtype)
    expected = onnxruntime_results("CumSum", [x, np.array(axis)], exclusive=int(exclusive), reverse=int(reverse))
    check_op(lambda i: CumSum(i, axis=axis, exclusive=exclusive, reverse=reverse), [x], expected)
