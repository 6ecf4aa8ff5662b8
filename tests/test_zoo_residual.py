"""Families around residual blocks: what makes each of them what it is, against independent formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.evaluate import evaluate
from tilewright.engine.ops import Transpose
from tilewright.frontends.dsl import Model, Value, model
from tilewright.models import botnet50, convnext_tiny, densenet121, resnet_v2
from tilewright.models import resnet as resnet_v1
from tilewright.models.botnet import HEADS, attention, bottleneck_transformer
from tilewright.models.deeplab import RATES, atrous_pyramid
from tilewright.models.densenet import GROWTH, dense_block
from tilewright.models.non_local import non_local

random = np.random.default_rng(17)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def model_of(layers: Callable[[Value], Any], *shape: int) -> Model:
    @model(x=shape)
    def network(x: Value) -> Any:
        return layers(x)

    return network


def answer(of: Model, x: np.ndarray) -> np.ndarray:
    """What the operators mean and what the generated kernels compute, which must be the same."""
    (expected,) = evaluate(tw.load(of, {of.inputs[0].name: x.shape}), [x])
    np.testing.assert_allclose(tw.compile(of)(x), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    return expected


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def normed(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    mean, variance, scale, shift = (weights[f"{name}.{p}"][:, None, None] for p in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift


def test_attention_over_a_map_looks_at_contents_and_distances() -> None:
    height, width, share = 3, 5, 2
    of = model_of(partial(attention, name="a"), 2, HEADS * share, height, width)
    w = of.parameters()
    assert w["a.height"].shape == (5, share) and w["a.width"].shape == (9, share)
    x = 3 * normal(2, HEADS * share, height, width)
    query, key, value = (np.einsum("kc,nchw->nkhw", w[f"a.{part}.weight"][..., 0, 0], x) for part in ("query", "key", "value"))
    query = query / np.sqrt(share)
    expected = np.zeros_like(x)
    for n, head, i, j in np.ndindex(2, HEADS, height, width):
        part = slice(head * share, (head + 1) * share)
        q = query[n, part, i, j]
        scores = np.zeros((height, width))
        for k, m in np.ndindex(height, width):
            scores[k, m] = q @ (key[n, part, k, m] + w["a.height"][k - i + height - 1] + w["a.width"][m - j + width - 1])
        expected[n, part, i, j] = value[n, part].reshape(share, -1) @ softmax(scores.ravel())
    np.testing.assert_allclose(answer(of, x), expected, rtol=1e-4, atol=1e-5)


def test_bottleneck_transformers_pool_after_attention() -> None:
    of = model_of(lambda x: bottleneck_transformer(x, 8, 2, (1, 1)), 1, 16, 6, 10)
    assert of.declarations()["attention.height"].shape == (11, 2)
    assert answer(of, normal(1, 16, 6, 10)).shape == (1, 32, 3, 5)


def test_positions_of_botnet_belong_to_one_extent_of_images() -> None:
    declared = botnet50.declarations()
    assert [declared[f"layer4.{i}.attention.{axis}"].shape for i in (0, 1, 2) for axis in ("height", "width")] == [
        (27, 128), (27, 128), (13, 128), (13, 128), (13, 128), (13, 128)
    ]  # fmt: skip
    assert not any("conv2" in name for name in declared if name.startswith("layer4"))
    weights = {"layer4.0.attention.height": np.zeros((27, 128), np.float32)}
    with pytest.raises(tw.ModelError, match=r"layer4\.0\.attention\.height: expected shape \(23, 128\), got \(27, 128\)"):
        tw.load(botnet50.with_weights(weights), {"image": (1, 3, 192, 224)})


def test_non_local_blocks_add_a_mean_over_all_pixels() -> None:
    of = model_of(partial(non_local, name="b"), 2, 6, 4, 5)
    w = of.parameters()
    x = 4 * normal(2, 6, 4, 5)
    pixels = x.reshape(2, 6, 20)
    theta, phi, g = (w[f"b.{p}.weight"][..., 0, 0] @ pixels + w[f"b.{p}.bias"][:, None] for p in ("theta", "phi", "g"))
    mixed = np.einsum("npq,ncq->ncp", softmax(np.einsum("ncp,ncq->npq", theta, phi) / np.sqrt(3)), g)
    back = w["b.output.weight"][..., 0, 0] @ mixed + w["b.output.bias"][:, None]
    expected = x + normed(back.reshape(x.shape), w, "b.norm")
    np.testing.assert_allclose(answer(of, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [resnet_v1.basic, resnet_v1.bottleneck])
def test_dilated_backbones_see_what_strided_ones_see_and_more(block: resnet_v1.Block) -> None:
    image = normal(1, 3, 33, 65)

    def seen(output_stride: int) -> np.ndarray:
        layers = partial(resnet_v1.backbone, blocks=resnet_v1.stages(block, 1, 1, 2, 2), output_stride=output_stride)
        return evaluate(tw.load(model_of(layers, *image.shape)), [image])[0]

    sparse = seen(32)
    assert sparse.shape[2:] == (2, 3)
    for output_stride, step in ((16, 2), (8, 4)):
        np.testing.assert_allclose(seen(output_stride)[:, :, ::step, ::step], sparse, rtol=1e-4, atol=1e-4 * sparse.max())


def test_atrous_pyramids_look_at_every_rate_and_at_the_whole_map() -> None:
    of = model_of(lambda x: atrous_pyramid(x, RATES, channels=4), 2, 3, 40, 77)
    w, x = of.parameters(), normal(2, 3, 40, 77)
    bordered = np.pad(x, [(0, 0), (0, 0), (36, 36), (36, 36)])

    def unit(maps: np.ndarray, name: str, rate: int = 0, first: int = 0) -> np.ndarray:
        weight = w[f"{name}.{first}.weight"]
        y = np.zeros((1, 1, 1, 1))
        for i, j in np.ndindex(weight.shape[2:]):
            down, right = 36 + rate * (i - 1), 36 + rate * (j - 1)
            seen = maps[:, :, down : down + 40, right : right + 77] if rate else maps
            y = y + np.einsum("kc,nchw->nkhw", weight[:, :, i, j], seen)
        return np.maximum(normed(y, w, f"{name}.{first + 1}"), 0)

    dilated = [unit(bordered, f"convs.{i}", rate) for i, rate in enumerate((12, 24, 36), start=1)]
    whole = np.broadcast_to(unit(x.mean(axis=(2, 3), keepdims=True), "convs.4", first=1), (2, 4, 40, 77))
    expected = unit(np.concatenate([unit(x, "convs.0"), *dilated, whole], axis=1), "project")
    np.testing.assert_allclose(answer(of, x), expected, rtol=1e-4, atol=1e-4)


def test_only_the_second_version_passes_on_what_came_in() -> None:
    x = normal(2, 16, 5, 7)
    nothing = np.zeros((16, 4, 1, 1), np.float32)
    version2 = model_of(lambda x: resnet_v2.bottleneck(x, 4, 1), *x.shape).with_weights({"conv3.weight": nothing})
    np.testing.assert_array_equal(answer(version2, x), x)
    version1 = model_of(lambda x: resnet_v1.bottleneck(x, 4, 1, (1, 1)), *x.shape)
    version1 = version1.with_weights({"conv3.weight": nothing, **{f"bn3.{p}": np.zeros(16, np.float32) for p in ("bias", "running_mean")}})
    np.testing.assert_array_equal(answer(version1, x), np.maximum(x, 0))


def test_attention_of_a_block_weighs_its_branch_only() -> None:
    x = normal(1, 16, 4, 4)
    silent = model_of(lambda x: resnet_v1.bottleneck(x, 4, 1, (1, 1), attention=lambda y: y * 0), *x.shape)
    np.testing.assert_array_equal(answer(silent, x), np.maximum(x, 0))


def test_dense_layers_read_everything_before_them() -> None:
    declared = densenet121.declarations()
    read = [declared[f"features.denseblock2.denselayer{i}.conv1.weight"].shape[1] for i in range(1, 13)]
    assert read == [128 + GROWTH * i for i in range(12)]
    x = normal(1, 5, 6, 7)
    result = answer(model_of(lambda x: dense_block(x, 1, 3), *x.shape), x)
    assert result.shape == (1, 5 + 3 * GROWTH, 6, 7)
    np.testing.assert_array_equal(result[:, :5], x)


def test_convnext_needs_no_transposes() -> None:
    assert not tw.optimize(tw.load(convnext_tiny, {"image": (1, 3, 64, 96)})).find(Transpose)
