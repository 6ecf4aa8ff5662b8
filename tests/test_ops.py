"""What holds for all operators: type errors, flops, printing, pickling, evaluation in other dtypes."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operator_oracles import randn

from tilewright.engine import ops
from tilewright.engine.errors import ModelError
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.expression import IDENTITY, Operand, apply
from tilewright.engine.graph import Constant, Graph, Input, Node, Result
from tilewright.engine.ops import (
    GRU,
    LRN,
    LSTM,
    RNN,
    ArgMaxPool,
    ArgReduce,
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    CumSum,
    Expand,
    Gather,
    GatherElements,
    GatherND,
    MatMul,
    MaxPool,
    Pad,
    Reduce,
    Reshape,
    Resize,
    ScatterElements,
    ScatterND,
    Slice,
    Softmax,
    TopK,
    Transpose,
    cast,
    pointwise,
)

Random = np.random.Generator


def value(*shape: int, dtype: Any = np.float32) -> Input:
    return Input(name="x", shape=shape, dtype=np.dtype(dtype))


def index(*shape: int) -> Input:
    return value(*shape, dtype=np.int64)


IMAGE, MATRIX, SEQUENCE = value(2, 6, 8, 9), value(4, 5), value(7, 2, 3)
RNN_WEIGHTS, LSTM_WEIGHTS = (value(1, 4, 3), value(1, 4, 4)), (value(1, 16, 3), value(1, 16, 4))

MISFITS: list[tuple[Callable[[], Node], str]] = [
    (lambda: Conv(IMAGE, value(4, 5, 3, 3)), "x has 6 channels, the weight expects 5 in each of 1 groups"),
    (lambda: Conv(IMAGE, value(5, 3, 3, 3), groups=2), "5 output channels do not divide into 2 groups"),
    (lambda: Conv(IMAGE, value(4, 6, 3)), "a weight of the same rank, got ranks 4 and 3"),
    (lambda: Conv(IMAGE, value(4, 6, 3, 3, dtype=np.float64)), "one floating-point dtype, got float32 and float64"),
    (lambda: Conv(IMAGE, value(4, 6, 3, 3), value(5)), r"expected a bias of shape \(4,\)"),
    (lambda: Conv(IMAGE, value(4, 6, 9, 3)), "the kernel is larger than the padded input"),
    (lambda: Conv(IMAGE, value(4, 6, 3, 3), strides=(1,)), r"expected 2 strides, got \(1,\)"),
    (lambda: Conv(IMAGE, value(4, 6, 3, 3), strides=(0, 1)), "must be positive"),
    (lambda: Conv(IMAGE, value(4, 6, 3, 3), extras=(value(2, 1, 1),)), "broadcast"),
    (lambda: ConvTranspose(IMAGE, value(5, 6, 3, 3)), "x has 6 channels, the weight expects 5"),
    (lambda: ConvTranspose(IMAGE, value(6, 6, 1, 1), pads=((4, 4), (0, 0))), "the padding removes the whole result"),
    (lambda: MatMul(MATRIX, value(4, 5)), "the inner dimensions differ: 5 and 4"),
    (lambda: MatMul(MATRIX, value(5)), "two matrices"),
    (lambda: MatMul(MATRIX, value(5, 3), value(4)), r"expected a bias of shape \(3,\)"),
    (lambda: MaxPool(MATRIX, kernel=()), "got rank 2"),
    (lambda: MaxPool(IMAGE, kernel=(3,)), r"expected kernel with 2 entries, got \(3,\)"),
    (lambda: MaxPool(IMAGE, kernel=(0, 3)), "must be positive"),
    (lambda: MaxPool(IMAGE, kernel=(3, 3), pads=((-1, 0), (0, 0))), "expected pads of at least 0"),
    (lambda: AveragePool(IMAGE, kernel=(9, 3)), r"would have shape \(2, 6, 0, 7\)"),
    (lambda: AveragePool(index(2, 6, 8), kernel=(2,)), "expected floating-point x"),
    (lambda: ArgMaxPool(IMAGE, kernel=(3, 3), dilations=(4, 1)), "the kernel is larger"),
    (lambda: BatchNorm(IMAGE, value(6), value(6), value(6), value(5)), r"expected variance to be f32\[6\], got f32\[5\]"),
    (lambda: BatchNorm(IMAGE, *[value(6, dtype=np.float16)] * 4), r"expected scale to be f32\[6\], got f16\[6\]"),
    (lambda: BatchNorm(value(6), *[value(6)] * 4), "expected floating-point x"),
    (lambda: LRN(MATRIX, size=3), "expected floating-point x"),
    (lambda: LRN(IMAGE, size=0), "a size of at least 1, got 0"),
    (lambda: Reduce(IMAGE, kind="median", axes=(1,)), "expected a kind among sum, mean, max, min, prod, got 'median'"),
    (lambda: Reduce(IMAGE, kind="sum", axes=(-1,)), r"an axis from 0 to 3 for f32\[2,6,8,9\], got -1"),
    (lambda: Reduce(IMAGE, kind="sum", axes=(1, 1)), "an axis is named twice"),
    (lambda: Reduce(value(3, dtype=np.bool_), kind="sum", axes=(0,)), "a sum needs numbers"),
    (lambda: Softmax(IMAGE, axis=4), "an axis from 0 to 3"),
    (lambda: Softmax(index(3), axis=0), "expected floating-point x"),
    (lambda: ArgReduce(IMAGE, kind="sum", axis=0), "expected kind max or min, got 'sum'"),
    (lambda: ArgReduce(value(3, 0), kind="max", axis=1), "it has no max"),
    (lambda: TopK(IMAGE, k=7, axis=1), "expected k between 0 and the extent 6 of axis 1, got 7"),
    (lambda: CumSum(value(3, dtype=np.bool_), axis=0), "a sum needs numbers"),
    (lambda: Reshape(MATRIX, shape=(3, 7)), r"expected a shape of 20 elements, got \(3, 7\)"),
    (lambda: Reshape(MATRIX, shape=(-4, -5)), "expected a shape of 20 elements"),
    (lambda: Transpose(MATRIX, permutation=(0, 0)), r"expected a permutation of 0 to 1, got \(0, 0\)"),
    (lambda: Concat((), axis=0), "expected at least one input"),
    (lambda: Concat((MATRIX, value(4, 6)), axis=0), "shapes that differ only at axis 0"),
    (lambda: Concat((MATRIX, index(4, 5)), axis=0), "inputs of one dtype, got float32 and int64"),
    (lambda: Slice(MATRIX, starts=(0, 3), sizes=(4, 3), steps=(1, 1)), "axis 1 of extent 5 has no 3 elements from 3 in steps of 1"),
    (lambda: Slice(MATRIX, starts=(0, 1), sizes=(4, 3), steps=(1, -1)), "axis 1"),
    (lambda: Slice(MATRIX, starts=(0,), sizes=(4, 3), steps=(1, 1)), "expected starts with 2 entries"),
    (lambda: Pad(MATRIX, pads=((0, 0),)), "expected 2 pairs of pads"),
    (lambda: Pad(MATRIX, pads=((0, 0), (-1, 0))), "of at least 0"),
    (lambda: Pad(MATRIX, pads=((0, 0), (1, 0)), mode="mirror"), "expected a mode among constant, reflect, edge, wrap, got 'mirror'"),
    (lambda: Pad(value(2, 0), pads=((0, 0), (1, 0)), mode="edge"), "nothing to repeat"),
    (lambda: Expand(MATRIX, shape=(5,)), r"expected a shape that f32\[4,5\] broadcasts to, got \(5,\)"),
    (lambda: Expand(MATRIX, shape=(3, 4, 6)), r"expected a shape that f32\[4,5\] broadcasts to"),
    (lambda: Expand(value(4, 1), shape=(1, 5)), r"expected a shape that f32\[4,1\] broadcasts to"),
    (lambda: Gather(MATRIX, value(3), axis=0), "expected integer indices"),
    (lambda: Gather(MATRIX, index(3), axis=2), "an axis from 0 to 1"),
    (lambda: Gather(MATRIX, Constant(np.array([3, 4, -4])), axis=0), "expected indices from -4 to 3, got 4"),
    (lambda: Gather(MATRIX, Constant(np.array(-6)), axis=1), "expected indices from -5 to 4, got -6"),
    (lambda: GatherElements(MATRIX, index(5, 3), axis=1), "that fit into"),
    (lambda: GatherND(MATRIX, index(2, 3)), "tuples of 3 indices are too long for 2 axes"),
    (lambda: GatherND(MATRIX, index(3, 1), batch_dims=1), r"expected indices that begin with \(4,\)"),
    (lambda: GatherND(MATRIX, index(4), batch_dims=1), "expected fewer batch_dims than the rank"),
    (lambda: ScatterElements(MATRIX, index(2, 5), value(2, 4), axis=0), r"expected updates f32\[2,5\], got f32\[2,4\]"),
    (lambda: ScatterElements(MATRIX, index(2, 5), value(2, 5), axis=0, reduction="mean"), "expected a reduction among"),
    (lambda: ScatterND(MATRIX, index(3, 1), value(3, 4)), r"expected updates f32\[3,5\], got f32\[3,4\]"),
    (lambda: Resize(MATRIX, shape=(4,), scales=(1.0,)), "a shape and scales with 2 entries"),
    (lambda: Resize(MATRIX, shape=(4, 5), scales=(1, 0)), "expected positive scales"),
    (lambda: Resize(MATRIX, shape=(4, 5), scales=(1, 1), mode="area"), "expected mode among nearest, linear, cubic, got 'area'"),
    (lambda: Resize(MATRIX, shape=(4, 5), scales=(1, 1), coordinates="tf_crop_and_resize"), "expects a roi of 4 numbers"),
    (lambda: Resize(value(4, 0), shape=(4, 5), scales=(1, 1)), "cannot grow"),
    (lambda: RNN(SEQUENCE, *RNN_WEIGHTS, direction="backward"), "expected a direction among forward, reverse, bidirectional"),
    (lambda: RNN(SEQUENCE, *RNN_WEIGHTS, direction="bidirectional"), r"expected weight f32\[2,4,3\], got f32\[1,4,3\]"),
    (lambda: RNN(SEQUENCE, *RNN_WEIGHTS, activations=("Tanh", "Tanh")), "expected 1 activations"),
    (lambda: RNN(SEQUENCE, *RNN_WEIGHTS, activations=("Sine",)), "no activation named Sine"),
    (lambda: RNN(SEQUENCE, *RNN_WEIGHTS, lengths=index(3)), r"expected integer lengths of shape \(2,\)"),
    (lambda: RNN(MATRIX, *RNN_WEIGHTS), "of rank 3"),
    (lambda: GRU(SEQUENCE, value(1, 12, 3), value(1, 12, 4), value(1, 12)), r"expected bias f32\[1,24\], got f32\[1,12\]"),
    (lambda: LSTM(SEQUENCE, *LSTM_WEIGHTS, hidden=value(1, 2, 3)), r"expected hidden f32\[1,2,4\]"),
    (lambda: LSTM(SEQUENCE, *LSTM_WEIGHTS, cell=value(2, 2, 4)), r"expected cell f32\[1,2,4\]"),
    (lambda: LSTM(SEQUENCE, *LSTM_WEIGHTS, peephole=value(1, 16)), r"expected peephole f32\[1,12\]"),
]


@pytest.mark.parametrize(("build", "message"), MISFITS, ids=range(len(MISFITS)))
def test_operands_that_do_not_fit(build: Callable[[], Node], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build()


def test_an_error_names_the_node_and_its_operands() -> None:
    with pytest.raises(ModelError, match=r"^softmax\(f32\[4,5\]\) \(from 'probabilities'\): expected an axis from 0 to 1"):
        Softmax(MATRIX, axis=2, origin=("probabilities",))


FLOPS: list[tuple[Node, int]] = [
    (Conv(IMAGE, value(4, 6, 3, 3)), 2 * 4 * 6 * 7 * (2 * 6 * 9)),
    (Conv(IMAGE, value(6, 1, 3, 3), groups=6), 2 * 6 * 6 * 7 * (2 * 9)),
    (Conv(IMAGE, value(4, 6, 1, 1), epilogue=apply("max", IDENTITY, 0)), 2 * 4 * 8 * 9 * (2 * 6 + 1)),
    (ConvTranspose(IMAGE, value(6, 4, 2, 2)), 2 * (2 * 6 * 8 * 9) * 4 * 4),
    (MatMul(MATRIX, value(5, 3)), 4 * 3 * 2 * 5),
    (pointwise("add", MATRIX, value(5)), 20),
    (MaxPool(IMAGE, kernel=(2, 3)), 2 * 6 * 7 * 7 * 6),
    (AveragePool(IMAGE, kernel=(2, 3)), 2 * 6 * 7 * 7 * 7),
    (BatchNorm(IMAGE, *[value(6)] * 4), 2 * 864),
    (Reduce(IMAGE, kind="mean", axes=(2, 3)), 864),
    (CumSum(MATRIX, axis=0), 20),
    (Reshape(MATRIX, shape=(20,)), 0),
    (Gather(MATRIX, index(3), axis=0), 0),
    (ScatterND(MATRIX, index(3, 1), value(3, 5)), 0),
    (ScatterND(MATRIX, index(3, 1), value(3, 5), reduction="add"), 15),
    (Resize(IMAGE, shape=(2, 6, 16, 9), scales=(1, 1, 2, 1), mode="linear"), 4 * 2 * 6 * 16 * 9),
    (Resize(IMAGE, shape=(2, 6, 16, 9), scales=(1, 1, 2, 1)), 0),
    (RNN(SEQUENCE, *RNN_WEIGHTS, activations=("Relu",)), 7 * 2 * 4 * (2 * (3 + 4) + 2 + 1)),
]


@pytest.mark.parametrize(("node", "expected"), FLOPS, ids=range(len(FLOPS)))
def test_flops(node: Node, expected: int) -> None:
    assert node.flops() == expected


def every_operator() -> list[type[Node]]:
    """Every class in engine/ops but those that others share."""
    modules = [importlib.import_module(f"{ops.__name__}.{m.name}") for m in pkgutil.iter_modules(ops.__path__)]
    classes = {c for m in modules for c in vars(m).values() if isinstance(c, type) and issubclass(c, Node) and c is not Node}
    return sorted((c for c in classes if not c.__subclasses__()), key=lambda c: c.__name__)


@pytest.mark.parametrize("kind", every_operator(), ids=lambda c: c.__name__)
def test_the_page_names_every_operator_and_each_is_complete(kind: type[Node]) -> None:
    assert getattr(ops, kind.__name__) is kind and kind.__name__ in ops.__all__
    assert kind.__doc__ and kind.infer is not Node.infer
    assert kind.reference is not Node.reference or kind in (Input, Result)


def network(dtype: Any = np.float32) -> Graph:
    """A graph with an operator of each kind, constants, several results, and an operand read twice."""
    rng, dtype = np.random.default_rng(7), np.dtype(dtype)

    def weight(*shape: int) -> Constant:
        return Constant(rng.standard_normal(shape).astype(dtype) / 4)

    x = Input(name="image", shape=(1, 3, 9, 10), dtype=dtype)
    conv = Conv(x, weight(4, 3, 3, 3), weight(4), pads=((1, 1), (0, 1)), epilogue=apply("relu", IDENTITY), origin=("conv1", "relu1"))
    norm = BatchNorm(conv, weight(4), weight(4), weight(4), Constant(np.abs(weight(4).data)), origin=("bn1",))
    grouped = Conv(
        norm, weight(4, 2, 3, 3), groups=2, dilations=(2, 1), pads=((2, 2), (1, 1)), extras=(norm,), epilogue=IDENTITY + Operand(1)
    )
    pooled = MaxPool(grouped, kernel=(3, 3), strides=(2, 2), ceil_mode=True)
    large = Resize(pooled, shape=(1, 4, 8, 8), scales=(1, 1, 2, 2), mode="linear", coordinates="align_corners")
    padded = Pad(large, pads=((0, 0), (0, 0), (1, 0), (0, 2)), mode="reflect")
    both = Concat((padded, Expand(weight(1, 2, 1, 1), shape=(1, 2, 9, 10))), axis=1)
    sliced = Slice(both, starts=(0, 5, 0, 9), sizes=(1, 3, 9, 5), steps=(1, -2, 1, -2))
    flat = Reshape(Transpose(sliced, permutation=(0, 2, 3, 1)), shape=(9, 15))
    scores = pointwise("silu", MatMul(flat, weight(15, 6), weight(6)))
    best = TopK(scores, k=2, axis=1)
    values, places = Result(best, index=0), Result(best, index=1)
    picked = GatherElements(Softmax(scores, axis=1), places, axis=1)
    mean = Reduce(pointwise("add", values, picked), kind="mean", axes=(1,), keepdims=False)
    rounded = cast(cast(mean, np.dtype(np.float16)), dtype)
    return Graph((x,), (rounded, places), ("score", "places"), "small")


def test_printed_text(golden: Callable[[str], None]) -> None:
    golden(str(network()))


def test_pickling_keeps_everything(rng: Random) -> None:
    graph = network()
    copy = pickle.loads(pickle.dumps(graph))
    assert str(copy) == str(graph)
    assert [n.origin for n in copy] == [n.origin for n in graph]
    x = randn(rng, 1, 3, 9, 10)
    for own, other in zip(evaluate(copy, [x]), evaluate(graph, [x]), strict=True):
        np.testing.assert_array_equal(own, other)


def test_pickling_a_deep_graph_does_not_overflow_the_stack() -> None:
    x = Input(name="x", shape=(2,))
    node: Node = x
    for _ in range(5000):
        node = pointwise("neg", node)
    copy = pickle.loads(pickle.dumps(Graph((x,), (node,), ("y",))))
    assert len(copy.nodes) == 5001


def test_widen_computes_everything_in_float64(rng: Random) -> None:
    graph, x = network(), randn(rng, 1, 3, 9, 10)
    wide = widen(graph)
    floats = {t.dtype for node in wide for t in node.types if t.dtype.kind == "f"}
    assert floats == {np.dtype(np.float64)} and wide.inputs[0].name == "image"
    narrow_score, narrow_places = evaluate(graph, [x])
    score, places = evaluate(wide, [x])
    assert (score.dtype, places.dtype, narrow_score.dtype) == (np.float64, np.int64, np.float32)
    np.testing.assert_array_equal(places, narrow_places)
    np.testing.assert_allclose(score, narrow_score, rtol=1e-3)  # the narrow one was rounded to float16
    assert np.abs(score - narrow_score).max() > 0


def test_widen_changes_one_dtype_only() -> None:
    wide = widen(network(np.float16), np.dtype(np.float16), np.dtype(np.float32))
    assert wide.outputs[0].type.dtype == np.float32
    assert not any(t.dtype == np.float16 for node in wide for t in node.types)
    untouched = widen(network(np.float32), np.dtype(np.float64), np.dtype(np.float16))
    assert str(untouched) == str(network(np.float32))


def test_evaluate_converts_inputs_to_their_declared_dtype() -> None:
    x = Input(name="x", shape=(3,))
    (result,) = evaluate(Graph((x,), (pointwise("div", x, 3),), ("y",)), [np.arange(3)])
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.arange(3, dtype=np.float32) / np.float32(3))


@pytest.mark.parametrize("wrong", [4, -5])
def test_evaluate_refuses_data_that_counts_beyond_an_axis(wrong: int) -> None:
    rows = Input(name="rows", shape=(2,), dtype=np.dtype(np.int64))
    picked = Graph((rows,), (Gather(Constant(np.eye(4)), rows, axis=0, origin=("table",)),), ("y",))
    np.testing.assert_array_equal(evaluate(picked, [np.array([3, -4])])[0], np.eye(4)[[3, 0]])
    with pytest.raises(ModelError, match=rf"^gather\(f64\[4,4\], i64\[2\]\) \(from 'table'\): index {wrong} is out of bounds"):
        evaluate(picked, [np.array([0, wrong])])
