"""Seeing what a network learned: class activation, Score-CAM, occlusion and feature maps against plain NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
from look_subjects import (
    COLOURS,
    EXTENT,
    averaged,
    averaged_by_a_window,
    averaged_in_two_steps,
    averaged_with_channels_last,
    bent,
    convolved_after_the_mean,
    convolved_before_the_mean,
    dense,
    flattened,
    picture,
    scores,
    subject,
    value,
)

import tilewright as tw
from tilewright.engine.images import Preprocessing
from tilewright.engine.look.activation import find_head, most_active, score_cam
from tilewright.engine.look.layers import chosen_maps, feature_maps, first_kernels, influenced, last_map, spread_maps
from tilewright.engine.look.occlusion import occlusion
from tilewright.engine.look.picture import Picture, enlarged
from tilewright.engine.look.study import Wishes, study
from tilewright.frontends.dsl import Model
from tilewright.models import resnet18


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("network", [averaged, averaged_by_a_window, convolved_after_the_mean, averaged_with_channels_last])
@pytest.mark.parametrize("target", [0, 6])
def test_the_class_activation_map_is_the_weights_times_the_features(
    network: Model, target: int, backend: str, rng: np.random.Generator
) -> None:
    shown = picture(rng)
    found = study(subject(network, shown, backend), Wishes(target=target, patch=4), "title").heats[0]
    parameters, features = network.parameters(), value(network, shown.array, "relu2")
    weights, bias = parameters["fc.weight"].reshape(7, 12).astype(np.float64)[target], parameters["fc.bias"][target]
    expected = sum(w * channel for w, channel in zip(weights, features[0], strict=True))
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
    logits = scores(network, shown.array)
    if network not in (averaged, averaged_with_channels_last):
        before = [n for n in tw.load(network) if "fc" in n.origin][-1].origin[0]
        logits = value(network, shown.array, before).reshape(-1)
    assert found.values.mean() + bias == pytest.approx(logits[target], rel=1e-4, abs=1e-5)
    assert found.title == "Class activation map" and f"{found.values.mean():.4g}" in "".join(found.said)


def test_two_linear_layers_count_as_one(rng: np.random.Generator) -> None:
    shown = picture(rng)
    head = find_head(tw.optimize(tw.load(averaged_in_two_steps)).outputs[0], 3)
    assert head is not None
    first, second = (averaged_in_two_steps.parameters()[f"{name}.weight"].astype(np.float64) for name in ("hidden", "fc"))
    np.testing.assert_allclose(head.weights.reshape(-1), (second @ first)[3], rtol=1e-5)
    features = value(averaged_in_two_steps, shown.array, "relu2")
    assert head.activation(features).mean() + head.bias == pytest.approx(scores(averaged_in_two_steps, shown.array)[3], rel=1e-4)


def test_maps_of_classes_are_their_own_activation(rng: np.random.Generator) -> None:
    shown = picture(rng)
    found = study(subject(convolved_before_the_mean, shown), Wishes(target=4, patch=4), "title").heats[0]
    np.testing.assert_allclose(found.values, value(convolved_before_the_mean, shown.array, "relu3")[0, 4], rtol=1e-4, atol=1e-6)
    assert "plus the bias" not in "".join(found.said) and "one map for each class" in "".join(found.said)


@pytest.mark.parametrize("network", [flattened, bent, dense], ids=lambda network: network.name)
def test_other_ends_have_no_exact_map(network: Model) -> None:
    assert find_head(tw.optimize(tw.load(network)).outputs[0], 0) is None
    assert find_head(tw.load(network).outputs[0], 0) is None


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_score_cam_weighs_channels_by_what_their_masks_leave(layout: str, rng: np.random.Generator) -> None:
    shown = picture(rng, Preprocessing(layout=layout))
    features, coefficients = rng.standard_normal((5, 4, 6)), rng.standard_normal((3, *shown.array.shape[1:]))
    features[2] = 0.7

    def probabilities(variants: Iterable[np.ndarray]) -> np.ndarray:
        logits = np.array([[(c * v).sum() / 50 for c in coefficients] for v in variants])
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    found = score_cam(probabilities, shown, features, 1)
    kept = []
    for channel in features:
        mask = enlarged(channel, EXTENT)
        mask = np.zeros(EXTENT) if channel.min() == channel.max() else (mask - mask.min()) / (mask.max() - mask.min())
        visible = shown.array[0] * (mask[..., None] if layout == "nhwc" else mask[None])
        kept.append(probabilities([visible])[0, 1])
    expected = np.maximum(sum(k / sum(kept) * channel for k, channel in zip(kept, features, strict=True)), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_networks_without_pooling_are_explained_by_score_cam(rng: np.random.Generator) -> None:
    found = study(subject(flattened, picture(rng)), Wishes(patch=5), "title")
    assert [h.title for h in found.heats] == ["Class activation by Score-CAM", "Occlusion map"]
    assert found.heats[0].values.shape == (5, 6) and found.heats[0].values.min() >= 0 and found.heats[0].values.max() > 0
    assert "Wang et al. 2020" in "".join(found.heats[0].said) and "relu2" in "".join(found.heats[0].said)


@pytest.mark.parametrize(("backend", "batch"), [("reference", None), ("cpu", None), ("cpu", 1), ("cpu", 5)])
def test_the_occlusion_map_is_what_a_plain_loop_finds(backend: str, batch: int | None, rng: np.random.Generator) -> None:
    shown = picture(rng)
    seen = dataclasses.replace(subject(flattened, shown, backend), batch=batch)
    found = study(seen, Wishes(target=2, patch=4, step=3), "title").heats[1]
    session = tw.compile(flattened, backend="reference")
    grey = np.array([(shown.pixels.mean() / 255 - m) / s for m, s in zip(COLOURS.mean, COLOURS.std, strict=True)])
    whole = session(shown.array)[0, 2]
    total, count = np.zeros(EXTENT), np.zeros(EXTENT)
    for top in (0, 3, 6, 7):
        for left in (0, 3, 6, 9):
            hidden = shown.array.copy()
            hidden[0, :, top : top + 4, left : left + 4] = grey[:, None, None]
            drop = whole - session(hidden)[0, 2]
            for y in range(4):
                for x in range(4):
                    weight = (min(y, 3 - y) + 1) * (min(x, 3 - x) + 1)
                    total[top + y, left + x] += weight * drop
                    count[top + y, left + x] += weight
    np.testing.assert_allclose(found.values, total / count, rtol=1e-3, atol=1e-6)


def test_occlusion_of_integers_and_gaps(rng: np.random.Generator) -> None:
    array = rng.integers(0, 256, (1, *EXTENT, 3), dtype=np.uint8)
    shown = Picture("image", array, Preprocessing(layout="nhwc"))
    seen: list[np.ndarray] = []

    def probabilities(variants: Iterable[np.ndarray]) -> np.ndarray:
        seen.extend(variants)
        return np.array([[0.25, v[0, 0, 0] / 255] for v in seen])

    found = occlusion(probabilities, shown, 1, 3, 5)
    assert (found.rows, found.columns) == ((0, 5, 8), (0, 5, 10)) and all(v.dtype == np.uint8 for v in seen)
    assert (seen[1][:3, :3] == round(array.mean())).all() and (seen[1][3:] == array[0, 3:]).all()
    assert found.drops[0, 0] == pytest.approx((int(array[0, 0, 0, 0]) - round(array.mean())) / 255) and not found.drops[1:].any()
    assert found.over(EXTENT)[4, 4] == 0


def test_feature_maps_are_those_of_the_imported_graph(rng: np.random.Generator) -> None:
    shown = picture(rng)
    found = study(subject(averaged, shown, "cpu"), Wishes(layers=["relu1", "last"], channels=3, patch=9), "title").maps
    assert [(m.layer, m.operator) for m in found] == [("relu1", "relu"), ("last", "conv")]
    for shown_map in found:
        expected = value(averaged, shown.array, shown_map.layer)[0]
        np.testing.assert_allclose(shown_map.values, expected, rtol=1e-4, atol=1e-5)
        strength = np.abs(expected).mean((1, 2))
        assert list(shown_map.channels) == sorted(range(len(strength)), key=lambda c: -strength[c])[:3]
    default = study(subject(averaged, shown), Wishes(patch=9), "title").maps
    assert [m.layer for m in default] == ["relu1", "max_pool1", "relu2"]


def test_what_is_inside_a_graph(rng: np.random.Generator) -> None:
    graph = tw.load(resnet18, {"image": (1, 3, 64, 64)})
    nodes = influenced(graph, "image")
    maps = feature_maps(nodes)
    assert influenced(graph, "other") == [] and not any(n.origin == ("fc.transposed",) for n in nodes)
    assert "layer1.0.relu2" in maps and "fc" not in maps and "global_average_pool1" not in maps
    spread = list(spread_maps(maps, graph, 4))
    assert len(spread) == 4 and spread[0] == "relu1" and spread[-1] == "layer4.1.relu2"
    last = last_map(graph, nodes)
    assert last is not None and last.origin == ("layer4.1.relu2",)
    kernels = first_kernels(nodes)
    assert kernels is not None and kernels[0] == "conv1"
    np.testing.assert_array_equal(kernels[1], resnet18.parameters()["conv1.weight"])
    with pytest.raises(tw.ModelError, match=r"no layer named 'layer1.0.relu'; some are 'layer1.0.relu"):
        chosen_maps(maps, nodes, ["layer1.0.relu"])
    with pytest.raises(tw.ModelError, match=r"'fc' is f32\[1,1000\]; expected feature maps"):
        chosen_maps(maps, nodes, ["fc"])


def test_most_active() -> None:
    features = np.stack([np.full((2, 2), v) for v in (0.5, -3.0, 2.0, 0.0)])
    assert most_active(features, 3).tolist() == [1, 2, 0]


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "squeezenet1_1", "mobilenet_v2", "shufflenet_v2_x1_0", "efficientnet_b0"])
def test_networks_of_the_zoo_with_an_exact_map(name: str) -> None:
    graph = tw.load(name, {"image": (1, 3, 64, 64)})
    head = find_head(graph.outputs[0], 5)
    assert head is not None and head.features.type.rank == 4 and head.weights.any()
    assert head.axes == (2, 3) and head.weights.shape[1] == head.features.type.shape[1]
