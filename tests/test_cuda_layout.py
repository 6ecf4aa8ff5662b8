"""Channels last: which values have it, where reorders are, and that a graph means the same and stays legal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tilewright.backends.common.storage import Storage
from tilewright.backends.cuda.executable import ALIGNMENT
from tilewright.backends.cuda.layout import assign_layouts, channels_last, has_channels_last
from tilewright.engine.evaluate import evaluate
from tilewright.engine.expression import Operand, apply
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import Concat, Conv, MaxPool, Pad, Pointwise, Reorder, Reshape, Slice, Softmax
from tilewright.engine.ops.layout import from_physical, to_physical
from tilewright.engine.tensor import Blocked, TensorType
from tilewright.engine.verify import verify

F4 = np.dtype(np.float32)
X, Y = map(Operand, range(2))


def weight(rng: np.random.Generator, *shape: int) -> Constant:
    return Constant(rng.standard_normal(shape).astype(F4))


def laid_out(rng: np.random.Generator, x: Input, *outputs: Node) -> Graph:
    """The graph with layouts, checked: legal, and the same numbers."""
    before = Graph((x,), outputs, tuple(f"y{i}" for i in range(len(outputs))))
    after = verify(assign_layouts(before))
    given = [rng.standard_normal(x.shape).astype(F4)]
    for a, b in zip(evaluate(before, given), evaluate(after, given), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(output.type.layout is None for output in after.outputs)
    return after


@pytest.mark.parametrize(("dtype", "channels", "block"), [("f4", 3, 4), ("f4", 64, 64), ("f2", 3, 8), ("f2", 20, 24), ("f8", 3, 4)])
def test_pixels_are_whole_pieces(dtype: str, channels: int, block: int, rng: np.random.Generator) -> None:
    kind = TensorType(np.dtype(dtype), (2, channels, 5, 4))
    assert channels_last(kind) == Blocked(1, block)
    array = rng.standard_normal(kind.shape).astype(dtype)
    physical = to_physical(array, channels_last(kind))
    assert physical.shape == (2, 1, 5, 4, block)
    np.testing.assert_array_equal(physical[:, 0, :, :, :channels], array.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(from_physical(physical, kind.shape, channels_last(kind)), array)


def test_a_residual_block_is_reordered_where_it_begins_and_ends(rng: np.random.Generator, golden: Callable[[str], None]) -> None:
    x = Input(name="x", shape=(1, 5, 8, 8))
    stem = MaxPool(Conv(x, weight(rng, 6, 5, 3, 3), pads=((1, 1), (1, 1)), epilogue=apply("relu", X)), kernel=(2, 2), strides=(2, 2))
    inner = Conv(stem, weight(rng, 6, 6, 3, 3), weight(rng, 6), pads=((1, 1), (1, 1)), epilogue=apply("relu", X))
    y = Conv(inner, weight(rng, 6, 6, 1, 1), None, (stem,), epilogue=apply("relu", X + Y))
    z = Pointwise((y, weight(rng, 6, 1, 1)), expression=X * Y)
    graph = laid_out(rng, x, z)
    assert len(graph.find(Reorder)) == 2
    assert all(has_channels_last(n.type, n.type.layout) for n in graph if isinstance(n, Conv | MaxPool | Pointwise))
    golden(str(graph))


def test_a_picture_is_read_as_it_is(rng: np.random.Generator) -> None:
    """By the first convolution, unless its channels have groups or something else wants them last."""
    x = Input(name="x", shape=(1, 3, 8, 8))
    (conv,) = laid_out(rng, x, Conv(x, weight(rng, 6, 3, 3, 3))).find(Conv)
    assert (conv.operands[0].type.layout, conv.type.layout) == (None, Blocked(1, 8))
    (conv,) = laid_out(rng, x, Conv(x, weight(rng, 6, 1, 3, 3), groups=3)).find(Conv)
    assert conv.operands[0].type.layout == Blocked(1, 4)
    (conv,) = laid_out(rng, x, Conv(MaxPool(x, kernel=(2, 2)), weight(rng, 6, 3, 3, 3))).find(Conv)
    assert conv.operands[0].type.layout == Blocked(1, 4)


def test_parts_keep_it(rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(2, 5, 6, 6))
    a = MaxPool(x, kernel=(2, 2), strides=(2, 2))
    both = Concat((a, Pointwise((a,), expression=X * X)), axis=1)
    part = Slice(both, starts=(0, 3, 0, 0), sizes=(2, 6, 3, 3), steps=(1, 1, 1, 1))
    padded = Pad(part, pads=((0, 0), (0, 0), (1, 1), (2, 0)))
    graph = laid_out(rng, x, padded)
    assert len(graph.find(Reorder)) == 2
    assert [n.type.layout for n in graph.find(Concat)] == [Blocked(1, 12)] and [n.type.layout for n in graph.find(Slice)] == [Blocked(1, 8)]


def test_what_has_no_rule_is_plain(rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(2, 8, 1, 1))
    pooled = MaxPool(x, kernel=(1, 1))
    graph = laid_out(rng, x, Softmax(Reshape(pooled, shape=(2, 8)), axis=1))
    (softmax,) = graph.find(Softmax)
    assert softmax.operands[0].type.layout is None
    storage = Storage(graph, ALIGNMENT)
    assert all(storage.is_view(n) for n in graph if isinstance(n, Reorder | Reshape)), (
        "(n, c, 1, 1) of full pieces is the same in every order"
    )


def test_plain_graphs_stay_plain(rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(2, 8))
    graph = laid_out(rng, x, Pointwise((x,), expression=X + 1.0))
    assert not graph.find(Reorder)


def test_convolutions_with_computed_weights_stay_plain(rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(1, 4, 3, 3))
    graph = laid_out(rng, x, Conv(x, Pointwise((x,), expression=X * 2.0)))
    assert not graph.find(Reorder)
