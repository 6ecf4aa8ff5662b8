"""Values without elements: an empty batch goes through every operator, and what is made of nothing is what NumPy makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.graph import Constant, Graph, Input, Node, Result
from tilewright.engine.ops import (
    GRU,
    LRN,
    LSTM,
    RNN,
    ArgReduce,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    CumSum,
    Expand,
    Gather,
    MatMul,
    MaxPool,
    Pad,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Softmax,
    TopK,
    Transpose,
    pointwise,
)

F4 = np.dtype(np.float32)


def numbers(*shape: int) -> Constant:
    return Constant(np.random.default_rng(5).standard_normal(shape).astype(np.float32))


BATCHES: dict[str, Callable[[Node], Node]] = {
    "max_pool": lambda x: MaxPool(x, kernel=(2, 2)),
    "average_pool": lambda x: AveragePool(x, kernel=(2, 2)),
    "conv": lambda x: Conv(x, numbers(20, 16, 3, 3), numbers(20)),
    "depthwise": lambda x: Conv(x, numbers(16, 1, 3, 3), groups=16),
    "conv_transpose": lambda x: ConvTranspose(x, numbers(16, 5, 2, 2)),
    "mat_mul": lambda x: MatMul(x, numbers(5, 7)),
    "mean": lambda x: Reduce(x, kind="mean", axes=(2, 3)),
    "softmax": lambda x: Softmax(x, axis=1),
    "resize": lambda x: Resize(x, shape=(0, 16, 12, 5), scales=(1.0, 1.0, 2.0, 1.0), mode="linear"),
    "pointwise": lambda x: pointwise("add", x, numbers(16, 1, 1)),
    "concat": lambda x: Concat((x, x), axis=1),
    "slice": lambda x: Slice(x, starts=(0, 3, 0, 0), sizes=(0, 5, 6, 5), steps=(1, 2, 1, 1)),
    "pad": lambda x: Pad(x, pads=((0, 0), (0, 0), (1, 0), (0, 2))),
    "transpose": lambda x: Transpose(x, permutation=(1, 2, 0, 3)),
    "reshape": lambda x: Reshape(x, shape=(0, 480)),
    "expand": lambda x: Expand(x, shape=(3, 0, 16, 6, 5)),
    "gather": lambda x: Gather(x, Constant(np.array([3, 1, 2, 11, 7, 0, 2, 9])), axis=1),
    "lrn": lambda x: LRN(x, size=3, alpha=0.1, beta=0.5, bias=1.0),
    "arg_max": lambda x: ArgReduce(x, kind="max", axis=1),
    "top_k": lambda x: Result(TopK(x, k=2, axis=1), index=1),
    "cumsum": lambda x: CumSum(x, axis=1),
}


@pytest.mark.parametrize("passes", [(), None], ids=["bare", "default"])
@pytest.mark.parametrize("name", BATCHES)
def test_an_empty_batch(name: str, passes: tuple[str, ...] | None) -> None:
    x = Input(name="x", shape=(0, 16, 6, 5), dtype=F4)
    y = BATCHES[name](pointwise("tanh", Conv(x, numbers(16, 16, 1, 1))))
    result = tw.compile(Graph((x,), (y,), ("y",)), passes=passes)(np.zeros((0, 16, 6, 5), np.float32))
    assert result.shape == y.type.shape and result.dtype == y.type.dtype and result.size == 0


NOTHING: dict[str, Callable[[Node], Node]] = {
    "sum": lambda z: Reduce(z, kind="sum", axes=(0,)),
    "scalar": lambda z: Reduce(z, kind="prod", axes=(0, 1), keepdims=False),
    "max": lambda z: Reduce(z, kind="max", axes=(0,), keepdims=False),
    "pad": lambda z: Pad(z, pads=((1, 2), (0, 1)), value=0.5),
    "product over nothing": lambda z: MatMul(Transpose(z, permutation=(1, 0)), z, numbers(3)),
    "product with a constant": lambda z: MatMul(Reshape(z, shape=(3, 0)), Constant(np.zeros((0, 5), np.float32)), numbers(5)),
    "concat": lambda z: Concat((z, numbers(2, 3), z), axis=0),
    "concat of blocks": lambda z: Conv(
        Concat((Conv(numbers(1, 3, 4, 4), numbers(16, 3, 1, 1)), Reshape(z, shape=(1, 0, 4, 4))), axis=1), numbers(8, 16, 1, 1)
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_something_made_of_nothing(name: str) -> None:
    z = Input(name="z", shape=(0, 3), dtype=F4)
    graph = Graph((z,), (NOTHING[name](z),), ("y",))
    given = np.zeros((0, 3), np.float32)
    expected = tw.compile(graph, backend="reference", passes=())(given)
    assert expected.size
    for passes in ((), None):
        np.testing.assert_allclose(tw.compile(graph, passes=passes)(given), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [RNN, GRU, LSTM])
def test_a_recurrent_layer_over_no_time_keeps_its_state(kind: type[RNN] | type[GRU] | type[LSTM]) -> None:
    gates = {RNN: 1, GRU: 3, LSTM: 4}[kind]
    x, hidden = Input(name="x", shape=(0, 2, 5), dtype=F4), Input(name="hidden", shape=(1, 2, 7), dtype=F4)
    layer = kind(x, numbers(1, gates * 7, 5), numbers(1, gates * 7, 7), None, None, hidden)
    graph = Graph((x, hidden), (Result(layer, index=0), Result(layer, index=1)), ("y", "state"))
    state = np.random.default_rng(1).standard_normal((1, 2, 7)).astype(np.float32)
    found = tw.compile(graph, passes=()).run({"x": np.zeros((0, 2, 5), np.float32), "hidden": state})
    assert found["y"].shape == (0, 1, 2, 7)
    np.testing.assert_array_equal(found["state"], state)


def test_a_model_takes_an_empty_batch() -> None:
    assert tw.compile("lenet5", shapes={"image": (0, 1, 28, 28)})(np.zeros((0, 1, 28, 28), np.float32)).shape == (0, 10)
