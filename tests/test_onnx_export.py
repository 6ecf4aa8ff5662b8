"""Graph → ONNX: onnxruntime and our own import say the same of the exported model as the graph's NumPy meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import compiled, node_model, onnxruntime_outputs, parsed
from operator_oracles import assert_close, randn
from test_onnx_layers import DOUBLE, HALF, LAYERS, RECURRENT
from test_onnx_operators import ELEMENTWISE, SHAPES, Case, name_of

from tilewright import ModelError, UnsupportedError
from tilewright.engine.evaluate import evaluate
from tilewright.engine.expression import FUNCTIONS, IDENTITY, Convert, Expression, Literal, Operand, apply
from tilewright.engine.graph import Constant, Graph, Input, Node, Result, op
from tilewright.engine.ops import (
    AveragePool,
    Conv,
    ConvTranspose,
    MatMul,
    Pad,
    Pointwise,
    Reduce,
    Reshape,
    Resize,
    ScatterElements,
    Slice,
    TopK,
    cast,
    pointwise,
)
from tilewright.frontends.onnx import onnx as load_onnx
from tilewright.frontends.onnx.export import export

Random = np.random.Generator
NO_KERNEL = ("ConvInteger", "QLinearConv", "DynamicQuantizeLinear")
"""What becomes operators for whose dtypes onnxruntime has no kernel; these go through our own import only."""
EVERY_CASE: list[tuple[Case, int]] = [
    *((case, 1) for case in (*ELEMENTWISE, *SHAPES, *LAYERS, *HALF, *DOUBLE) if "keep_aspect_ratio_policy" not in case[3]),
    *RECURRENT,
]


def graph_over(inputs: list[Input], *outputs: Node) -> Graph:
    return Graph(tuple(inputs), outputs, tuple(f"y{i}" for i in range(len(outputs))))


def given(name: str, *shape: int, dtype: Any = np.float32) -> Input:
    return Input(name=name, shape=shape, dtype=np.dtype(dtype))


def check_export(graph: Graph, arrays: list[np.ndarray], tolerance: float = 2e-6, runtime: bool = True) -> onnx.ModelProto:
    """The exported model is valid, has the graph's signature, and gives its numbers."""
    model = export(graph)
    onnx.checker.check_model(model)
    feeds = {node.name: array for node, array in zip(graph.inputs, arrays, strict=True)}
    expected = dict(zip(graph.output_names, evaluate(graph, arrays), strict=True))
    for results in [compiled(model).run(feeds), *([onnxruntime_outputs(model, feeds)] if runtime else [])]:
        assert list(results) == list(expected)
        for name, result in results.items():
            assert (result.dtype, result.shape) == (expected[name].dtype, expected[name].shape)
            assert_close(result, expected[name], tolerance)
    return model


@pytest.mark.parametrize(("case", "outputs"), EVERY_CASE, ids=lambda value: name_of(value) if isinstance(value, tuple) else "")
def test_every_operator_there_and_back(rng: Random, case: Case, outputs: int) -> None:
    op_name, opset, operands, attributes = case
    model, feeds = node_model(rng, op_name, operands, opset, outputs, **attributes)
    graph = load_onnx(model).graph({name: array.shape for name, array in feeds.items()}, {})
    tolerance = 2e-3 if any(array.dtype == np.float16 for array in feeds.values()) else 1e-5
    check_export(graph, list(feeds.values()), tolerance, runtime=op_name not in NO_KERNEL)


def numbers_for(function: str, rng: Random, arity: int) -> list[np.ndarray]:
    """Operands in the domain of a function."""
    rule = FUNCTIONS[function].rule
    if function.startswith(("bit_", "shift_")):
        return [rng.integers(0, 9, (4, 5)).astype(np.uint32) for _ in range(arity)]
    if rule == "logic":
        return [rng.random((4, 5)) < 0.5 for _ in range(arity)]
    if rule == "where":
        return [rng.random((4, 5)) < 0.5, randn(rng, 4, 5), randn(rng, 4, 5)]
    low, high = {"acosh": (1.1, 3), "atanh": (-0.9, 0.9), "asin": (-0.9, 0.9), "acos": (-0.9, 0.9)}.get(function, (0.2, 3))
    return [
        rng.uniform(low, high, (4, 5)).astype(np.float32) * (-1 if low > 0.1 and function in SIGNED and i == 0 else 1) for i in range(arity)
    ]


SIGNED = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "hard_swish", "mish", "softplus", "remainder", "fmod", "abs", "sign")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_pointwise_function(rng: Random, function: str) -> None:
    arity = FUNCTIONS[function].arity
    arrays = numbers_for(function, rng, arity)
    inputs = [given(f"x{i}", *a.shape, dtype=a.dtype) for i, a in enumerate(arrays)]
    check_export(graph_over(inputs, pointwise(function, *inputs)), arrays, tolerance=1e-5)


LITERALS: dict[str, tuple[Expression, str, list[str]]] = {
    "clip": (apply("clip", IDENTITY, -0.5, 0.25), "f4", ["Clip"]),
    "leaky_relu": (apply("leaky_relu", IDENTITY, 0.2), "f4", ["LeakyRelu"]),
    "elu": (apply("elu", IDENTITY, 0.7), "f4", ["Elu"]),
    "hard_sigmoid": (apply("hard_sigmoid", IDENTITY, 0.3, 0.4), "f4", ["HardSigmoid"]),
    "numbers in the operand's dtype": (IDENTITY * 3 - 1, "i8", ["Mul", "Sub"]),
    "half precision": (apply("max", IDENTITY, 0) + 0.5, "f2", ["Max", "Add"]),
    "equal parts once": (apply("tanh", IDENTITY) * apply("tanh", IDENTITY), "f4", ["Tanh", "Mul"]),
    "a literal condition's side": (apply("where", IDENTITY < 0, 0, 1) + IDENTITY, "i4", ["Less", "Where", "Add"]),
    "conversion": (Convert(apply("round", IDENTITY * 9), np.dtype(np.int8)), "f4", ["Mul", "Round", "Cast"]),
    "conversion of a number": (IDENTITY + Convert(Literal(2.7), np.dtype(np.int32)), "i4", ["Add"]),
}


@pytest.mark.parametrize(("expression", "dtype", "operators"), LITERALS.values(), ids=LITERALS.keys())
def test_expressions(rng: Random, expression: Expression, dtype: str, operators: list[str]) -> None:
    x = (rng.standard_normal((3, 7)) * 3).astype(dtype)
    node = given("x", 3, 7, dtype=dtype)
    model = check_export(graph_over([node], Pointwise((node,), expression=expression)), [x], tolerance=1e-3 if dtype == "f2" else 2e-6)
    assert [n.op_type for n in model.graph.node] == operators


def test_operands_that_only_widen_the_result(rng: Random) -> None:
    x, wide = given("x", 3, 1), given("wide", 2, 3, 4)
    check_export(graph_over([x, wide], Pointwise((x, wide), expression=-IDENTITY)), [randn(rng, 3, 1), randn(rng, 2, 3, 4)])


def test_fused_epilogues_are_spelled_out(rng: Random) -> None:
    x, residual = given("x", 2, 4, 6, 5), given("residual", 2, 6, 6, 5)
    epilogue = apply("clip", (Operand(0) + Operand(1)) * Operand(2), -1, 1)
    scale, bias = Constant(randn(rng, 6, 1, 1)), Constant(randn(rng, 6))
    conv = Conv(x, Constant(randn(rng, 6, 2, 3, 3)), bias, (residual, scale), pads=((1, 1), (1, 1)), groups=2, epilogue=epilogue)
    model = check_export(graph_over([x, residual], conv), [randn(rng, 2, 4, 6, 5), randn(rng, 2, 6, 6, 5)], 1e-5)
    assert [n.op_type for n in model.graph.node] == ["Conv", "Add", "Mul", "Clip"]


def test_epilogues_of_transposed_convolutions_and_products(rng: Random) -> None:
    x, extra = given("x", 2, 4, 5), given("extra", 3)
    weight = Constant(randn(rng, 4, 6, 4))
    up = ConvTranspose(
        x, weight, Constant(randn(rng, 6)), strides=(2,), pads=((1, 0),), output_padding=(1,), epilogue=apply("relu", IDENTITY)
    )
    product = MatMul(x, Constant(randn(rng, 5, 3)), Constant(randn(rng, 3)), (extra,), epilogue=apply("tanh", Operand(0)) + Operand(1))
    flat = MatMul(Reshape(x, shape=(8, 5)), Constant(randn(rng, 5, 3)), Constant(randn(rng, 3)), epilogue=IDENTITY * 2)
    model = check_export(graph_over([x, extra], up, product, flat), [randn(rng, 2, 4, 5), randn(rng, 3)], 1e-5)
    assert [n.op_type for n in model.graph.node if n.op_type in ("Gemm", "MatMul", "ConvTranspose")] == ["ConvTranspose", "MatMul", "Gemm"]


def test_operators_that_no_import_makes(rng: Random) -> None:
    x = given("x", 2, 3, 6, 7)
    backwards = Slice(x, starts=(1, 2, 5, 6), sizes=(2, 3, 3, 7), steps=(-1, -1, -2, -1))
    nothing = Slice(x, starts=(0, 0, 3, 0), sizes=(2, 3, 0, 7), steps=(1, 1, 1, 1))
    kept = Reduce(x, kind="mean", axes=())
    best = TopK(x, k=2, axis=3)
    check_export(graph_over([x], backwards, nothing, kept, Result(best, index=1), Result(best, index=0)), [randn(rng, 2, 3, 6, 7)])


def test_scalars_and_empty_tensors(rng: Random) -> None:
    x, scalar = given("x", 0, 3), given("scalar")
    tail = Reshape(Slice(scalar, starts=(), sizes=(), steps=()), shape=(1, 1))
    check_export(graph_over([x, scalar], Reshape(x, shape=(3, 0)), pointwise("neg", tail)), [randn(rng, 0, 3), randn(rng)])


def test_names(rng: Random) -> None:
    x = Input(name="x", shape=(3,))
    inner = pointwise("exp", x, origin=("block/exp",))
    twin = pointwise("neg", inner, origin=("block/exp",))
    weight = Constant(randn(rng, 3), origin=("weight",))
    graph = Graph((x,), (twin, twin, x, weight, inner), ("a", "b", "same", "w", "e"), name="net")
    model = check_export(graph, [randn(rng, 3)])
    assert (model.graph.name, model.producer_name) == ("net", "tilewright")
    assert [o.name for o in model.graph.output] == ["a", "b", "same", "w", "e"]
    assert [(n.op_type, list(n.output)) for n in model.graph.node[:2]] == [("Exp", ["e"]), ("Neg", ["a"])]
    assert [n.op_type for n in model.graph.node[2:]] == ["Identity"] * 3
    assert "weight" in {t.name for t in model.graph.initializer}


def test_an_input_and_an_output_of_one_name() -> None:
    x = Input(name="state", shape=(2, 3), dtype=np.dtype(np.float32))
    with pytest.raises(UnsupportedError, match="an input and an output that are both called state"):
        export(Graph((x,), (pointwise("tanh", x), x), ("state", "copy"), "step"))
    export(Graph((x,), (x,), ("state",), "nothing"))


def test_names_of_inner_results_are_those_of_the_model() -> None:
    model = parsed("main (float[2,3] x) => (float[2,3] y) { [first] a = Exp (x) [second] y = Neg (a) }")
    again = export(load_onnx(model).graph({"x": (2, 3)}, {}))
    assert [(n.name, n.op_type) for n in again.graph.node] == [("first", "Exp"), ("y", "Neg")]


def test_inner_values_as_outputs(rng: Random) -> None:
    x = given("x", 2, 3)
    inner = pointwise("exp", x)
    best = Result(TopK(inner, k=2, axis=1), index=1)
    graph = graph_over([x], pointwise("neg", inner))
    unused = pointwise("sqrt", inner)
    array = randn(rng, 2, 3)
    model = export(graph, values=[inner, best, unused, graph.outputs[0], x])
    results = list(onnxruntime_outputs(model, {"x": array}).values())
    expected = [-np.exp(array), np.exp(array), np.argsort(-array, 1)[:, :2], np.sqrt(np.exp(array)), -np.exp(array), array]
    assert model.graph.output[0].name == "y0"
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-6)
    with pytest.raises(ModelError, match="Result"):
        export(graph, values=[best.node])


def newer(x: Input) -> dict[int, Node]:
    """A node for each opset that something needs."""
    indices = Constant(np.zeros((1, *x.shape[1:]), np.int64))
    scatter = ScatterElements(x, indices, Slice(x, starts=(0, 0, 0), sizes=(1, 2, 8), steps=(1, 1, 1)), axis=0, reduction="max")
    return {
        17: Pad(x, pads=((0, 0), (1, 0), (2, 3)), mode="reflect"),
        18: scatter,
        19: AveragePool(x, kernel=(3,), dilations=(2,)),
        20: Reduce(cast(x, np.dtype(bool)), kind="max", axes=(1,)),
    }


@pytest.mark.parametrize("opset", [17, 18, 19, 20])
def test_the_oldest_opset_that_can_say_it(rng: Random, opset: int) -> None:
    x = given("x", 3, 2, 8)
    node = newer(x)[opset]
    model = check_export(graph_over([x], node, Reduce(x, kind="mean", axes=(0, 2))), [randn(rng, 3, 2, 8)])
    assert model.opset_import[0].version == opset
    reduce = next(n for n in model.graph.node if n.op_type == "ReduceMean")
    assert len(reduce.input) == (1 if opset == 17 else 2)


def test_resize_whose_shape_was_rounded_from_one_scale() -> None:
    x = given("x", 1, 1, 6, 9)
    with pytest.raises(UnsupportedError, match="which give another shape"):
        export(graph_over([x], Resize(x, shape=(1, 1, 3, 4), scales=(1.0, 1.0, 4 / 9, 4 / 9))))


def test_resize_by_scales_that_sizes_do_not_give(rng: Random) -> None:
    x = given("x", 1, 1, 5, 7)
    node = Resize(x, shape=(1, 1, 8, 5), scales=(1.0, 1.0, float(np.float32(1.7)), 0.75), mode="linear", coordinates="asymmetric")
    check_export(graph_over([x], node), [randn(rng, 1, 1, 5, 7)], 1e-5)


@op
class Mystery(Node):
    """An operator that the exporter has never heard of."""

    x: Node

    def infer(self) -> Any:
        return self.x.type


def test_everything_onnx_cannot_say_is_told_at_once() -> None:
    x = given("x", 3, dtype=np.int8)
    graph = graph_over([x], pointwise("shift_left", x, x, origin=("shifter",)), Mystery(x, origin=("riddle",)), pointwise("neg", x))
    with pytest.raises(UnsupportedError) as caught:
        export(graph)
    message = str(caught.value)
    assert "shifter" in message and "shift_left of int8" in message and "riddle" in message and "mystery" in message
    assert "neg" not in message


def test_deep_graphs(rng: Random) -> None:
    x = node = given("x", 2)
    for _ in range(3000):
        node = pointwise("neg", node)
    assert len(export(graph_over([x], node)).graph.node) == 3000
