"""Functions of a model, operators that ONNX defines by others, and the branches of If: all end inline."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_models import check_against_onnxruntime, compiled, parsed
from operator_oracles import randn
from test_onnx_import import operators

import tilewright
from tilewright import ModelError

Random = np.random.Generator

FUNCTIONS = """
<domain: "mine", opset_import: ["" : 17]>
scaled <slope> (v, extra) => (out) { l = LeakyRelu <alpha: float = @slope> (v) out = Clip (l, extra) }
<domain: "mine", opset_import: ["" : 17, "mine" : 1]>
twice (v) => (out) { a = mine.scaled <slope = 0.5> (v) out = mine.scaled <slope = 0.25> (a) }
"""


def test_functions_of_the_model_are_inlined(rng: Random) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 17, "mine" : 1]>\n'
        "main (float[2,9] x, float low) => (float[2,9] y, float[2,9] z) "
        "{ y = mine.twice (x) z = mine.scaled <slope = 2.0> (x, low) }" + FUNCTIONS
    )
    x, low = randn(rng, 2, 9), np.float32(-0.7)
    results = compiled(model).run({"x": x, "low": np.asarray(low)})
    np.testing.assert_allclose(results["y"], np.where(x < 0, x * 0.125, x), rtol=1e-6)
    np.testing.assert_allclose(results["z"], np.maximum(np.where(x < 0, x * 2, x), low), rtol=1e-6)
    assert tilewright.load(model).outputs[0].origin == ("y/out/l",)  # the Clip has no bound there


def test_operators_that_onnx_defines_by_others(rng: Random) -> None:
    """There is no converter for these two; their ONNX definitions stand in, with the attributes' defaults."""
    text = "main (float[2,9] x, int64 n) => (float[n] window, float[2,9] y) { window = HannWindow (n) y = RMSNormalization (x, w) }"
    model, x = parsed(text, {"w": randn(rng, 9)}, opset=23), randn(rng, 2, 9)
    results = compiled(model).run({"x": x, "n": np.array(7)})
    np.testing.assert_allclose(results["window"], 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(7) / 7), atol=1e-6)
    weights = numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_allclose(results["y"], x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * weights, rtol=1e-5)


def branching(condition: str) -> onnx.ModelProto:
    return parsed(
        f"""main (float[n,3] x, bool flag) => (float[m,3] y) {{
        {condition}
        y = If (c) <
        then_branch = yes () => (float[m,3] a) {{ t = Relu (x) a = Add (t, w) }},
        else_branch = no () => (float[m,3] b) {{ b = Neg (x) }}>
        }}""",
        {"w": np.array([1, 2, 3], "f4")},
    )


@pytest.mark.parametrize("value", [0, 1])
def test_if_with_a_constant_condition(rng: Random, value: int) -> None:
    model = branching(f"c = Constant <value = bool {{{value}}}> ()")
    session = check_against_onnxruntime(model, {"x": randn(rng, 2, 3), "flag": np.array(True)})
    assert operators(session.graph) == {"pointwise": 2 if value else 1}


def test_if_on_a_shape(rng: Random) -> None:
    two = "two = Constant <value_ints=[2]> () zero = Constant <value_ints=[0]> ()"
    model = branching(f"{two} s = Shape <start=0, end=1> (x) equal = Equal (s, two) c = Squeeze (equal, zero)")
    for batch in (2, 3):
        check_against_onnxruntime(model, {"x": randn(rng, batch, 3), "flag": np.array(True)})


def test_if_on_a_flag_that_the_caller_gives(rng: Random) -> None:
    session, x = compiled(branching("c = Identity (flag)")), randn(rng, 2, 3)
    for flag in (True, False, True):
        expected = np.maximum(x, 0) + np.array([1, 2, 3], "f4") if flag else -x
        np.testing.assert_array_equal(session.run({"x": x, "flag": np.array(flag)})["y"], expected)


def test_if_inside_an_if(rng: Random) -> None:
    model = parsed(
        """main (float[2,3] x, bool outer, bool inner) => (float[2,3] y) {
        y = If (outer) <
        then_branch = yes () => (float[2,3] a) {
            e = Exp (x)
            a = If (inner) <then_branch = s () => (float[2,3] c) { c = Sqrt (e) }, else_branch = t () => (float[2,3] d) { d = Neg (e) }>
        },
        else_branch = no () => (float[2,3] b) { b = Neg (x) }>
        }"""
    )
    x = randn(rng, 2, 3)
    for outer, inner in ((True, True), (True, False), (False, True)):
        check_against_onnxruntime(model, {"x": x, "outer": np.array(outer), "inner": np.array(inner)})


def test_a_function_with_too_many_operands() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 17, "mine" : 1]>\nmain (float[2] x) => (float[2] y) { y = mine.f (x, x) }\n'
        '<domain: "mine", opset_import: ["" : 17]>\nf (v) => (out) { out = Neg (v) }'
    )
    with pytest.raises(ModelError, match="expected at most 1 inputs, got 2"):
        tilewright.load(model)
