"""Graphs can be pickled and copied, however deep they are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from tilewright.engine.evaluate import evaluate
from tilewright.engine.expression import IDENTITY, apply
from tilewright.engine.graph import Constant, Graph, Input, Node, Result
from tilewright.engine.ops import Conv, TopK, pointwise
from tilewright.engine.tensor import Blocked
from tilewright.engine.verify import verify

COPIES: list[Callable[[Graph], Graph]] = [lambda g: pickle.loads(pickle.dumps(g)), copy.deepcopy]


@pytest.fixture
def graph(rng: np.random.Generator) -> Graph:
    x, unused = Input(name="x", shape=(2, 3, 6, 5)), Input(name="unused", shape=(4,), dtype=np.dtype(np.int64))
    weight, residual = Constant(rng.standard_normal((4, 3, 3, 3)).astype("f4"), origin=("w",)), Constant(np.float32(0.5).reshape(1))
    conv = Conv(x, weight, extras=(residual,), epilogue=apply("tanh", IDENTITY), pads=((1, 0), (2, 1)), origin=("a", "b"))
    best = TopK(conv, k=2, axis=3, largest=False)
    return Graph((x, unused), (Result(best, index=0), Result(best, index=1), weight), ("values", "places", "weight"), "net")


@pytest.mark.parametrize("duplicate", COPIES)
def test_a_copy_means_the_same(duplicate: Callable[[Graph], Graph], graph: Graph, rng: np.random.Generator) -> None:
    again = verify(duplicate(graph))
    assert str(again) == str(graph) and again is not graph
    assert [n.origin for n in again] == [n.origin for n in graph]
    inputs = [rng.standard_normal((2, 3, 6, 5)).astype("f4"), np.arange(4)]
    for found, expected in zip(evaluate(again, inputs), evaluate(graph, inputs), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_layouts_are_kept(rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(1, 20, 3, 3))
    blocked = pointwise("tanh", x).replace(layout=Blocked(1, 16))
    (again,) = pickle.loads(pickle.dumps(Graph((x,), (blocked,), ("y",)))).outputs
    assert again.type == blocked.type and again.type.physical_shape == (1, 2, 3, 3, 16)


@pytest.mark.parametrize("duplicate", COPIES)
def test_deep_graphs(duplicate: Callable[[Graph], Graph]) -> None:
    x = Input(name="x", shape=(2,))
    node: Node = x
    for _ in range(5000):
        node = pointwise("add", node, 1)
    again = duplicate(Graph((x,), (node,), ("y",)))
    assert len(again.nodes) == 5001
    np.testing.assert_array_equal(evaluate(again, [np.array([1, 2], "f4")])[0], [5001, 5002])
