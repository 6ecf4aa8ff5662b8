"""What the ONNX frontend makes of a model as a whole: signature, weights, shapes, functions, branches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import check_against_onnxruntime, compiled, declare, onnxruntime_outputs, parsed
from operator_oracles import randn

import tilewright
from tilewright.engine.graph import Constant, Graph
from tilewright.engine.ops import Conv, Gather, Reshape
from tilewright.engine.source import InputSpec, NeedsValues, Source
from tilewright.frontends.onnx import onnx as load_onnx

Random = np.random.Generator


def operators(graph: Graph) -> Counter[str]:
    """How often each operator occurs, constants and inputs left out."""
    return Counter(node.opname for node in graph if node.opname not in ("constant", "input"))


def small_model(rng: Random) -> onnx.ModelProto:
    text = """main (float[n,3,8,6] x) => (float[n,5] y) {
        a = Conv <pads=[1,1,1,1]> (x, w, b)
        r = Relu (a)
        m = ReduceMax <axes=[2,3], keepdims=0> (r)
        y = Mul (m, s) }"""
    return parsed(text, {"w": randn(rng, 5, 3, 3, 3), "b": randn(rng, 5), "s": randn(rng, 5)})


def test_path_bytes_and_proto_are_one_model(rng: Random, tmp_path: Path) -> None:
    model, x = small_model(rng), randn(rng, 2, 3, 8, 6)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    forms = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), model]
    results = [compiled(form).run({"x": x})["y"] for form in forms]
    check_against_onnxruntime(model, {"x": x})
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_signature(rng: Random) -> None:
    source = load_onnx(small_model(rng))
    assert source.name == "main"
    assert source.inputs == (InputSpec("x", np.dtype(np.float32), ("n", 3, 8, 6)),)
    assert source.output_names == ("y",)


def test_initialisers_listed_as_inputs_are_weights(rng: Random) -> None:
    model = small_model(rng)
    model.graph.input.extend(declare(t.name, numpy_helper.to_array(t)) for t in model.graph.initializer)
    session = check_against_onnxruntime(model, {"x": randn(rng, 1, 3, 8, 6)})
    assert [spec.name for spec in session.source.inputs] == ["x"]


def test_nodes_keep_the_names_of_the_model(rng: Random) -> None:
    model = small_model(rng)
    model.graph.node[0].name = "first/conv"
    graph = tilewright.load(model, {"x": (1, 3, 8, 6)})
    (conv,) = graph.find(Conv)
    assert conv.origin == ("first/conv",)
    assert [node.origin for node in conv.operands[1:]] == [("w",), ("b",)]
    assert graph.outputs[0].origin == ("y",)


def test_weights_are_the_same_nodes_for_every_shape(rng: Random) -> None:
    model = small_model(rng)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["s"], value=model.graph.initializer[2]))
    del model.graph.initializer[2]
    source = load_onnx(model)
    weights = [{id(n) for n in source.graph({"x": (batch, 3, 8, 6)}, {}).find(Constant)} for batch in (1, 4)]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 3


def test_half_precision_weights_stay_half(rng: Random) -> None:
    model = parsed("main (float16[2,4] x) => (float16[2,3] y) { y = MatMul (x, w) }", {"w": randn(rng, 4, 3).astype(np.float16)})
    graph = tilewright.load(model)
    assert {node.type.dtype for node in graph} == {np.dtype(np.float16)}
    x = randn(rng, 2, 4).astype(np.float16)
    np.testing.assert_allclose(compiled(model)(x), x @ numpy_helper.to_array(model.graph.initializer[0]), rtol=1e-2, atol=1e-2)


def test_open_dimensions_take_the_shape_of_the_input(rng: Random) -> None:
    session = compiled(small_model(rng))
    for batch in (1, 3, 2):
        assert session(randn(rng, batch, 3, 8, 6)).shape == (batch, 5)


def test_minus_one_is_an_open_dimension(rng: Random) -> None:
    model = small_model(rng)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert load_onnx(model).inputs[0].shape == (None, 3, 8, 6)
    assert compiled(model)(randn(rng, 3, 3, 8, 6)).shape == (3, 5)


def test_declared_shapes_of_results_are_not_believed(rng: Random) -> None:
    model = small_model(rng)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT64, [7, 7, 7]))
    model.graph.value_info.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 1]))
    x = randn(rng, 2, 3, 8, 6)
    np.testing.assert_array_equal(compiled(model)(x), compiled(small_model(np.random.default_rng(20240229)))(x))


def test_nodes_in_any_order(rng: Random) -> None:
    model, x = small_model(rng), randn(rng, 1, 3, 8, 6)
    expected = compiled(model)(x)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    np.testing.assert_array_equal(compiled(model)(x), expected)


def test_what_no_output_needs_is_not_looked_at(rng: Random) -> None:
    model = small_model(rng)
    model.graph.node.append(helper.make_node("NonMaxSuppression", ["r", "a"], ["unused"]))
    model.graph.initializer.append(TensorProto(name="unread", data_type=TensorProto.STRING, dims=[1], string_data=[b"text"]))
    assert compiled(model)(randn(rng, 1, 3, 8, 6)).shape == (1, 5)


def test_outputs_that_are_inputs_or_weights_or_the_same(rng: Random) -> None:
    text = "main (float[2] x) => (float[2] x, float[3] w, float[2] y, float[2] z) { y = Relu (x) z = Identity (y) }"
    model = parsed(text, {"w": randn(rng, 3)})
    x = randn(rng, 2)
    results = compiled(model).run({"x": x})
    np.testing.assert_array_equal(results["x"], x)
    np.testing.assert_array_equal(results["w"], numpy_helper.to_array(model.graph.initializer[0]))
    np.testing.assert_array_equal(results["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(results["z"], results["y"])


def test_identity_and_dropout_vanish(rng: Random) -> None:
    model = parsed("main (float[2,3] x) => (float[2,3] y) { a = Identity (x) b = Dropout (a) c = Cast <to=1> (b) y = Relu (c) }")
    assert operators(tilewright.load(model)) == {"pointwise": 1}


def test_shape_arithmetic_folds_away(rng: Random) -> None:
    """x.view(x.size(0), -1) and x.mean(...)[..., : x.shape[3] // 2] as PyTorch exports them."""
    model = parsed(
        """main (float[n,4,h,w] x) => (float[n,k] y, float[n,4,h,j] z) {
        shape = Shape (x)
        zero = Constant <value_int=0> ()
        batch = Gather <axis=0> (shape, zero)
        axes = Constant <value_ints=[0]> ()
        batch_1d = Unsqueeze (batch, axes)
        rest = Constant <value_ints=[-1]> ()
        target = Concat <axis=0> (batch_1d, rest)
        y = Reshape (x, target)
        three = Constant <value_int=3> ()
        width = Gather <axis=0> (shape, three)
        two = Constant <value_int=2> ()
        half = Div (width, two)
        starts = Constant <value_ints=[0]> ()
        ends = Unsqueeze (half, axes)
        axis = Constant <value_ints=[3]> ()
        z = Slice (x, starts, ends, axis)
        }"""
    )
    x = randn(rng, 2, 4, 5, 7)
    session = check_against_onnxruntime(model, {"x": x}, tolerance=0)
    assert operators(session.graph) == {"reshape": 1, "slice": 1}


def shape_from_input() -> onnx.ModelProto:
    return parsed("main (float[2,12] x, int64[k] s, float[1] f) => (float[a,b] y) { r = Reshape (x, s) y = Mul (r, f) }")


def test_shapes_that_depend_on_the_values_of_inputs(rng: Random) -> None:
    source: Source = load_onnx(shape_from_input())
    shapes = {"x": (2, 12), "s": (2,), "f": (1,)}
    with pytest.raises(NeedsValues) as question:
        source.graph(shapes, {})
    assert question.value.names == {"s"}
    graph = source.graph(shapes, {"s": np.array([4, 6])})
    assert [node.name for node in graph.inputs] == ["x", "s", "f"]
    assert graph.outputs[0].type.shape == (4, 6)
    assert graph.find(Reshape)[0].operands == (graph.inputs[0],)


def test_a_session_compiles_anew_for_each_value(rng: Random) -> None:
    session, x, f = compiled(shape_from_input()), randn(rng, 2, 12), randn(rng, 1)
    for shape in ([3, 8], [24, 1], [3, 8]):
        np.testing.assert_array_equal(session.run({"x": x, "s": np.array(shape), "f": f})["y"], x.reshape(shape) * f)


CONSTANTS = {
    "value_float=1.5": np.float32(1.5), "value_floats=[1.5, -2.0]": np.array([1.5, -2], "f4"), "value_int=-7": np.int64(-7),
    "value_ints=[1, 2, 3]": np.array([1, 2, 3]), "value=double[2]{0.25, 4.0}": np.array([0.25, 4.0]),
}  # fmt: skip


@pytest.mark.parametrize(("attribute", "expected"), CONSTANTS.items())
def test_forms_of_constants(attribute: str, expected: Any) -> None:
    model = parsed(f"main (float[1] x) => (float[n] y) {{ y = Constant <{attribute}> () }}")
    result = compiled(model)(np.ones(1, np.float32))
    assert (result.dtype, result.shape) == (np.asarray(expected).dtype, np.shape(expected))
    np.testing.assert_array_equal(result, expected)


def test_the_spelled_out_default_domain(rng: Random) -> None:
    model = small_model(rng)
    model.opset_import[0].domain = model.graph.node[0].domain = "ai.onnx"
    assert compiled(model)(randn(rng, 1, 3, 8, 6)).shape == (1, 5)


def test_external_data(rng: Random, tmp_path: Path) -> None:
    model, x = small_model(rng), randn(rng, 1, 3, 8, 6)
    expected = compiled(model)(x)
    (tmp_path / "weights").mkdir()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights/all.bin", size_threshold=0)
    assert (tmp_path / "weights" / "all.bin").stat().st_size > 500
    np.testing.assert_array_equal(compiled(tmp_path / "m.onnx")(x), expected)


def test_statistics_that_old_exporters_name(rng: Random) -> None:
    """Five results of a BatchNormalization in opset 7, of which inference has one."""
    text = "main (float[2,3,4,4] x) => (float[2,3,4,4] y) { y, mean, variance, m, v = BatchNormalization (x, s, b, w, u) }"
    model = parsed(text, {"s": randn(rng, 3), "b": randn(rng, 3), "w": randn(rng, 3), "u": np.array([1, 2, 3], "f4")}, opset=7)
    x = randn(rng, 2, 3, 4, 4)
    del (single := onnx.ModelProto.FromString(model.SerializeToString())).graph.node[0].output[1:]
    np.testing.assert_allclose(compiled(model)(x), onnxruntime_outputs(single, {"x": x})["y"], rtol=1e-5, atol=1e-5)


def test_a_gather_of_data_is_no_shape_arithmetic(rng: Random) -> None:
    model = parsed("main (float[4,3] x, int64[2] i) => (float[2,3] y) { y = Gather (x, i) }")
    graph = tilewright.load(model)
    assert len(graph.find(Gather)) == 1
    x = randn(rng, 4, 3)
    np.testing.assert_array_equal(compiled(model)(x, np.array([3, -4])), x[[3, 0]])
