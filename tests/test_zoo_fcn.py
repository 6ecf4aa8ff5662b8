"""Fully convolutional networks: a classifier at every position of a larger image, and scores that lie where their pixels lie."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine import plugins
from tilewright.engine.evaluate import evaluate, widen
from tilewright.frontends.dsl import Model, Value, conv, flatten, linear, max_pool, model, relu
from tilewright.models.fcn import as_convolutions, bilinear, fcn

HEIGHT, WIDTH, STRIDE = 19, 14, 2
"""Size of the images of the small classifier, and how far apart its positions in a larger image are."""
SKIPS = {0: "fcn32s", 1: "fcn16s", 2: "fcn8s"}
SCORES = ("score_fr", "score_pool4", "score_pool3")


def features(image: Value) -> Value:
    x = relu(conv(image, 5, (4, 3), name="features.0"))
    return relu(conv(max_pool(x, 2, ceil=False), 7, 3, name="features.3"))


@model(image=("batch=1", 2, HEIGHT, WIDTH))
def classifier(image: Value) -> Value:
    x = relu(linear(flatten(features(image)), 11, name="classifier.0"))
    return linear(x, 3, name="classifier.2")


@model(image=("batch=1", 2, "height=19", "width=14"))
def dense(image: Value) -> Value:
    x = relu(conv(features(image), 11, (6, 4), name="classifier.0"))
    return conv(x, 3, 1, name="classifier.2")


def narrow(skips: int, classes: int = 3, widths: tuple[int, ...] = (2, 3, 4, 6, 5), hidden: int = 7) -> Model:
    @model(image=("batch=1", 3, "height=40", "width=33"))
    def network(image: Value) -> Value:
        return fcn(image, skips, classes, widths, hidden)

    return network


@pytest.mark.parametrize("rows, columns", [(1, 1), (4, 9), (7, 2)])
def test_dense_scores_are_those_of_the_crops(rows: int, columns: int, rng: np.random.Generator) -> None:
    weights = as_convolutions(classifier.parameters(), {"classifier.0": (6, 4)})
    shape = (2, 2, HEIGHT + STRIDE * (rows - 1) + 1, WIDTH + STRIDE * (columns - 1))
    image = rng.standard_normal(shape).astype(np.float32)
    found = tw.compile(dense.with_weights(weights))(image)
    assert found.shape == (2, 3, rows, columns)
    single = tw.compile(classifier)
    for row, column in np.ndindex(rows, columns):
        top, left = STRIDE * row, STRIDE * column
        expected = single(image[:, :, top : top + HEIGHT, left : left + WIDTH])
        np.testing.assert_allclose(found[:, :, row, column], expected, atol=1e-4)


def test_weights_of_vgg16_fit() -> None:
    vgg16, fcn8s = plugins.load("models", "vgg16"), plugins.load("models", "fcn8s")
    weights = as_convolutions({n: np.zeros(p.shape, p.dtype) for n, p in vgg16.declarations().items()}, {"classifier.0": (7, 7)})
    assert weights.pop("classifier.6.weight").shape == (1000, 4096, 1, 1)
    assert weights.pop("classifier.6.bias").shape == (1000,)
    wanted = fcn8s.declarations()
    assert {name: array.shape for name, array in weights.items()} == {n: p.shape for n, p in wanted.items() if "score" not in n}


@pytest.mark.parametrize("skips", SKIPS, ids=SKIPS.values())
@pytest.mark.parametrize("height, width", [(1, 1), (26, 27), (61, 33)])
@pytest.mark.parametrize("backend", ["cpu", "onnxruntime"])
def test_every_size_is_kept(skips: int, height: int, width: int, backend: str, rng: np.random.Generator) -> None:
    if backend == "onnxruntime":
        pytest.importorskip(backend)
    image = rng.standard_normal((2, 3, height, width)).astype(np.float32)
    graph = tw.load(narrow(skips), {"image": image.shape})
    (expected,) = evaluate(widen(graph), [image])
    found = tw.compile(graph, backend=backend)(image)
    assert found.shape == expected.shape == (2, 3, height, width)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("skips, scores", [(skips, scores) for skips in SKIPS for scores in SCORES[: skips + 1]])
def test_scores_lie_where_their_pixels_lie(skips: int, scores: str) -> None:
    """Every layer hands on its middle, so that only poolings change a ramp: each takes the largest of its window, on either side
    of the middle of it. What rises to the right is off by as much as what falls, and their difference by nothing."""
    network = narrow(skips, classes=1, widths=(1, 1, 1, 1, 1), hidden=1)
    weights = {name: middle(p.shape) for name, p in network.declarations().items()}
    for name in SCORES[: skips + 1]:
        weights[f"{name}.weight"] *= name == scores
    weights |= {name: bilinear(1, array.shape[2] // 2) for name, array in weights.items() if name.startswith("upscore")}
    height, width = 203, 181
    rise = np.broadcast_to(np.arange(height)[:, None] + 2 * np.arange(width), (1, 3, height, width)).astype(np.float32)
    run = tw.compile(network.with_weights(weights))
    found = run(rise) - run(np.ascontiguousarray(rise[:, :, ::-1, ::-1]))
    inside = slice(None), slice(None), slice(64, -64), slice(64, -64)
    np.testing.assert_allclose(found[inside], 2 * rise[:, :1][inside] - rise.max(), atol=0.05)


def middle(shape: tuple[int, ...]) -> np.ndarray:
    """Weights that hand on the first channel as it is; no bias."""
    weight = np.zeros(shape, np.float32)
    if len(shape) == 4:
        weight[0, 0, shape[2] // 2, shape[3] // 2] = 1
    return weight
