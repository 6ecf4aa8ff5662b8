"""Winograd convolution: the matrices, every output tile on shapes with edges, its error bounds, and where it must not be used."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import tilewright as tw
from tilewright.backends.common import winograd
from tilewright.backends.cpu import winograd as lowering
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.target import Target
from tilewright.engine import expression as ex
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv

BOUNDS = {2: 1.5e-6, 4: 8e-6, 5: 3e-5, 6: 4e-5}
"""max |difference| / max |y| against float64 that each output tile keeps on normal weights and inputs; documented in README."""


@pytest.fixture(params=["avx512", "avx2"])
def target(request: pytest.FixtureRequest) -> str:
    if not Target.describe(request.param).is_runnable:
        pytest.skip(f"this machine has no {request.param}")
    return request.param


@pytest.fixture
def force(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets a test fix the output tile that the rule would choose."""
    yield monkeypatch


def layer(shape: tuple[int, ...], k: int, pads: tuple[tuple[int, int], ...] = ((1, 1), (1, 1)), seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    x = Input(name="x", shape=shape)
    weight = rng.standard_normal((k, shape[1], 3, 3)) / np.sqrt(9 * shape[1])
    node = Conv(x, Constant(weight.astype(np.float32)), Constant(rng.standard_normal(k).astype(np.float32)), pads=pads)
    return Graph((x,), (node,), ("y",))


def algorithms(session: tw.Session) -> set[str]:
    executable = session.executable
    assert isinstance(executable, NativeExecutable)
    return {type(s.call.kernel).__name__ for s in executable.steps if s.call and s.node.opname == "conv"}


@pytest.mark.parametrize("m", winograd.POINTS)
def test_matrices_convolve(m: int, rng: np.random.Generator) -> None:
    t = winograd.transform(m)
    d, g = rng.standard_normal(t.extent), rng.standard_normal(3)
    expected = [sum(d[i + k] * g[k] for k in range(3)) for i in range(m)]
    np.testing.assert_allclose(t.output @ ((t.weight @ g) * (t.input @ d)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("m", winograd.POINTS)
def test_transformed_weight(m: int, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((5, 4, 3, 3)).astype(np.float32)
    g = winograd.transform(m).weight
    expected = np.einsum("ai,kcij,bj->abck", g, weight.astype(np.float64), g).reshape(-1, 4, 5)
    found = np.concatenate([part for _, part in winograd.transformed_weight(weight, m)])
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


SHAPES = {
    "tiles fill the map": ((1, 64, 20, 24), 64, ((1, 1), (1, 1))),
    "ragged map, batch, channels not whole vectors": ((2, 40, 13, 15), 48, ((1, 1), (1, 1))),
    "smaller than a tile": ((1, 128, 5, 3), 20, ((1, 1), (1, 1))),
    "no padding": ((1, 32, 10, 9), 32, ((0, 0), (0, 0))),
    "asymmetric padding": ((1, 64, 11, 30), 80, ((1, 0), (2, 1))),
    "padding wider than the kernel needs": ((1, 32, 6, 7), 32, ((2, 2), (2, 2))),
    "one step from input to output": ((3, 32, 112, 112), 32, ((1, 1), (1, 1))),
}


@pytest.mark.parametrize("m", winograd.POINTS)
@pytest.mark.parametrize("name", SHAPES)
def test_error_bound_and_same_bits(name: str, m: int, target: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    force.setattr(lowering, "choose", lambda problem, allowed: m)
    graph = layer(*SHAPES[name])
    x = rng.standard_normal(graph.inputs[0].type.shape).astype(np.float32)
    expected = tw.compile(graph, backend="reference", passes=[], precision="float64")(x)
    session = tw.compile(graph, passes=[], threads=2, target=target)
    assert algorithms(session) == {"WinogradKernel"}
    actual = session(x)
    assert np.abs(actual - expected).max() <= BOUNDS[m] * np.abs(expected).max()
    np.testing.assert_array_equal(tw.compile(graph, passes=[], threads=1, target=target)(x), actual)


@pytest.mark.parametrize("m", [2, 5])
def test_epilogue_with_residual_and_channel_scale(m: int, target: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    force.setattr(lowering, "choose", lambda problem, allowed: m)
    x, scale = Input(name="x", shape=(2, 32, 9, 10)), Input(name="scale", shape=(2, 40, 1, 1))

    def pointwise_conv(value: Input, c: int) -> Conv:
        return Conv(value, Constant(rng.standard_normal((40, c, 1, 1)).astype(np.float32)), None)

    expression = ex.apply("silu", ex.Operand(0) * ex.Operand(2) + ex.Operand(1))
    weight = Constant(rng.standard_normal((40, 32, 3, 3)).astype(np.float32))
    node = Conv(x, weight, None, (pointwise_conv(x, 32), pointwise_conv(scale, 40)), pads=((1, 1), (1, 1)), epilogue=expression)
    graph = Graph((x, scale), (node,), ("y",))
    values = [rng.standard_normal(i.type.shape).astype(np.float32) for i in graph.inputs]
    expected = tw.compile(graph, backend="reference", passes=[], precision="float64")(*values)
    session = tw.compile(graph, passes=[], target=target)
    assert "WinogradKernel" in algorithms(session)
    assert np.abs(session(*values) - expected).max() <= 4 * BOUNDS[m] * np.abs(expected).max()


def test_one_image_gives_the_same_bits_in_a_batch(rng: np.random.Generator) -> None:
    x = rng.standard_normal((8, 64, 14, 14)).astype(np.float32)
    batch = tw.compile(layer((8, 64, 14, 14), 64), passes=[])(x)
    alone = tw.compile(layer((1, 64, 14, 14), 64), passes=[])
    for i in range(8):
        np.testing.assert_array_equal(alone(x[i : i + 1])[0], batch[i])


@pytest.mark.parametrize(("accuracy", "expected"), [("fast", {4, 5, 6}), ("strict", {2}), ("exact", set())])
def test_accuracy_decides_which_tiles_are_allowed(accuracy: str, expected: set[int]) -> None:
    session = tw.compile(layer((1, 128, 28, 28), 128), passes=[], accuracy=accuracy)
    executable = session.executable
    assert isinstance(executable, NativeExecutable)
    used = {m for s in executable.steps if s.call and (m := getattr(s.call.kernel, "m", None))}
    assert used <= expected and bool(used) == bool(expected)


@pytest.mark.parametrize(
    "attributes", [{"strides": (2, 2)}, {"dilations": (2, 2), "pads": ((2, 2), (2, 2))}, {"groups": 2}, {"strides": (1, 2)}], ids=str
)
def test_other_convolutions_are_direct(attributes: dict[str, object], force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    force.setattr(lowering, "choose", lambda problem, allowed: 4)
    x = Input(name="x", shape=(1, 64, 20, 20))
    weight = Constant(rng.standard_normal((64, 64 // int(str(attributes.get("groups", 1))), 3, 3)).astype(np.float32))
    node = Conv(x, weight, None, **{"pads": ((1, 1), (1, 1)), **attributes})  # type: ignore[arg-type]
    assert "WinogradKernel" not in algorithms(tw.compile(Graph((x,), (node,), ("y",)), passes=[]))


def test_thin_layers_are_direct() -> None:
    """With four channels the transforms cost more than they save."""
    problem = winograd.WinogradProblem(4, 16, 28, 28, 16, 28 * 28 * 9 * 4 * 16)
    assert winograd.choose(problem) is None
