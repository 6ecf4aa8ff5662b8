"""Softmax on the cpu backend: every family of kernels, both results, any axis."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_harness import TARGETS, NodeRun, assert_close, check_node, expected, load_kernels, operand, run_node

from tilewright.backends.cpu.kernel import Machine, lower
from tilewright.backends.cpu.target import Target
from tilewright.engine.ops import Softmax
from tilewright.engine.tensor import Blocked

F4 = np.dtype(np.float32)
Shape = tuple[int, ...]
PLAIN: list[tuple[Shape, int]] = [
    ((1, 1000), 1),
    ((3, 37), 1),
    ((2, 5, 64), 2),
    ((4420, 2), 1),
    *(((51, extent), 1) for extent in range(1, 18)),
    ((1, 5, 89, 4), 3),
    ((3, 21, 40), 1),
    ((3, 21, 3), 1),
    ((5, 7, 100), 0),
    ((2, 19, 33, 45), 1),
    ((1, 3, 1, 1), 1),
    ((1, 1), 0),
]


def random(rng: np.random.Generator, shape: Shape, dtype: str = "float32") -> np.ndarray:
    return (rng.standard_normal(shape) * 4).astype(dtype)


def tolerance(log: bool, dtype: str = "float32") -> tuple[float, float]:
    """The rounding of x - m, whose size is at most about 32, is a relative error of exp(x - m)."""
    unit = float(np.finfo(dtype).eps)
    return (2 * unit, 32 * unit) if log else (32 * unit, 0.0)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("shape, axis", PLAIN, ids=str)
def test_plain(shape: Shape, axis: int, log: bool, rng: np.random.Generator) -> None:
    for dtype in ("float32", "float64"):
        x = random(rng, shape, dtype)
        a = operand("x", x)
        check_node(Softmax(a, axis=axis, log=log), {a: x}, *tolerance(log, dtype))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(1, 1000, 1, 1), (2, 37, 3, 5), (1, 32, 4, 3), (2, 3, 7), (1, 4, 9, 11), (1, 16, 3, 3), (2, 7, 30), (1, 1, 3, 3), (3, 50)],
    ids=str,
)
def test_blocked(shape: Shape, log: bool, target: str, rng: np.random.Generator) -> None:
    layout = Blocked(1, Target.describe(target).lanes(F4))
    x = random(rng, shape)
    for axis in range(len(shape)):
        node = Softmax(operand("x", x, layout), axis=axis, log=log, layout=layout)
        for threads in (1, 2):
            found = run_node(node, {node.x: x}, target, threads)
            assert_close(found, expected(node, {node.x: x})[0], *tolerance(log), f"{node} along {axis}")


@pytest.mark.parametrize("target", TARGETS)
def test_blocked_last_axis(target: str, rng: np.random.Generator) -> None:
    """As a matrix product leaves it."""
    layout = Blocked(2, Target.describe(target).lanes(F4))
    x = random(rng, (2, 6, 21))
    for axis in range(3):
        node = Softmax(operand("x", x, layout), axis=axis, layout=layout)
        assert_close(run_node(node, {node.x: x}, target), expected(node, {node.x: x})[0], *tolerance(False))


@pytest.mark.parametrize("shape, axis", [((3, 200), 1), ((7, 3), 1), ((4, 9, 50), 1)], ids=str)
def test_extreme_arguments(shape: Shape, axis: int, rng: np.random.Generator) -> None:
    """Large offsets do not overflow; minus infinity is a zero; NaN spoils its own row and no other."""
    x = random(rng, shape) + 1000
    x[0, 0], x[1, 1], x[2, 2] = -np.inf, np.nan, 3e38
    a = operand("x", x)
    check_node(Softmax(a, axis=axis), {a: x}, 2e-4, 1e-30)
    check_node(Softmax(a, axis=axis, log=True), {a: x}, 1e-6, 2e-3)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape, axis", [((3, 200), 1), ((70, 3), 1), ((4, 9, 50), 1)], ids=str)
def test_in_place(shape: Shape, axis: int, target: str, rng: np.random.Generator) -> None:
    x = random(rng, shape)
    a = operand("x", x)
    for log in (False, True):
        node = Softmax(a, axis=axis, log=log)
        assert_close(NodeRun(node, {a: x}, target, 2, in_place=a).run()[0], expected(node, {a: x})[0], *tolerance(log))


def test_rows_sum_to_one(rng: np.random.Generator) -> None:
    x = random(rng, (40, 123))
    a = operand("x", x)
    np.testing.assert_allclose(run_node(Softmax(a, axis=1), {a: x}).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("shape, axis", [((1, 512, 89, 4), 3), ((1, 2, 300, 300), 1), ((400, 1000), 1)], ids=str)
def test_many_units_share_the_work(shape: Shape, axis: int) -> None:
    load_kernels()
    node = Softmax(operand("x", np.zeros(shape, np.float32)), axis=axis)
    (call,) = lower(node, Machine(Target.describe(TARGETS[0]), 2))
    assert call.units >= 8


@pytest.mark.parametrize("shape, axis", [((3, 200), 1), ((70, 3), 1), ((4, 9, 50), 1)], ids=str)
def test_compiles_for_neon(shape: Shape, axis: int) -> None:
    load_kernels()
    target = Target.describe("neon")
    node = Softmax(operand("x", np.zeros(shape, np.float32)), axis=axis, log=True)
    assert all(call.kernel.emit(target) for call in lower(node, Machine(target, 1)))
