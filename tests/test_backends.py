"""What every backend promises: any strides and ranks of inputs, arrays of the caller that are filled, results that stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.graph import Graph, Input
from tilewright.engine.ops import Transpose, pointwise

BACKENDS = ["reference", "cpu", "onnxruntime"]


@pytest.fixture
def graph() -> Graph:
    x, scale = Input(name="x", shape=(3, 4, 5)), Input(name="scale", shape=())
    y = pointwise("mul", pointwise("tanh", x), scale)
    return Graph((x, scale), (y, Transpose(y, permutation=(2, 0, 1))), ("y", "turned"))


@pytest.fixture
def given(rng: np.random.Generator) -> dict[str, np.ndarray]:
    x = rng.standard_normal((5, 4, 3)).astype(np.float32).transpose(2, 1, 0)
    x.flags.writeable = False
    return {"x": x, "scale": np.asarray(rng.standard_normal(), np.float32)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scalar_and_a_strided_input_that_cannot_be_written(backend: str, graph: Graph, given: dict[str, np.ndarray]) -> None:
    found = tw.compile(graph, backend=backend).run(given)
    expected = np.tanh(given["x"]) * given["scale"]
    np.testing.assert_allclose(found["y"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["turned"], expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_of_the_caller_are_filled(backend: str, graph: Graph, given: dict[str, np.ndarray]) -> None:
    session = tw.compile(graph, backend=backend)
    expected = session.run(given)
    out = {name: np.full(array.shape, np.nan, np.float32) for name, array in expected.items()}
    found = session.run(given, out=out)
    assert all(found[name] is out[name] for name in out)
    for name, array in out.items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_not_touched_by_the_next_run(backend: str, graph: Graph, given: dict[str, np.ndarray]) -> None:
    session = tw.compile(graph, backend=backend)
    first = session.run(given)
    kept = {name: array.copy() for name, array in first.items()}
    session.run({"x": given["x"] + 1, "scale": given["scale"] * 2})
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)
