"""Test-time augmentation: the mean of separate runs over pictures that NumPy has changed, as one batch and as copies."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.graph import Constant
from tilewright.engine.ops import Conv
from tilewright.frontends.dsl import Value, conv, flatten, linear, model, relu, transpose
from tilewright.frontends.onnx.export import export

Random = np.random.Generator


@model(image=("batch=1", 3, "height=9", "width=12"))
def logits(image: Value) -> Value:
    """Five scores that depend on where things are."""
    return linear(flatten(relu(conv(image, 4, 3))), 5)


@model(image=(2, 3, 9, 12))
def pair(image: Value) -> Value:
    """The same for exactly two pictures."""
    return linear(flatten(relu(conv(image, 4, 3))), 5)


@model(image=("batch=1", 9, 12, 3))
def channels_last(image: Value) -> Value:
    """The same for channels last."""
    return linear(flatten(relu(conv(transpose(image, (0, 3, 1, 2)), 4, 3))), 5)


def shifted(x: np.ndarray, right: int, down: int) -> np.ndarray:
    """By taking the nearest pixel inside, one by one."""
    height, width = x.shape[2:]
    result = np.empty_like(x)
    for row, column in itertools.product(range(height), range(width)):
        result[:, :, row, column] = x[:, :, min(max(row - down, 0), height - 1), min(max(column - right, 0), width - 1)]
    return result


def at(x: np.ndarray, row: float, column: float) -> np.ndarray:
    """Between pixels, with the edge repeated outside."""
    height, width = x.shape[2:]
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    total = np.zeros(x.shape[:2])
    for i, j in itertools.product(range(height), range(width)):
        total += max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j)) * x[:, :, i, j]
    return total


def turned(x: np.ndarray, angle: float, scale: float = 1.0) -> np.ndarray:
    """With complex numbers: a turn against the clock of what lies right of the centre moves it up."""
    height, width = x.shape[2:]
    result, centre = np.empty_like(x), complex((width - 1) / 2, -(height - 1) / 2)
    for row, column in itertools.product(range(height), range(width)):
        here = complex(column, -row) - centre
        there = here / (scale * complex(math.cos(math.radians(angle)), math.sin(math.radians(angle)))) + centre
        result[:, :, row, column] = at(x, -there.imag, there.real)
    return result


WAYS: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda x: [x]),
    ({"shifts": [(2, 0), (-1, 3), (20, -20)]}, lambda x: [x, shifted(x, 2, 0), shifted(x, -1, 3), shifted(x, 20, -20)]),
    ({"angles": [7.5, -90, 30]}, lambda x: [x, turned(x, 7.5), turned(x, -90), turned(x, 30)]),
    ({"scales": [1.1, 0.8, 2]}, lambda x: [x, turned(x, 0, 1.1), turned(x, 0, 0.8), turned(x, 0, 2)]),
    (
        {"shifts": [(1, 1)], "angles": [5], "scales": [0.9]},
        lambda x: [x, shifted(x, 1, 1), turned(x, 5), turned(x, 0, 0.9)],
    ),
]


def mean_of_runs(session: tw.Session, variants: list[np.ndarray], flip: bool) -> np.ndarray:
    seen = variants + ([v[..., ::-1] for v in variants] if flip else [])
    return np.mean([session(np.ascontiguousarray(v)).astype(np.float64) for v in seen], axis=0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("way", range(len(WAYS)))
@pytest.mark.parametrize("network", [logits, pair], ids=["batch", "copies"])
def test_the_mean_of_separate_runs(network: Any, way: int, flip: bool, rng: Random) -> None:
    options, variants = WAYS[way]
    image = rng.standard_normal((2, 3, 9, 12), np.float32)
    source = tw.augment(network, flip=flip, **options)
    for backend in ("reference", "cpu"):
        wanted = mean_of_runs(tw.compile(network, backend=backend), variants(image), flip)
        found = tw.compile(source, backend=backend)(image)
        assert found.shape == (2, 5)
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


def test_channels_last(rng: Random) -> None:
    image = rng.standard_normal((3, 3, 9, 12), np.float32)
    first = tw.augment(logits, shifts=[(1, 2)], angles=[9], scales=[1.2])
    last = tw.augment(channels_last, shifts=[(1, 2)], angles=[9], scales=[1.2], layout="nhwc")
    wanted = tw.compile(first, backend="reference")(image)
    found = tw.compile(last)(np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


def test_probabilities_are_averaged_on_demand(rng: Random) -> None:
    image = rng.standard_normal((2, 3, 9, 12), np.float32)
    alone = tw.compile(logits, backend="reference")
    powers = [np.exp(alone(np.ascontiguousarray(v)).astype(np.float64)) for v in (image, image[..., ::-1])]
    wanted = sum(p / p.sum(1, keepdims=True) for p in powers) / 2
    np.testing.assert_allclose(tw.compile(tw.augment(logits, softmax=True))(image), wanted, rtol=1e-4, atol=1e-6)


def test_variants_are_one_batch_or_share_their_weights() -> None:
    batch = tw.load(tw.augment(logits, shifts=[(1, 0)]))
    assert [node.type.shape[0] for node in batch.find(Conv)] == [4]
    copies = tw.load(tw.augment(pair, shifts=[(1, 0)]))
    assert [node.type.shape[0] for node in copies.find(Conv)] == [2] * 4
    assert len({node.operands[1] for node in copies.find(Conv)}) == 1
    assert len(copies.find(Constant)) == len(tw.load(pair).find(Constant))


def test_pictures_in_bytes(rng: Random) -> None:
    """What is preprocessed is what is augmented."""
    how = {"scale": 1 / 255, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "resize": (12, 9)}
    picture = rng.integers(0, 256, (1, 31, 27, 3), dtype=np.uint8)
    both = tw.preprocess(tw.augment(logits, angles=[10]), **how)

    @model(image=("batch=1", 3, "height=9", "width=12"))
    def identity(image: Value) -> Value:
        return image * 1.0

    inside = tw.compile(tw.preprocess(identity, **how), backend="reference")(picture)
    wanted = tw.compile(tw.augment(logits, angles=[10]), backend="reference")(inside)
    np.testing.assert_allclose(tw.compile(both)(picture), wanted, atol=2e-5 * np.abs(wanted).max())


def test_onnxruntime_agrees(rng: Random) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    graph = tw.load(tw.augment(logits, shifts=[(2, -1)], angles=[-12.0], scales=[1.3], softmax=True), {"image": (2, 3, 9, 12)})
    image = rng.standard_normal((2, 3, 9, 12), np.float32)
    exported = onnxruntime.InferenceSession(export(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(tw.compile(graph)(image), exported.run(None, {"image": image})[0], rtol=1e-4, atol=1e-6)


def test_one_of_several_outputs_and_inputs(rng: Random) -> None:
    @model(bias=("batch=1", 5), image=("batch=1", 3, 9, 12))
    def several(bias: Value, image: Value) -> dict[str, Value]:
        features = conv(image, 4, 3)
        return {"features": features, "scores": linear(flatten(features), 5) + bias}

    with pytest.raises(tw.ModelError, match=r"output features is f32\[1,4,7,10\]; expected scores"):
        tw.compile(tw.augment(several))
    image, bias = rng.standard_normal((1, 3, 9, 12), np.float32), rng.standard_normal((1, 5), np.float32)
    alone = tw.compile(several, backend="reference")
    runs = [alone.run({"bias": bias, "image": np.ascontiguousarray(x)})["scores"] for x in (image, image[..., ::-1])]
    found = tw.compile(tw.augment(several, output="scores")).run({"bias": bias, "image": image})
    assert found.keys() == {"scores"}
    np.testing.assert_allclose(found["scores"], (runs[0] + runs[1]) / 2, atol=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    @model(tokens=("batch=1", 7))
    def tokens(tokens: Value) -> Value:
        return tokens * 2.0

    with pytest.raises(tw.ModelError, match="expected one floating-point input of rank 4, the model takes tokens"):
        tw.augment(tokens)
    with pytest.raises(tw.ModelError, match=r"preprocess\(augment\(model\)\)"):
        tw.augment(tw.preprocess(logits))
    with pytest.raises(tw.ModelError, match="no output named 'classes'; the model has output"):
        tw.augment(logits, output="classes")
    with pytest.raises(tw.ModelError, match="expected layout of nchw, nhwc"):
        tw.augment(logits, layout="chwn")
    with pytest.raises(tw.ModelError, match="expected scales above 0, got 0"):
        tw.augment(logits, scales=[1, 0])
