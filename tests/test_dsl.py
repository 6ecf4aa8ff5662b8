"""The DSL: arithmetic, layers, names, weights, shapes, threads; what it refuses is in test_dsl_errors.py."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.evaluate import evaluate
from tilewright.engine.graph import Node
from tilewright.engine.ops import LRN, BatchNorm, Conv, TopK
from tilewright.frontends import dsl as nn
from tilewright.models import lenet5, resnet18

random = np.random.default_rng(5)


def run(model: nn.Model, *arrays: np.ndarray) -> list[np.ndarray]:
    shapes = {spec.name: a.shape for spec, a in zip(model.inputs, arrays, strict=True)}
    return evaluate(tw.load(model, shapes), arrays)


def layer_of(function, *shape):
    """A model of one float32 input around a function of one value."""
    return nn.model(x=shape)(function)


def only_conv(graph: tw.Graph) -> Conv:
    (found,) = (node for node in graph if isinstance(node, Conv))
    return found


def normal(*shape):
    return random.standard_normal(shape, np.float32)


def test_fixed_dimensions_are_checked():
    with pytest.raises(tw.ModelError, match=r"image: f32\[batch,1,28,28\]"):
        tw.load(lenet5, {"image": (1, 1, 32, 32)})
    assert tw.load(lenet5.with_inputs(image=(2, 1, 32, 32))).outputs[0].type.shape == (2, 10)


def test_initial_arrays_depend_on_seed_and_name_only():
    first, again, other = resnet18.parameters(), resnet18.parameters(), resnet18.with_seed(1).parameters()
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert not any(np.array_equal(first[n], other[n]) for n in first)
    weight = first["layer4.1.conv2.weight"]
    assert weight.std() == pytest.approx(np.sqrt(2 / (512 * 9)), rel=0.02)


def test_with_weights():
    weight = normal(10, 84)
    changed = lenet5.with_weights({"linear3.weight": weight})
    assert np.array_equal(changed.parameters()["linear3.weight"], weight)
    assert not np.array_equal(lenet5.parameters()["linear3.weight"], weight)
    assert np.array_equal(changed.parameters()["conv1.weight"], lenet5.parameters()["conv1.weight"])
    image = random.random((1, 1, 28, 28), np.float32)
    assert not np.allclose(run(changed, image)[0], run(lenet5, image)[0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"linear3.weight": np.zeros((84, 10), np.float32)}, r"linear3.weight: expected shape \(10, 84\), got \(84, 10\)"),
        ({"fc.weight": np.zeros(3)}, r"no parameter 'fc.weight'; without an array are 'conv1.weight'"),
        ({"linear3.bias": np.zeros(10, complex)}, "linear3.bias: expected dtype float32, got complex128"),
    ],
)
def test_weights_that_do_not_fit(weights, message):
    with pytest.raises(tw.ModelError, match=message):
        lenet5.with_weights(weights)


def test_arithmetic():
    a, b, array = normal(2, 3, 4), normal(3, 1), np.array([0.5, 1.5, -2, 4])

    @nn.model(a=(2, 3, 4), b=(3, 1))
    def formula(a, b):
        return {
            "sum": a + b * 2 - 1, "quotient": 3 / (a * a + 1), "array": array + a, "scaled": np.float64(0.5) * a, "power": (-a) ** 2,
            "chosen": nn.where(a > b, a, 0.25), "below": a <= 0.5, "product": a @ nn.reshape(a, (2, 4, 3)), "cut": a[..., 1:, ::-2],
            "row": a[:, -1], "numpy": a[np.int64(1), :, np.int64(1) :], "even": a == nn.maximum(a, 0), "odd": a != 0.5,
            "integer": a.astype(np.int64), "joined": nn.concat(a, a * 2, axis=-1), "part": nn.split(a, (1, 2))[1],
        }  # fmt: skip

    expected = [
        a + b * 2 - 1, 3 / (a * a + 1), array + a, 0.5 * a, (-a) ** 2,
        np.where(a > b, a, 0.25), a <= 0.5, a @ a.reshape(2, 4, 3), a[..., 1:, ::-2],
        a[:, -1], a[1, :, 1:], a == np.maximum(a, 0), a != 0.5, a.astype(np.int64), np.concatenate([a, a * 2], -1), a[:, 1:],
    ]  # fmt: skip
    graph = tw.load(formula)
    for name, ours, theirs, node in zip(graph.output_names, evaluate(graph, [a, b]), expected, graph.outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)
        assert node.type.dtype == (theirs.dtype if theirs.dtype.kind != "f" else np.float32), name


def test_normalisations():
    x = normal(2, 6, 3, 5)
    (made,) = run(layer_of(lambda x: nn.layer_norm(x, axes=(1, -1)), 2, 6, 3, 5), x)
    weights = layer_of(lambda x: nn.layer_norm(x, axes=(1, -1)), 2, 6, 3, 5).parameters()
    even = (x - x.mean((1, 3), keepdims=True)) / np.sqrt(x.var((1, 3), keepdims=True) + 1e-5)
    expected = even * weights["layer_norm1.weight"][:, None] + weights["layer_norm1.bias"][:, None]
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)

    grouped = layer_of(lambda x: nn.group_norm(x, 3), 2, 6, 3, 5)
    parts = x.reshape(2, 3, 2, 3, 5)
    even = ((parts - parts.mean((2, 3, 4), keepdims=True)) / np.sqrt(parts.var((2, 3, 4), keepdims=True) + 1e-5)).reshape(x.shape)
    scale, shift = (grouped.parameters()[f"group_norm1.{p}"][:, None, None] for p in ("weight", "bias"))
    np.testing.assert_allclose(run(grouped, x)[0], even * scale + shift, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding(stride, kernel, dilation):
    graph = tw.load(layer_of(lambda x: nn.conv(x, 4, kernel, stride, "same", dilation), 1, 3, 11, 14))
    assert graph.outputs[0].type.shape == (1, 4, -(-11 // stride), -(-14 // stride))
    for before, after in only_conv(graph).pads:
        assert before <= after <= before + 1


def test_layer_attributes():
    def pictured(x):
        y = nn.conv(x, 6, (3, 5), (1, 2), ((1, 0), (2, 3)), groups=3, bias=False)
        y = nn.conv_transpose(y, 9, 4, stride=2, pad=1, groups=3, output_pad=1)
        return nn.average_pool(nn.max_pool(nn.prelu(y), 3, stride=2, ceil=True), (2, 1), pad=(1, 0), count_pad=True)

    text = str(tw.load(layer_of(pictured, 1, 3, 8, 9)))
    assert "weight=f32[6,1,3,5], strides=1x2, pads=1:0x2:3, groups=3) : f32[1,6,7,5]" in text
    assert "weight=f32[6,3,4,4], bias=f32[9], strides=2x2, pads=1:1x1:1, groups=3, output_padding=1x1) : f32[1,9,15,11]" in text
    assert "max_pool(%" in text and "kernel=3x3, strides=2x2, ceil_mode=True) : f32[1,9,7,5]" in text
    assert "kernel=2x1, strides=2x1, pads=1:1x0:0, count_include_pad=True) : f32[1,9,4,5]" in text


def test_any_operator_can_be_applied():
    def picked(x):
        values, positions = nn.apply(TopK, nn.apply(LRN, x, size=3), k=2, axis=1)
        return {"values": values * 2, "positions": positions}

    x = normal(1, 5, 4)
    values, positions = run(layer_of(picked, 1, 5, 4), x)
    np.testing.assert_array_equal(positions, np.argsort(-run(layer_of(lambda x: nn.apply(LRN, x, size=3), 1, 5, 4), x)[0], axis=1)[:, :2])
    assert values.shape == (1, 2, 4)


def test_upsampling():
    x = normal(1, 2, 3, 4)
    (repeated,) = run(layer_of(lambda x: nn.upsample(x, 2), 1, 2, 3, 4), x)
    np.testing.assert_array_equal(repeated, x.repeat(2, axis=2).repeat(2, axis=3))
    places = np.arange(8) * 3 / 7
    (blended,) = run(layer_of(lambda x: nn.upsample(x, 2, "linear", align_corners=True), 1, 2, 3, 4), x)
    np.testing.assert_allclose(blended[0, 1, 0], np.interp(places, np.arange(4), x[0, 1, 0]), rtol=1e-5, atol=1e-6)


def test_resizing_to_given_extents():
    x = normal(1, 2, 3, 4)
    (picked,) = run(layer_of(lambda x: nn.resize(x, (7, 3)), 1, 2, 3, 4), x)
    np.testing.assert_array_equal(picked, x[:, :, [0, 0, 0, 1, 1, 2, 2]][..., [0, 1, 2]])
    (blended,) = run(layer_of(lambda x: nn.resize(x, (3, 7), "linear"), 1, 2, 3, 4), x)
    places = (np.arange(7) + 0.5) * 4 / 7 - 0.5
    np.testing.assert_allclose(blended[0, 1, 0], np.interp(places, np.arange(4), x[0, 1, 0]), rtol=1e-5, atol=1e-6)
    assert run(layer_of(lambda x: nn.upsample(x, 2), 0, 2, 3, 4), x[:0])[0].shape == (0, 2, 6, 8)
    (square,) = run(layer_of(lambda x: nn.resize(x, 4), 1, 2, 3, 4), x)
    np.testing.assert_array_equal(square, x[:, :, [0, 0, 1, 2]])


def test_layers_of_ones_own():
    @nn.layer
    def excite(x: nn.Value, *, name: str | None = None) -> nn.Value:
        gate = nn.sigmoid(nn.conv(nn.global_average_pool(x), x.shape[1], 1))
        return x * gate * nn.parameter("strength", (1,), nn.uniform(0.5, 1.5))

    names = layer_of(lambda x: excite(excite(x), name="last"), 1, 4, 3, 3).declarations()
    assert list(names) == [f"{scope}.{p}" for scope in ("excite1", "last") for p in ("conv1.weight", "conv1.bias", "strength")]


def test_a_model_inside_a_model_brings_its_weights():
    inner = layer_of(lambda x: nn.linear(x, 3), 1, 4).with_weights({"linear1.weight": normal(3, 4)})

    @nn.model(x=(1, 4))
    def outer(x):
        with nn.scope("head"):
            return inner(nn.relu(x))

    assert np.array_equal(outer.parameters()["head.linear1.weight"], inner.weights["linear1.weight"])
    mine = normal(3, 4)
    assert np.array_equal(outer.with_weights({"head.linear1.weight": mine}).parameters()["head.linear1.weight"], mine)


def test_dtypes():
    @nn.model(counts=(np.uint8, "batch=2", 3, 6, 6), half=(np.float16, 3, 1, 1))
    def mixed(counts, half):
        return nn.conv(counts.astype(np.float16) / 16 + half, 4, 3)

    graph = tw.load(mixed)
    assert [str(n.type) for n in graph.inputs] == ["u8[2,3,6,6]", "f16[3,1,1]"]
    assert str(only_conv(graph).weight.type) == "f16[4,3,3,3]"


def test_outputs_are_named_by_what_is_returned():
    assert tw.load(layer_of(lambda x: nn.relu(x), 2)).output_names == ("output",)
    assert tw.load(layer_of(lambda x: (nn.relu(x), x), 2)).output_names == ("output_0", "output_1")
    assert tw.load(layer_of(lambda x: {"a": x}, 2)).output_names == ("a",)


def test_values_do_not_iterate():
    with pytest.raises(TypeError, match="not iterable"):
        tw.load(layer_of(lambda x: next(iter(x)), 2, 3))


def test_layers_need_a_model_around_them():
    with pytest.raises(tw.ModelError, match=r"conv\(\) is called outside a model"):
        nn.conv(nn.Value(tw.load(lenet5).inputs[0]), 4, 3)
    with pytest.raises(tw.ModelError, match="decorated with @model"):
        tw.load(lambda x: x)
    with pytest.raises(tw.ModelError, match=r'expected sizes like 3 or "batch=1", got \'batch\''):
        nn.model(x=("batch", 3))
    with pytest.raises(tw.ModelError, match="no input picture; it takes image"):
        lenet5.with_inputs(picture=(1, 1, 28, 28))


def test_a_failed_trace_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError):
        tw.load(layer_of(lambda x: nn.relu(x) / (1 // 0), 2))
    with pytest.raises(tw.ModelError, match="outside a model"):
        nn.relu(nn.Value(tw.load(lenet5).inputs[0]))


def test_traces_in_two_threads_do_not_meet():
    meet = threading.Barrier(2)
    texts: dict[int, str] = {}

    def traced(x: nn.Value) -> nn.Value:
        for _ in range(20):
            meet.wait(5)
            x = nn.relu(nn.linear(x, 3))
        return x

    model = layer_of(traced, 1, 3)
    threads = [threading.Thread(target=lambda i=i: texts.update({i: str(tw.load(model))})) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts[0] == texts[1] and "linear20" in texts[0]


def test_batch_norm_uses_each_of_its_parameters():
    x = normal(2, 3, 4)
    model = layer_of(lambda x: nn.batch_norm(x, epsilon=0.01), 2, 3, 4)
    weight, bias, mean, var = (model.parameters()[f"batch_norm1.{p}"][:, None] for p in ("weight", "bias", "running_mean", "running_var"))
    np.testing.assert_allclose(run(model, x)[0], (x - mean) / np.sqrt(var + 0.01) * weight + bias, rtol=1e-5, atol=1e-6)
    assert isinstance(tw.load(model).outputs[0], BatchNorm) and isinstance(tw.load(model).outputs[0], Node)
