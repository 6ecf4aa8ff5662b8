"""Names of parameters and operators in zoo models, other input shapes, and what their exports give; all models: test_zoo_rows.py."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine import plugins
from tilewright.engine.evaluate import evaluate
from tilewright.engine.ops import Conv
from tilewright.frontends import dsl as nn
from tilewright.models import lenet5, resnet18

random = np.random.default_rng(5)


def run(model: nn.Model, *arrays: np.ndarray) -> list[np.ndarray]:
    shapes = {spec.name: a.shape for spec, a in zip(model.inputs, arrays, strict=True)}
    return evaluate(tw.load(model, shapes), arrays)


def normal(*shape):
    return random.standard_normal(shape, np.float32)


def test_parameter_names():
    layers = ("conv1", "conv2", "linear1", "linear2", "linear3")
    assert list(lenet5.declarations()) == [f"{name}.{p}" for name in layers for p in ("weight", "bias")]
    names = resnet18.declarations()
    norm = ("weight", "bias", "running_mean", "running_var")
    assert [n for n in names if n.startswith("layer2.0.")] == [
        "layer2.0.conv1.weight", *(f"layer2.0.bn1.{p}" for p in norm),
        "layer2.0.conv2.weight", *(f"layer2.0.bn2.{p}" for p in norm),
        "layer2.0.downsample.0.weight", *(f"layer2.0.downsample.1.{p}" for p in norm),
    ]  # fmt: skip
    assert names["fc.weight"].shape == (1000, 512)
    assert not any("downsample" in n for n in names if n.startswith("layer1"))


def test_operators_are_named_after_their_layers():
    graph = tw.load(resnet18, {"image": (1, 3, 32, 32)})
    assert [o for n in graph.find(Conv) for o in n.origin if o == "layer3.1.conv2"] == ["layer3.1.conv2"]
    assert "# layer1.0.add1" in str(graph)


def test_other_shapes_trace_again():
    image = normal(3, 3, 40, 56)
    (together,) = run(resnet18, image)
    assert together.shape == (3, 1000)
    (alone,) = run(resnet18, image[1:2])
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-4)
    assert not np.allclose(together[0], together[1], atol=0.1)


def test_a_session_takes_every_batch():
    session = tw.compile(lenet5, backend="reference")
    one, three = random.random((1, 1, 28, 28), np.float32), random.random((3, 1, 28, 28), np.float32)
    assert session(one).shape == (1, 10)
    three[2] = one[0]
    np.testing.assert_allclose(session(three)[2:], session(one), rtol=1e-5)
    np.testing.assert_allclose(session(three).sum(axis=1), 1, rtol=1e-5)


def test_zoo_models_are_found_by_name():
    assert set(plugins.available("models")) >= {"lenet5", "resnet18"}
    assert plugins.load("models", "resnet18") is resnet18
    assert tw.load("lenet5").name == "lenet5"


@pytest.mark.parametrize("accuracy", ["fast", "exact"])
@pytest.mark.parametrize(("model", "shape"), [(lenet5, (3, 1, 28, 28)), (resnet18, (1, 3, 224, 224))], ids=["lenet5", "resnet18"])
def test_generated_kernels_give_the_numbers_of_the_export(model, shape, accuracy):
    onnxruntime = pytest.importorskip("onnxruntime")
    image = normal(*shape)
    exported = plugins.load("frontends", "onnx.export")(tw.load(model, {"image": shape})).SerializeToString()
    (theirs,) = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"]).run(None, {"image": image})
    for given in (model, exported):
        session = tw.compile(given, shapes={"image": shape}, accuracy=accuracy)
        ours = session(image)
        assert "0 numba steps, 0 numpy steps" in session.plan
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
        assert np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)) <= 5e-5
