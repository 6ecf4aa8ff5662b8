"""Winograd convolution: the matrices, every output tile on shapes with edges, its error bounds, and where it must not be used."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Iterator

import numpy as np
import pytest

import tilewright as tw
from tilewright.backends.common import winograd
from tilewright.backends.cpu import winograd as lowering
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.space_to_depth import fold_taps
from tilewright.backends.cpu.target import Target
from tilewright.engine import expression as ex
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv

BOUNDS = {2: 1.5e-6, 4: 8e-6, 5: 3e-5, 6: 4e-5}
"""max |difference| / max |y| against float64 that each output tile of a 3×3 kernel keeps on normal weights and inputs."""
POINT_BOUNDS = {3: 1.5e-6, 4: 2e-6, 5: 3e-6, 6: 4e-6, 7: 4e-6, 8: 6e-6, 9: 6e-6, 10: 8e-6, 11: 1e-5, 12: 3e-5, 13: 3e-5, 14: 4e-5}
"""The same for any kernel, by the number of interpolation points of both axes."""


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


FILTERS = [(m, n - m + 2) for n in winograd.POINTS for m in range(1, n + 1) if 2 <= n - m + 2 <= 7]


@pytest.mark.parametrize(("m", "r"), FILTERS)
def test_matrices_convolve(m: int, r: int, rng: np.random.Generator) -> None:
    t = winograd.transform(m, r)
    d, g = rng.standard_normal(m + r - 1), rng.standard_normal(r)
    expected = [sum(d[i + k] * g[k] for k in range(r)) for i in range(m)]
    np.testing.assert_allclose(t.output @ ((t.weight @ g) * (t.input @ d)), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "tiling", [winograd.Tiling.of((4, 4), (3, 3)), winograd.Tiling.of((1, 6), (1, 7)), winograd.Tiling.of((3, 4), (3, 2))]
)
def test_transformed_weight(tiling: winograd.Tiling, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((5, 4, *tiling.r)).astype(np.float32)
    rows, columns = (t.weight for t in tiling.matrices)
    expected = np.einsum("ai,kcij,bj->abck", rows, weight.astype(np.float64), columns).reshape(-1, 4, 1, 5)
    np.testing.assert_allclose(winograd.transformed_weight(weight, tiling), expected, rtol=1e-10, atol=1e-12)


def test_phases_of_a_strided_kernel(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((2, 3, 5, 3))
    taps = winograd.phase_taps(weight, winograd.Tiling.of((2, 2), (5, 3), (2, 2)))
    assert taps.shape == (2, 3, 4, 3, 2)
    for down, across, i, j in np.ndindex(2, 2, 3, 2):
        row, column = 2 * i + down, 2 * j + across
        expected = weight[:, :, row, column] if row < 5 and column < 3 else 0
        np.testing.assert_array_equal(taps[:, :, 2 * down + across, i, j], np.broadcast_to(expected, (2, 3)))


SHAPES = {
    "tiles fill the map": ((1, 64, 20, 24), 64, ((1, 1), (1, 1))),
    "ragged map, batch, channels not whole vectors": ((2, 40, 13, 15), 48, ((1, 1), (1, 1))),
    "smaller than a tile": ((1, 128, 5, 3), 20, ((1, 1), (1, 1))),
    "no padding": ((1, 32, 10, 9), 32, ((0, 0), (0, 0))),
    "asymmetric padding": ((1, 64, 11, 30), 80, ((1, 0), (2, 1))),
    "padding wider than the kernel needs": ((1, 32, 6, 7), 32, ((2, 2), (2, 2))),
    "one step from input to output": ((3, 32, 112, 112), 32, ((1, 1), (1, 1))),
}


@pytest.mark.parametrize("m", BOUNDS)
@pytest.mark.parametrize("name", SHAPES)
def test_error_bound_and_same_bits(name: str, m: int, target: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    force.setattr(lowering, "choose", lambda problem, accuracy: winograd.Tiling.of((m, m), (3, 3)))
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
    force.setattr(lowering, "choose", lambda problem, accuracy: winograd.Tiling.of((m, m), (3, 3)))
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
    used = {tiling.m[0] for s in executable.steps if s.call and (tiling := getattr(s.call.kernel, "tiling", None))}
    assert used <= expected and bool(used) == bool(expected)


KERNELS = {
    "1x7": ((1, 48, 17, 17), (1, 7), (1, 1), ((0, 0), (3, 3))),
    "7x1, ragged": ((2, 40, 15, 11), (7, 1), (1, 1), ((3, 3), (0, 0))),
    "1x3": ((1, 64, 8, 8), (1, 3), (1, 1), ((0, 0), (1, 1))),
    "5x5": ((1, 48, 14, 19), (5, 5), (1, 1), ((2, 2), (2, 2))),
    "5x3": ((1, 32, 9, 12), (5, 3), (1, 1), ((2, 1), (0, 1))),
    "4x4 with even padding": ((1, 16, 13, 12), (4, 4), (1, 1), ((2, 1), (2, 1))),
    "3x3 of stride 2": ((2, 40, 15, 18), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "3x3 of stride 2, no padding": ((1, 32, 13, 17), (3, 3), (2, 2), ((0, 0), (0, 0))),
    "7x7 of stride 2": ((1, 16, 20, 23), (7, 7), (2, 2), ((3, 3), (3, 3))),
    "5x5 of stride 3": ((1, 20, 22, 20), (5, 5), (3, 3), ((2, 2), (1, 3))),
    "3x3 of stride (1, 2)": ((1, 32, 12, 13), (3, 3), (1, 2), ((1, 1), (1, 1))),
    "dilated": ((2, 24, 19, 23), (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    "dilated by different numbers, few rows": ((1, 40, 7, 31), (3, 5), (1, 1), ((4, 3), (5, 6)), (4, 3)),
    "dilated by more than there is": ((1, 32, 5, 6), (3, 3), (1, 1), ((6, 6), (7, 6)), (6, 7)),
    "dilated rows, strided columns": ((1, 32, 16, 21), (3, 3), (1, 2), ((2, 2), (1, 1)), (2, 1)),
    "one axis, dilated": ((1, 20, 40), (3,), (1,), ((2, 2),), (2,)),
    "one axis": ((2, 40, 50), (5,), (1,), ((2, 2),)),
    "one axis of stride 2": ((1, 24, 61), (7,), (2,), ((3, 3),)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_and_every_tiling_of_it(name: str, target: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    shape, kernel, strides, pads, *dilated = KERNELS[name]
    dilations = dilated[0] if dilated else (1,) * len(kernel)
    x = Input(name="x", shape=shape)
    weight = rng.standard_normal((36, shape[1], *kernel)) / np.sqrt(shape[1] * np.prod(kernel))
    bias = rng.standard_normal(36).astype(np.float32)
    node = Conv(x, Constant(weight.astype(np.float32)), Constant(bias), pads=pads, strides=strides, dilations=dilations)
    graph = Graph((x,), (node,), ("y",))
    data = rng.standard_normal(shape).astype(np.float32)
    expected = tw.compile(graph, backend="reference", passes=[], precision="float64")(data)
    problem = winograd.WinogradProblem(64, 64, 28, 28, 16, 0, *map(lowering.in_plane, (kernel, strides, dilations)))
    tilings = winograd.candidates(problem)
    assert len(tilings) >= 2
    for tiling in tilings[:: max(1, len(tilings) // 6)]:
        force.setattr(lowering, "choose", lambda problem, accuracy, tiling=tiling: tiling)
        session = tw.compile(graph, passes=[], threads=2, target=target)
        assert algorithms(session) == {"WinogradKernel"}
        error = np.abs(session(data) - expected).max() / np.abs(expected).max()
        assert error <= POINT_BOUNDS[tiling.points], tiling


STEMS = {
    "7x7 of stride 2 over a picture": ((1, 3, 36, 52), (7, 7), (2, 2), ((3, 3), (3, 3))),
    "odd sizes, batch": ((2, 3, 35, 41), (7, 7), (2, 2), ((3, 3), (3, 3))),
    "one channel, uneven pads": ((2, 1, 34, 64), (5, 5), (2, 2), ((2, 1), (1, 2))),
    "no pads": ((1, 3, 37, 45), (6, 4), (2, 2), ((0, 0), (0, 0))),
    "stride 3": ((1, 4, 40, 71), (7, 8), (3, 3), ((2, 2), (4, 3))),
    "rows only": ((1, 2, 33, 31), (4, 5), (2, 1), ((1, 1), (2, 2))),
}


@pytest.mark.parametrize("name", STEMS)
def test_first_layers_with_folded_strides(name: str, target: str, force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    shape, kernel, strides, pads = STEMS[name]
    x = Input(name="x", shape=shape)
    weight = rng.standard_normal((40, shape[1], *kernel)) / np.sqrt(shape[1] * np.prod(kernel))
    graph = Graph((x,), (Conv(x, Constant(weight.astype(np.float32)), None, pads=pads, strides=strides),), ("y",))
    data = rng.standard_normal(shape).astype(np.float32)
    expected = tw.compile(graph, backend="reference", passes=[], precision="float64")(data)
    taps, _ = fold_taps(weight, strides, (pads[0][0], pads[1][0]))
    tilings = winograd.candidates(winograd.WinogradProblem(64, 64, 28, 28, 16, 0, taps.shape[2:]))
    assert len(tilings) >= 2
    for tiling in tilings:
        force.setattr(lowering, "choose", lambda problem, accuracy, tiling=tiling: tiling)
        actual = [tw.compile(graph, passes=[], threads=threads, target=target) for threads in (1, 2)]
        assert algorithms(actual[0]) == {"SpaceToDepthKernel", "WinogradKernel"}
        results = [session(data) for session in actual]
        np.testing.assert_array_equal(*results)
        assert np.abs(results[0] - expected).max() <= POINT_BOUNDS[tiling.points] * np.abs(expected).max(), tiling


def test_a_picture_narrower_than_a_vector_is_direct(rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(1, 3, 64, 9))
    node = Conv(x, Constant(rng.standard_normal((64, 3, 7, 7)).astype(np.float32)), None, pads=((3, 3), (3, 3)), strides=(2, 2))
    assert algorithms(tw.compile(Graph((x,), (node,), ("y",)), passes=[])) == {"DirectConvKernel"}


@pytest.mark.parametrize("attributes", [{"dilations": (2, 2), "pads": ((2, 2), (2, 2)), "strides": (2, 2)}, {"groups": 2}], ids=str)
def test_other_convolutions_are_direct(attributes: dict[str, object], force: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    force.setattr(lowering, "choose", lambda problem, accuracy: winograd.Tiling.of((4, 4), (3, 3)))
    x = Input(name="x", shape=(1, 64, 20, 20))
    weight = Constant(rng.standard_normal((64, 64 // int(str(attributes.get("groups", 1))), 3, 3)).astype(np.float32))
    node = Conv(x, weight, None, **{"pads": ((1, 1), (1, 1)), **attributes})  # type: ignore[arg-type]
    assert "WinogradKernel" not in algorithms(tw.compile(Graph((x,), (node,), ("y",)), passes=[]))


def test_what_each_accuracy_allows() -> None:
    square = winograd.WinogradProblem(64, 64, 28, 28, 16, 0)
    assert {t.m[0] for t in winograd.candidates(square)} == set(BOUNDS) | {3}
    assert {t.m for t in winograd.candidates(square, "strict")} == {(2, 2)}
    assert winograd.candidates(square, "exact") == []
    assert winograd.candidates(dc.replace(square, kernel=(1, 1))) == []
    assert {t.m for t in winograd.candidates(dc.replace(square, kernel=(1, 3)), "strict")} == {(1, 2)}


def test_thin_layers_are_direct() -> None:
    """With four channels the transforms cost more than they save."""
    problem = winograd.WinogradProblem(4, 16, 28, 28, 16, 28 * 28 * 9 * 4 * 16)
    assert winograd.choose(problem) is None
