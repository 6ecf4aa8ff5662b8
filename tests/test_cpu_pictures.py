"""Pictures on the cpu backend: bytes taken apart into planes, and resized from where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import TARGETS, check_node, operand

import tilewright as tw
from tilewright.backends.cpu.kernel import Machine, lower
from tilewright.backends.cpu.picture_resize import PictureResize, read_pictures
from tilewright.backends.cpu.planes import Planes
from tilewright.backends.cpu.target import Target
from tilewright.engine.expression import Convert, Expression, Operand, apply
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import Resize, Slice, Transpose, cast, pointwise

F4 = np.dtype(np.float32)
X, Y, Z = (Convert(Operand(i), F4) for i in range(3))
Random = np.random.Generator


def numbers(rng: Random, shape: tuple[int, ...], dtype: str = "u1") -> np.ndarray:
    kind = np.dtype(dtype)
    return (rng.standard_normal(shape) * 3).astype(kind) if kind.kind == "f" else rng.integers(0, 100, shape).astype(kind)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_every_number_of_pixels(channels: int, rng: Random) -> None:
    for pixels in (*range(1, 20), 31, 32, 33, 47, 64, 65, 500):
        x = numbers(rng, (2, pixels, channels))
        a, b = operand("x", x), Constant(rng.random(channels, np.float32))
        check_node(Planes((a, b), expression=X * Y + 1.5), {a: x})


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("expression", [X * 2 + Y, apply("relu", X - Z) * Y, Y * Z - X], ids=["affine", "relu", "reversed"])
def test_dtypes_and_ranks(dtype: str, expression: Expression, rng: Random) -> None:
    for shape in ((1, 5, 7, 3), (3, 2, 3, 5, 4), (2, 9, 2)):
        x, z = numbers(rng, shape, dtype), numbers(rng, shape, dtype)
        a, b, c = operand("x", x), Constant(rng.random((1, shape[-1]), np.float32)), operand("z", z)
        check_node(Planes((a, b, c), expression=expression), {a: x, c: z}, absolute=1e-5)
        check_node(Planes((a, Constant(np.array(0.7, np.float32))), expression=X * Y), {a: x})


def test_a_photograph_is_many_units(rng: Random) -> None:
    x = numbers(rng, (2, 331, 257, 3))
    a = operand("x", x)
    node = Planes((a,), expression=X * (1 / 255))
    (call,) = lower(node, Machine(Target.describe(TARGETS[0]), 2))
    assert call.units >= 8
    check_node(node, {a: x})


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_resizes_of_parts(dtype: str, layout: str, rng: Random) -> None:
    for before, after, start, size in (
        ((9, 14), (5, 4), (1, 0), (3, 4)),
        ((5, 4), (13, 9), (2, 3), (10, 6)),
        ((6, 7), (6, 7), (1, 2), (4, 3)),
    ):
        shapes = [(2, *extents, 3) if layout == "nhwc" else (2, 3, *extents) for extents in (before, after, size)]
        starts = (0, *start, 0) if layout == "nhwc" else (0, 0, *start)
        x = numbers(rng, shapes[0], dtype)
        a = operand("x", x)
        scales = tuple(new / old for new, old in zip(shapes[1], shapes[0], strict=True))
        how: dict[str, Any] = {"mode": "linear", "antialias": True, "exclude_outside": True, "starts": starts, "sizes": shapes[2]}
        check_node(PictureResize(a, shape=shapes[1], scales=scales, **how), {a: x}, absolute=2e-5)


def given(*shape: int, dtype: str = "u1") -> Input:
    return Input(name="x", shape=shape, dtype=np.dtype(dtype))


def graph(*outputs: Node) -> Graph:
    (x,) = {node for output in outputs for node in Graph((), (output,), ("y",)).find(Input)}
    return Graph((x,), outputs, tuple(f"y{i}" for i in range(len(outputs))))  # type: ignore[arg-type]


def resized(x: Node) -> Resize:
    return Resize(x, shape=(1, 5, 4, 3), scales=(1.0, 5 / 9, 4 / 7, 1.0), mode="linear", antialias=True)


def first(x: Node) -> Transpose:
    return Transpose(x, permutation=(0, 3, 1, 2))


def cut(x: Node, step: int = 1) -> Slice:
    return Slice(x, starts=(0, 1, 0, 0), sizes=(1, 2, 3, 3), steps=(1, step, 1, 1))


def test_what_is_fused(rng: Random) -> None:
    """A picture is resized, cut and normalised in two steps, and the numbers stay as they are."""
    x = given(1, 9, 7, 3)
    before = graph(first(pointwise("mul", cut(resized(cast(x, F4))), Constant(rng.random(3, np.float32)))))
    after = read_pictures(before)
    assert [type(n) for n in after if not isinstance(n, Input | Constant)] == [PictureResize, Planes]
    image = numbers(rng, (1, 9, 7, 3))
    expected = tw.compile(before, backend="reference", passes=[])(image)
    np.testing.assert_allclose(tw.compile(after, backend="reference", passes=[])(image), expected, rtol=1e-5)
    session = tw.compile(before, passes=[])
    np.testing.assert_allclose(session(image), expected, rtol=1e-5)
    assert [step.engine for step in session.executable.steps] == ["vector", "vector"]  # type: ignore[attr-defined]


def test_what_is_not_fused() -> None:
    """Where others read what is between, in other orders of axes, for many channels, wide numbers, and steps."""
    x = given(1, 9, 7, 3)
    region = cast(x, F4)
    assert not read_pictures(graph(first(region), region)).find(Planes)
    assert not read_pictures(graph(resized(region), region)).find(PictureResize)
    whole = resized(region)
    kept = read_pictures(graph(cut(whole), whole))
    assert kept.find(Slice) and kept.find(PictureResize)
    assert not read_pictures(graph(Transpose(cast(x, F4), permutation=(0, 3, 2, 1)))).find(Planes)
    assert not read_pictures(graph(first(cast(given(1, 9, 7, 5), F4)))).find(Planes)
    assert not read_pictures(graph(resized(cast(given(1, 9, 7, 3, dtype="i4"), F4)))).find(PictureResize)
    assert read_pictures(graph(cut(resized(cast(x, F4)), step=2))).find(Slice)
    assert not read_pictures(graph(first(cast(given(1, 9, 7, 1), F4)))).find(Planes)
