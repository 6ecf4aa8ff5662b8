"""Whole graphs of operators on the emulated GPU: channels stay last through them, results lie where others read them."""

from __future__ import annotations

import numpy as np
from cuda_harness import needs_compiler

import tilewright as tw
from tilewright.backends.cuda.layout import assign_layouts
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.expression import Operand
from tilewright.engine.graph import Constant, Graph, Input, Node, Result
from tilewright.engine.ops import (
    GRU,
    LRN,
    ArgReduce,
    AveragePool,
    Concat,
    Expand,
    Gather,
    MaxPool,
    Pad,
    Pointwise,
    Reduce,
    Reorder,
    Reshape,
    Resize,
    Slice,
    Softmax,
    TopK,
)

pytestmark = needs_compiler
F4 = np.dtype(np.float32)
X, Y = map(Operand, range(2))


def check(graph: Graph, rng: np.random.Generator, relative: float = 1e-5) -> None:
    """Twice, with other inputs, against float64."""
    session = tw.compile(graph, backend="cuda_emulated", passes=[])
    for _ in range(2):
        given = {i.name: rng.standard_normal(i.shape).astype(F4) for i in graph.inputs}
        found = session.run(given)
        for (name, result), want in zip(found.items(), evaluate(widen(graph), list(given.values())), strict=True):
            assert result.shape == want.shape, name
            np.testing.assert_allclose(result, want, rtol=relative, atol=relative * max(1, np.abs(want).max(initial=0)), err_msg=name)


def graph_of(*inputs: Input, **outputs: Node) -> Graph:
    return Graph(inputs, tuple(outputs.values()), tuple(outputs))


def resized(x: Node, extent: int, mode: str) -> Resize:
    n, c, h, w = x.type.shape
    return Resize(x, shape=(n, c, extent, extent), scales=(1.0, 1.0, extent / h, extent / w), mode=mode)


def test_channels_stay_last(rng: np.random.Generator) -> None:
    """Between a reorder at the input and those at the outputs there is none, but for what has no channels any more."""
    x = Input(name="x", shape=(2, 6, 13, 11))
    pooled = MaxPool(x, kernel=(3, 3), strides=(2, 2), pads=((1, 1), (1, 1)))
    normal = LRN(pooled, size=3)
    larger = resized(normal, 9, "linear")
    shuffled = Gather(larger, Constant(np.array([5, 0, 3, 3, 1])), axis=1)
    padded = Pad(shuffled, pads=((0, 0), (0, 0), (1, 0), (2, 1)), mode="reflect")
    both = Concat((padded, AveragePool(padded, kernel=(1, 1))), axis=1)
    gate = Expand(Reduce(both, kind="mean", axes=(2, 3)), shape=both.type.shape)
    gated = Pointwise((both, gate), expression=X * Y)
    part = Slice(Softmax(gated, axis=1), starts=(0, 2, 1, 0), sizes=(2, 7, 8, 6), steps=(1, 1, 1, 2))
    features = Reduce(part, kind="max", axes=(2, 3), keepdims=False)
    labels = ArgReduce(part, kind="max", axis=1)
    graph = graph_of(x, part=part, features=features, labels=labels)
    laid_out = assign_layouts(graph)
    assert len(laid_out.find(Reorder)) == 2
    plain = [n for n in laid_out if len(n.types) == 1 and n.type.rank == 4 and n.type.layout is None and not isinstance(n, Input | Reorder)]
    assert [type(n) for n in plain] == [ArgReduce]
    check(graph, rng)


def test_several_results_and_several_steps(rng: np.random.Generator) -> None:
    """Results of one node in one piece of memory; scratch memory from step to step; parts of a concatenation in their place."""
    x = Input(name="x", shape=(1, 3, 70, 60))
    small = Resize(x, shape=(1, 3, 12, 10), scales=(1.0, 1.0, 12 / 70, 10 / 60), mode="cubic", antialias=True)
    total = Reduce(x, kind="sum", axes=(1, 2, 3))
    sequence = Reshape(small, shape=(12, 3, 10))
    weights = [Constant((rng.standard_normal(s) * 0.4).astype(F4)) for s in ((2, 24, 10), (2, 24, 8), (2, 48))]
    layer = GRU(sequence, *weights, direction="bidirectional")
    states, last = (Result(layer, index=i) for i in range(2))
    best = TopK(Reshape(states, shape=(1, 576)), k=5, axis=1)
    values, indices = (Result(best, index=i) for i in range(2))
    joined = Concat((Pointwise((total, total), expression=X + Y), Reshape(values, shape=(1, 5, 1, 1))), axis=1)
    graph = graph_of(x, last=last, values=values, indices=indices, joined=joined)
    check(graph, rng, 1e-4)


def test_nothing_and_scalars(rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(4, 0, 3))
    y = Input(name="y", shape=())
    graph = graph_of(x, y, sums=Reduce(x, kind="sum", axes=(1,)), empty=Slice(x, starts=(1, 0, 0), sizes=(2, 0, 3), steps=(1, 1, 1)),
                     same=Reshape(Reshape(y, shape=(1,)), shape=()), joined=Concat((x, x), axis=0))  # fmt: skip
    check(graph, rng)
