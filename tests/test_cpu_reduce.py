"""Reduce on the cpu backend: any axes, any dtype, blocked and plain."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_harness import TARGETS, NodeRun, assert_close, check_node, expected, load_kernels, operand, run_node

from tilewright.backends.cpu.kernel import Machine, NoKernel, lower
from tilewright.backends.cpu.target import Target
from tilewright.engine.ops import Reduce
from tilewright.engine.ops.layout import to_physical
from tilewright.engine.tensor import Blocked

F4 = np.dtype(np.float32)
KINDS = ["sum", "mean", "max", "min", "prod"]
Shape = tuple[int, ...]
PLAIN: list[tuple[Shape, tuple[int, ...]]] = [
    ((2, 20, 7, 9), (2, 3)),
    ((2, 20, 7, 9), (1,)),
    ((2, 20, 7, 9), (0, 2)),
    ((2, 20, 7, 9), (1, 3)),
    ((2, 3, 4, 5, 6), (0, 2, 4)),
    ((2, 3, 4, 5, 6), (1, 3)),
    ((2, 20, 7, 9), (0, 1, 2, 3)),
    ((5, 130, 67), (1,)),
    ((3, 4, 777), (2,)),
    ((900, 3), (1,)),
    ((900, 3), (0,)),
    ((70,), (0,)),
    ((1, 1, 1), (0, 2)),
    ((6, 7), ()),
    ((), ()),
]


def random(rng: np.random.Generator, shape: Shape, kind: str, dtype: str = "float32") -> np.ndarray:
    """Numbers whose product neither vanishes nor overflows."""
    if kind == "prod":
        return (rng.choice([-1, 1], shape) * (rng.uniform(0.95, 1.05, shape) if dtype.startswith("f") else 1)).astype(dtype)
    return (rng.standard_normal(shape) * 20).astype(dtype)


def tolerance(x: np.ndarray, kind: str) -> tuple[float, float]:
    """Relative and absolute: a sum may cancel, a product gathers one error a factor."""
    if x.dtype.kind != "f" or kind in ("max", "min"):
        return 0.0, 0.0
    unit = float(np.finfo(x.dtype).eps)
    return (unit * (x.size if kind == "prod" else 1), unit * float(np.abs(x.astype(float)).sum()) if kind != "prod" else 0.0)


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape, axes", PLAIN, ids=str)
def test_plain(shape: Shape, axes: tuple[int, ...], kind: str, keepdims: bool, rng: np.random.Generator) -> None:
    x = random(rng, shape, kind)
    a = operand("x", x)
    check_node(Reduce(a, kind=kind, axes=axes, keepdims=keepdims), {a: x}, *tolerance(x, kind))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_blocked(kind: str, keepdims: bool, target: str, rng: np.random.Generator) -> None:
    layout = Blocked(1, Target.describe(target).lanes(F4))
    for shape, axes in [
        ((2, 20, 7, 7), (2, 3)),
        ((2, 35, 5, 6), (2,)),
        ((1, 16, 5, 6), (3,)),
        ((3, 70, 9), (2,)),
        ((1, 5, 3, 4, 5), (2, 4)),
    ]:
        x = random(rng, shape, kind)
        node = Reduce(operand("x", x, layout), kind=kind, axes=axes, keepdims=keepdims, layout=layout)
        for threads in (1, 2):
            assert_close(run_node(node, {node.x: x}, target, threads), expected(node, {node.x: x})[0], *tolerance(x, kind), str(node))


LANES: list[tuple[Shape, tuple[int, ...]]] = [
    ((2, 35, 7, 9), (1,)),
    ((1, 16, 5, 6), (1,)),
    ((3, 5, 6, 8), (1,)),
    ((2, 67, 1, 1), (1,)),
    ((2, 64, 3, 3), (1, 2, 3)),
    ((2, 35, 5, 7), (1, 3)),
    ((2, 35, 5, 7), (1, 2)),
    ((3, 20, 4, 5), (0, 1)),
    ((3, 20, 4, 5), (0, 1, 2, 3)),
    ((2, 33, 3, 4, 5), (1, 3)),
    ((2, 130), (1,)),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape, axes", LANES, ids=str)
def test_over_the_blocked_axis(shape: Shape, axes: tuple[int, ...], kind: str, target: str, rng: np.random.Generator) -> None:
    """The lanes are combined, and what lies in padding lanes does not count."""
    layout = Blocked(1, Target.describe(target).lanes(F4))
    x = random(rng, shape, kind)
    for keepdims in (True, False):
        node = Reduce(operand("x", x, layout), kind=kind, axes=axes, keepdims=keepdims)
        found = []
        for threads in (1, 2):
            run = NodeRun(node, {node.x: x}, target, threads)
            physical = run.places[run.base[node.x]].bytes.view(np.float32).reshape(node.x.type.physical_shape)
            physical[~to_physical(np.ones(shape, bool), layout)] = 7
            found += run.run()
            assert_close(found[-1], expected(node, {node.x: x})[0], *tolerance(x, kind), str(node))
        np.testing.assert_array_equal(*found)


def test_over_many_blocked_channels(rng: np.random.Generator) -> None:
    """Several units of work a row give what one image alone gives, bit for bit."""
    layout = Blocked(1, Target.describe(TARGETS[0]).lanes(F4))
    x = rng.standard_normal((3, 520, 23, 29)).astype(np.float32)
    node = Reduce(operand("x", x, layout), kind="mean", axes=(1,))
    together = run_node(node, {node.x: x}, threads=2)
    assert_close(together, x.astype(np.float64).mean(1, keepdims=True), 1e-6, 1e-6)
    for image, whole in zip(np.split(x, 3), together, strict=True):
        alone = Reduce(operand("x", image, layout), kind="mean", axes=(1,))
        np.testing.assert_array_equal(run_node(alone, {alone.x: image})[0], whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_dtypes(dtype: str, kind: str, rng: np.random.Generator) -> None:
    """Along the columns and across them; integer sums wrap around, integer means truncate."""
    for shape, axes in [((6, 143), (1,)), ((143, 6), (0,)), ((5, 7, 40), (0, 2))]:
        x = random(rng, shape, kind, dtype) if dtype[0] != "u" else rng.integers(0, 200, shape).astype(dtype)
        a = operand("x", x)
        check_node(Reduce(a, kind=kind, axes=axes), {a: x}, *tolerance(x, kind))


@pytest.mark.parametrize("kind", ["max", "min"])
def test_bool(kind: str, rng: np.random.Generator) -> None:
    for shape, axes in [((40, 5), (1,)), ((5, 140), (0,)), ((7, 100), (1,))]:
        x = rng.random(shape) < (0.1 if kind == "max" else 0.9)
        a = operand("x", x)
        check_node(Reduce(a, kind=kind, axes=axes), {a: x})


def test_half(rng: np.random.Generator) -> None:
    """float16 is accumulated in float32: the sum of 3000 ones and more is not stuck at 2048."""
    x = rng.uniform(0.5, 1.5, (4, 3000)).astype(np.float16)
    a = operand("x", x)
    check_node(Reduce(a, kind="sum", axes=(1,)), {a: x}, 1e-3)


def test_nan_and_infinity(rng: np.random.Generator) -> None:
    x = rng.standard_normal((30, 53)).astype(np.float32)
    x[3, 5], x[7, 50], x[9, 0], x[11] = np.nan, np.inf, -np.inf, -np.inf
    a = operand("x", x)
    for kind in ("max", "min", "sum"):
        for axes in ((0,), (1,)):
            check_node(Reduce(a, kind=kind, axes=axes), {a: x}, 1e-6, 1e-5)


def test_nothing_to_do_or_to_reduce() -> None:
    load_kernels()
    machine = Machine(Target.describe(TARGETS[0]), 1)
    assert lower(Reduce(operand("x", np.zeros((0, 4), np.float32)), kind="sum", axes=(1,)), machine) == []
    with pytest.raises(NoKernel, match="nothing to reduce"):
        lower(Reduce(operand("x", np.zeros((0, 4), np.float32)), kind="sum", axes=(0,)), machine)
    layout = Blocked(1, 16)
    with pytest.raises(NoKernel, match="axes after the blocked one"):
        lower(Reduce(operand("x", np.zeros((2, 4, 3), np.float32), layout), kind="sum", axes=(1,), layout=layout), machine)
    with pytest.raises(NoKernel, match="over the axis that is blocked"):
        lower(Reduce(operand("x", np.zeros((2, 4, 3), np.float32), layout), kind="sum", axes=(0,)), machine)


@pytest.mark.parametrize("axes, layout", [((2, 3), None), ((1,), None), ((1,), Blocked(1, 4))])
def test_compiles_for_neon(axes: tuple[int, ...], layout: Blocked | None) -> None:
    load_kernels()
    target = Target.describe("neon")
    node = Reduce(operand("x", np.zeros((2, 20, 7, 9), np.float32), layout), kind="mean", axes=axes)
    assert all(call.kernel.emit(target) for call in lower(node, Machine(target, 1)))
