"""Pointwise regions on the cpu backend: broadcasting, layouts, tails, memory that is both operand and result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cpu_harness import TARGETS, NodeRun, assert_close, check_node, expected, load_kernels, operand, run_node

from tilewright.backends.cpu.kernel import Machine, NoKernel, lower
from tilewright.backends.cpu.target import Target
from tilewright.engine.expression import Convert, Expression, Operand, apply
from tilewright.engine.graph import Constant
from tilewright.engine.ops import Pointwise
from tilewright.engine.tensor import Blocked

X, Y, Z = map(Operand, range(3))
F4 = np.dtype(np.float32)
Shape = tuple[int, ...]


def blocked(target: str, axis: int = 1) -> Blocked:
    return Blocked(axis, Target.describe(target).lanes(F4))


def random(rng: np.random.Generator, shape: Shape, dtype: str = "float32") -> np.ndarray:
    return (rng.standard_normal(shape) * 5).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "int64", "uint16"])
def test_every_length(dtype: str, rng: np.random.Generator) -> None:
    """Lengths around all multiples of the vector, with a loop and without; a scalar; a length of many units."""
    for length in (*range(1, 20), 31, 32, 33, 63, 65, 127, 130, 1000):
        x = random(rng, (length,), dtype)
        a = operand("x", x)
        check_node(Pointwise((a,), expression=X * 2 + X), {a: x}, 1e-3 if dtype == "float16" else 1e-7)
    x = random(rng, (), dtype)
    a = operand("x", x)
    check_node(Pointwise((a,), expression=X + 3), {a: x}, 1e-3)


def test_many_units(rng: np.random.Generator) -> None:
    x, y = random(rng, (300, 1001)), random(rng, (300, 1))
    a, b = operand("x", x), operand("y", y)
    node = Pointwise((a, b), expression=apply("silu", X) * Y)
    (call,) = lower(node, Machine(Target.describe(TARGETS[0]), 2))
    assert call.units >= 8
    check_node(node, {a: x, b: y}, 4e-7)


def test_nothing_to_do() -> None:
    load_kernels()
    a = operand("x", np.zeros((3, 0, 2), np.float32))
    assert lower(Pointwise((a,), expression=X + 1), Machine(Target.describe(TARGETS[0]), 1)) == []


PLAIN: list[tuple[Shape, ...]] = [
    ((3, 5, 7), (7,), (5, 1)),
    ((3, 5, 7), (3, 1, 1), (1, 5, 7)),
    ((4, 1, 6, 1), (1, 5, 1, 9), (9,)),
    ((2, 3, 4, 5, 6), (3, 1, 5, 1), (2, 1, 4, 1, 6)),
    ((40, 33), (40, 1), (33,)),
    ((1,), (1, 1), (40, 70)),
    ((), (21, 4), (21, 1)),
    ((200, 2), (200, 1), (1, 2)),
    ((7, 1, 300), (1, 9, 1), (7, 9, 300)),
]


@pytest.mark.parametrize("shapes", PLAIN, ids=str)
def test_broadcasting(shapes: tuple[Shape, ...], rng: np.random.Generator) -> None:
    arrays = [random(rng, s) for s in shapes]
    inputs = tuple(operand(f"x{i}", a) for i, a in enumerate(arrays))
    check_node(Pointwise(inputs, expression=X * Y - Z), dict(zip(inputs, arrays, strict=True)), 2e-7, 2e-6)


BLOCKED: list[tuple[int, tuple[Shape, ...]]] = [
    (1, ((2, 20, 5, 6), (2, 20, 5, 6))),
    (1, ((2, 20, 5, 6), (2, 20, 1, 1))),
    (1, ((2, 20, 5, 6), (1, 20, 1, 1))),
    (1, ((2, 20, 5, 6), (2, 1, 5, 6))),
    (1, ((2, 20, 5, 6), (5, 6))),
    (1, ((2, 20, 5, 6), (6,))),
    (1, ((2, 20, 5, 6), ())),
    (1, ((2, 20, 5, 6), (2, 20, 5, 1))),
    (1, ((2, 1, 5, 6), (2, 1, 1, 6))),
    (1, ((3, 35, 9), (3, 35, 9))),
    (1, ((1, 16, 2, 3, 4), (1, 16, 1, 3, 1))),
    (1, ((5, 33), (5, 33))),
    (2, ((2, 3, 37), (2, 3, 37))),
    (2, ((2, 3, 37), (2, 3, 1))),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis, shapes", BLOCKED, ids=str)
def test_blocked(axis: int, shapes: tuple[Shape, ...], target: str, rng: np.random.Generator) -> None:
    """Full operands and those with all channels are blocked, the others plain; also where padding lanes divide zero by zero."""
    layout = blocked(target, axis)
    arrays = [random(rng, s) for s in shapes]
    layouts = [layout if len(s) == len(shapes[0]) and s[axis] == shapes[0][axis] else None for s in shapes]
    inputs = tuple(operand(f"x{i}", a, l) for i, (a, l) in enumerate(zip(arrays, layouts, strict=True)))
    for expression in (X * Y - 1, X / Y, apply("max", X, 0) + apply("log", apply("abs", Y))):
        check(Pointwise(inputs, expression=expression, layout=layout), arrays, target)


def check(node: Pointwise, arrays: list[np.ndarray], target: str, relative: float = 4e-7, absolute: float = 2e-6) -> None:
    values = dict(zip(node.inputs, arrays, strict=False))
    for threads in (1, 2):
        assert_close(run_node(node, values, target, threads), expected(node, values)[0], relative, absolute, str(node))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(20, 1, 1), (1, 20, 1, 1), (2, 20, 3, 4), (3, 4), ()], ids=str)
def test_constant_of_a_blocked_region(shape: Shape, target: str, rng: np.random.Generator) -> None:
    """A plain constant, as the slope of PRelu is, meets a blocked value."""
    layout = blocked(target)
    x, slope = random(rng, (2, 20, 3, 4)), random(rng, shape)
    node = Pointwise((operand("x", x, layout), Constant(slope)), expression=apply("where", X < 0, X * Y, X), layout=layout)
    check(node, [x], target)


@pytest.mark.parametrize("target", TARGETS)
def test_in_place(target: str, rng: np.random.Generator) -> None:
    for layout, shape in itertools.product((None, blocked(target)), [(2, 21, 50, 31), (3, 5, 1, 2)]):
        x, y = random(rng, shape), random(rng, (shape[0], shape[1], 1, 1))
        a, b = operand("x", x, layout), operand("y", y, layout)
        node = Pointwise((a, b), expression=apply("sigmoid", X * Y) + X, layout=layout)
        for threads in (1, 2):
            found = NodeRun(node, {a: x, b: y}, target, threads, in_place=a).run()[0]
            assert_close(found, expected(node, {a: x, b: y})[0], 4e-7, 2e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bool"])
def test_short_rows_in_place(dtype: str, target: str, rng: np.random.Generator) -> None:
    """Rows of every length up to a few vectors, whose ends are not whole ones; no row touches the next."""
    expression = apply("xor", X, Y) if dtype == "bool" else X - Y
    for columns in range(1, 40):
        x, y = random(rng, (7, columns)) > 0, random(rng, (7, 1)) > 0
        if dtype != "bool":
            x, y = random(rng, x.shape, dtype), random(rng, y.shape, dtype)
        a, b = operand("x", x), operand("y", y)
        node = Pointwise((a, b), expression=expression)
        wanted = expected(node, {a: x, b: y})[0]
        for place in (a, None):
            assert_close(NodeRun(node, {a: x, b: y}, target, 1, in_place=place).run()[0], wanted, 1e-3 if dtype == "float16" else 1e-6)


MIXED: list[tuple[list[str], Expression]] = [
    (["float32", "int64"], X + Convert(Y, F4)),
    (["bool", "float32", "float32"], apply("where", X, Y, Z)),
    (["uint8"], Convert(X, F4) * (1 / 255)),
    (["float32"], apply("less", X, 0.5)),
    (["bool", "bool"], apply("or", X, apply("not", Y))),
    (["float16", "float32"], Convert(X, F4) * Y),
    (["int32", "int64"], Convert(X, np.dtype(np.int64)) * Y),
    (["float64", "uint8"], Convert(apply("floor", X), np.dtype(np.int16)) + Convert(Y, np.dtype(np.int16))),
]


@pytest.mark.parametrize("dtypes, expression", MIXED, ids=str)
def test_mixed_dtypes(dtypes: list[str], expression: Expression, rng: np.random.Generator) -> None:
    """Vectors of different widths in one region, with tails and a broadcast operand."""
    for shape in [(5, 67), (3, 2), (1000,)]:
        arrays = [(rng.uniform(0, 100, shape if i == 0 else shape[-1:])).astype(d) for i, d in enumerate(dtypes)]
        arrays = [rng.random(a.shape) < 0.5 if a.dtype == bool else a for a in arrays]
        inputs = tuple(operand(f"x{i}", a) for i, a in enumerate(arrays))
        check_node(Pointwise(inputs, expression=expression), dict(zip(inputs, arrays, strict=True)), 1e-7)


def test_nan_and_infinity(rng: np.random.Generator) -> None:
    x, y = random(rng, (37,)), random(rng, (37,))
    x[::5], y[::7], x[3], y[3] = np.nan, np.nan, np.inf, -np.inf
    a, b = operand("x", x), operand("y", y)
    for expression in (apply("max", X, Y), apply("min", X, Y), apply("relu", X), apply("clip", X, -1, 1), apply("max", 1, X)):
        check_node(Pointwise((a, b), expression=expression), {a: x, b: y}, 0)


def test_declines_layouts_that_do_not_fit() -> None:
    load_kernels()
    machine = Machine(Target.describe(TARGETS[0]), 1)
    layout = blocked(TARGETS[0])
    full, plain = np.zeros((2, 20, 3, 3), np.float32), np.zeros((20, 1, 1), np.float32)
    x, y = operand("x", full, layout), operand("y", plain)
    with pytest.raises(NoKernel, match="a plain operand"):
        lower(Pointwise((x, y), expression=X + Y, layout=layout), machine)
    with pytest.raises(NoKernel, match="a blocked operand"):
        lower(Pointwise((x, x), expression=X + Y), machine)
    with pytest.raises(NoKernel, match="blocked otherwise"):
        lower(Pointwise((x, operand("z", full, Blocked(2, layout.block))), expression=X + Y, layout=layout), machine)
