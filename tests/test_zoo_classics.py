"""What is special about the classics: AlexNet's groups and normalisation, perceptrons that slide over maps, MobileNet's two multipliers."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine import plugins
from tilewright.frontends.dsl import Value, model
from tilewright.models.alexnet import normalised
from tilewright.models.mobilenet_v1 import mobilenet
from tilewright.models.nin import mlpconv


def test_alexnet_is_split_where_its_processors_do_not_talk() -> None:
    weights = {name: p.shape for name, p in plugins.load("models", "alexnet").declarations().items()}
    inputs = {name: shape[1] for name, shape in weights.items() if name.startswith("conv") and name.endswith("weight")}
    assert inputs == {"conv1.weight": 3, "conv2.weight": 48, "conv3.weight": 256, "conv4.weight": 192, "conv5.weight": 192}


def test_alexnet_normalises_as_its_formula_says(rng: np.random.Generator) -> None:
    a = (50 * rng.standard_normal((2, 9, 3, 5))).astype(np.float32)
    expected = np.empty_like(a)
    for i in range(9):
        near = a[:, max(0, i - 2) : min(9, i + 3)].astype(np.float64)
        expected[:, i] = a[:, i] / (2 + 1e-4 * (near**2).sum(axis=1)) ** 0.75
    layer = model(image=a.shape)(normalised)
    np.testing.assert_allclose(tw.compile(layer)(a), expected, rtol=1e-4, atol=1e-5)


def test_mlpconv_is_a_perceptron_at_every_position(rng: np.random.Generator) -> None:
    @model(image=(1, 2, 9, 7))
    def layer(image: Value) -> Value:
        return mlpconv(image, 2, (6, 5, 4), 3, stride=2, pad=1)

    image = rng.standard_normal((1, 2, 9, 7)).astype(np.float32)
    parameters = layer.parameters()
    padded = np.pad(image[0], ((0, 0), (1, 1), (1, 1)))
    found = tw.compile(layer)(image)
    assert found.shape == (1, 4, 5, 4)
    for row, column in np.ndindex(5, 4):
        x = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].ravel()
        for name in ("conv2", "cccp3", "cccp4"):
            weight = parameters[f"{name}.weight"]
            x = np.maximum(weight.reshape(len(weight), -1) @ x + parameters[f"{name}.bias"], 0)
        np.testing.assert_allclose(found[0, :, row, column], x, atol=1e-4)


TABLES = [(1, 224, 569, 4.2), (0.75, 224, 325, 2.6), (0.5, 224, 149, 1.3), (0.25, 224, 41, 0.5), (1, 192, 418, 4.2), (1, 128, 186, 4.2)]
"""The paper's tables 6 and 7: width, size of the image, millions of multiply-adds and of parameters."""


@pytest.mark.parametrize(("width", "size", "multiply_adds", "parameters"), TABLES)
def test_mobilenet_shrinks_as_its_tables_say(width: float, size: int, multiply_adds: float, parameters: float) -> None:
    @model(image=("batch=1", 3, size, size))
    def network(image: Value) -> Value:
        return mobilenet(image, width)

    assert network.multiply_adds / 1e6 == pytest.approx(multiply_adds, abs=1)
    assert round(network.parameter_count / 1e6, 1) == parameters
