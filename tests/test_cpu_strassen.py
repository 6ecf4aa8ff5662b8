"""Convolutions of single taps by Strassen's algorithm: shapes with edges, the error bound, the same bits, and where it must not be used."""

from __future__ import annotations

import dataclasses as dc

import numpy as np
import pytest

import tilewright as tw
from tilewright.backends.common.strassen import StrassenProblem, is_faster
from tilewright.backends.cpu import frequency_steps
from tilewright.backends.cpu import strassen as lowering
from tilewright.backends.cpu.conv_strassen import strassen_weight
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.target import Target
from tilewright.engine import expression as ex
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv

BOUND = 5e-6
"""max |difference| / max |y| against float64 on normal weights and inputs."""


@pytest.fixture(params=["avx512", "avx2"])
def target(request: pytest.FixtureRequest) -> str:
    if not Target.describe(request.param).is_runnable:
        pytest.skip(f"this machine has no {request.param}")
    return request.param


@pytest.fixture
def force(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The algorithm wherever it is possible."""
    monkeypatch.setattr(lowering, "is_faster", lambda problem: problem.is_even)
    return monkeypatch


def normal(rng: np.random.Generator, *shape: int) -> Constant:
    return Constant(rng.standard_normal(shape).astype(np.float32))


def layer(rng: np.random.Generator, shape: tuple[int, ...], outputs: int, **attributes: object) -> Graph:
    x = Input(name="x", shape=shape)
    node = Conv(x, normal(rng, outputs, shape[1], *[1] * (len(shape) - 2)), normal(rng, outputs), **attributes)  # type: ignore[arg-type]
    return Graph((x,), (node,), ("y",))


def families(session: tw.Session) -> list[str]:
    executable = session.executable
    assert isinstance(executable, NativeExecutable)
    return [step.family for step in executable.steps if step.node.opname == "conv"]


def check(graph: Graph, rng: np.random.Generator, expected: list[str], **options: object) -> None:
    values = [rng.standard_normal(i.type.shape).astype(np.float32) for i in graph.inputs]
    right = tw.compile(graph, backend="reference", passes=[], precision="float64")(*values)
    results = []
    for threads in (1, 2):
        session = tw.compile(graph, passes=[], threads=threads, **options)  # type: ignore[arg-type]
        assert families(session) == expected
        results.append(session(*values))
    assert np.abs(results[0] - right).max() <= BOUND * np.abs(right).max()
    np.testing.assert_array_equal(*results)


SHAPES = {
    "even number of pixels": ((1, 64, 6, 4), 96),
    "odd number of pixels, batch": ((3, 32, 7, 5), 64),
    "one pixel": ((2, 96, 1, 1), 32),
    "one axis": ((2, 64, 37), 32),
    "three axes": ((1, 32, 3, 3, 5), 64),
}


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str, steps: int, target: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    force.setattr(frequency_steps, "BLOCKS_A_THREAD", 0 if steps == 1 else 1000)
    check(layer(rng, *SHAPES[name]), rng, ["strassen"] * steps, target=target)


def test_epilogue_with_residual_and_channel_scale(target: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    x, scale = Input(name="x", shape=(2, 32, 5, 5)), Input(name="scale", shape=(2, 64, 1, 1))
    residual = Conv(x, normal(rng, 64, 32, 3, 3), None, pads=((1, 1), (1, 1)))
    gate = Conv(scale, normal(rng, 64, 1, 1, 1), None, groups=64)
    expression = ex.apply("silu", ex.Operand(0) * ex.Operand(2) + ex.Operand(1))
    node = Conv(x, normal(rng, 64, 32, 1, 1), normal(rng, 64), (residual, gate), epilogue=expression)
    graph = Graph((x, scale), (node,), ("y",))
    values = [rng.standard_normal(i.type.shape).astype(np.float32) for i in graph.inputs]
    expected = tw.compile(graph, backend="reference", passes=[], precision="float64")(*values)
    session = tw.compile(graph, passes=[], target=target)
    assert "strassen" in families(session)
    assert np.abs(session(*values) - expected).max() <= 4 * BOUND * np.abs(expected).max()


def test_one_image_gives_the_same_bits_in_a_batch(rng: np.random.Generator) -> None:
    x, seed = rng.standard_normal((8, 256, 14, 14)).astype(np.float32), 5
    batch, alone = (tw.compile(layer(np.random.default_rng(seed), (n, 256, 14, 14), 512), passes=[]) for n in (8, 1))
    assert families(batch)[-1] == families(alone)[-1] == "strassen"
    for i in range(8):
        np.testing.assert_array_equal(alone(x[i : i + 1])[0], batch(x)[i])


def test_the_seven_products(rng: np.random.Generator) -> None:
    """The weight's side, checked against the definition with the sums of the other two sides written out."""
    weight, x = rng.standard_normal((4, 6)), rng.standard_normal((2, 6))
    b = strassen_weight(weight, 1, 1).data.astype(np.float64).transpose(1, 2, 3, 0, 4).reshape(7, 3, 2)
    (a11, a12), (a21, a22) = (np.split(row, 2) for row in x)
    p1, p2, p3, p4, p5, p6, p7 = (
        a @ m for a, m in zip((a11, a12, a12 - a21 - a22 + a11, a22, a21 + a22, a21 + a22 - a11, a11 - a21), b, strict=True)
    )
    whole = [np.concatenate([p1 + p2, p1 + p6 + p5 + p3]), np.concatenate([p1 + p6 + p7 - p4, p1 + p6 + p7 + p5])]
    np.testing.assert_allclose(whole, x @ weight.T, rtol=1e-5, atol=1e-5)


ELSEWHERE = {
    "stride": ((1, 64, 8, 8), 64, {"strides": (2, 2)}),
    "padding": ((1, 64, 8, 8), 64, {"pads": ((1, 0), (0, 0))}),
    "inputs that have no halves of whole vectors": ((1, 48, 8, 8), 64, {}),
    "outputs that have no halves of whole vectors": ((1, 64, 8, 8), 80, {}),
    "few channels": ((1, 3, 8, 8), 64, {}),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_convolutions_are_direct(name: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    shape, outputs, attributes = ELSEWHERE[name]
    check(layer(rng, shape, outputs, **attributes), rng, ["directconv"], target="native")


@pytest.mark.parametrize("accuracy", ["strict", "exact"])
def test_only_in_fast_accuracy(accuracy: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    check(layer(rng, (1, 64, 8, 8), 64), rng, ["directconv"], accuracy=accuracy)


def test_the_rule() -> None:
    """Deep layers gain; large maps with few channels do not, and neither do weights that a few pixels use."""
    deep = StrassenProblem(256, 1024, 14 * 14, 16)
    assert is_faster(deep)
    assert not is_faster(dc.replace(deep, channels=64, outputs=64, pixels=56 * 56))
    assert not is_faster(dc.replace(deep, channels=768, outputs=128))
    assert not is_faster(dc.replace(deep, pixels=1))
    assert not is_faster(dc.replace(deep, outputs=1040))
