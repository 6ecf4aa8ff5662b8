"""Copies on the emulated GPU: every operator that only moves data, between plain values and those with channels last."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import calls_of, channels_last, given, random
from cuda_harness import check_node, needs_compiler

from tilewright.backends.cuda.copies import CopyKernel, TurnKernel
from tilewright.engine.ops import Concat, Expand, Reorder, Reshape, Slice, Transpose
from tilewright.engine.tensor import Blocked

pytestmark = needs_compiler
F2, F4 = np.float16, np.float32
DTYPES = [np.dtype(t) for t in (np.float32, np.float16, np.int8, np.int64, bool)]


@pytest.mark.parametrize("channels", [1, 3, 4, 9, 37])
@pytest.mark.parametrize("dtype", [F4, F2])
def test_reorders(channels: int, dtype: Any) -> None:
    for shape in ((2, channels, 5, 9), (1, channels, 35), (2, channels, 3, 2, 7))[:: 2 if dtype is F4 else 3]:
        last = channels_last(dtype, channels)
        for before, after in ((None, last), (last, None)):
            x, values = given(shape, dtype, before)
            calls = check_node(Reorder(x, layout=after), values, 0)
            assert isinstance(calls[0].kernel, TurnKernel if channels == 37 else CopyKernel)


def test_a_picture_becomes_packs_of_channels() -> None:
    x, _ = given((1, 3, 224, 224))
    (call,) = calls_of(Reorder(x, layout=Blocked(1, 4)))
    assert isinstance(call.kernel, CopyKernel) and call.kernel.parts[0].inner.extent == 4 and call.kernel.parts[0].items == 224 * 224


@pytest.mark.parametrize("permutation", list(itertools.permutations(range(4)))[1::5])
def test_transposes(permutation: tuple[int, ...]) -> None:
    for dtype in (F4, np.int8):
        x, values = given((2, 18, 3, 19), dtype)
        check_node(Transpose(x, permutation=permutation), values, 0)
    x, values = given((2, 6, 5, 7), F4, Blocked(1, 8))
    check_node(Transpose(x, permutation=permutation), values, 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_slices(dtype: np.dtype) -> None:
    cuts: list[dict[str, Any]] = [
        {"starts": (0, 4, 1, 0), "sizes": (2, 8, 4, 8), "steps": (1, 1, 1, 1)},
        {"starts": (1, 15, 5, 7), "sizes": (1, 5, 3, 8), "steps": (1, -3, -2, -1)},
        {"starts": (0, 3, 0, 1), "sizes": (2, 5, 3, 3), "steps": (1, 1, 2, 2)},
    ]
    for cut in cuts if dtype == F4 else cuts[1:2]:
        x, values = given((2, 16, 6, 8), dtype)
        check_node(Slice(x, **cut), values, 0)
        if dtype.kind == "f":
            x, values = given((2, 16, 6, 8), dtype, Blocked(1, 16))
            check_node(Slice(x, layout=channels_last(dtype, cut["sizes"][1]), **cut), values, 0)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_concats(axis: int) -> None:
    cases = (((3, 5, 4), False), ((3, 5, 4), True), ((4, 8, 4), True), ((1,) * 11, True))
    for extents, last in cases if axis == 1 else cases[:2]:
        shapes = [[2, 6, 3, 5] for _ in extents]
        for shape, extent in zip(shapes, extents, strict=True):
            shape[axis] = extent
        data = [random(tuple(shape)) + i for i, shape in enumerate(shapes)]
        xs = [operand(f"x{i}", a, channels_last(F4, a.shape[1]) if last else None) for i, a in enumerate(data)]
        result = channels_last(F4, sum(extents) if axis == 1 else 6) if last else None
        calls = check_node(Concat(tuple(xs), axis=axis, layout=result), dict(zip(xs, data, strict=True)), 0)
        assert len(calls) == -(-len(extents) // 8)


def test_operands_that_may_be_in_place_have_steps_of_their_own() -> None:
    data = [random((1, n, 4, 4)) for n in (3, 4)]
    xs = [operand(f"x{i}", a) for i, a in enumerate(data)]
    assert len(check_node(Concat(tuple(xs), axis=1), dict(zip(xs, data, strict=True)), 0)) == 1
    computed = [Transpose(x, permutation=(0, 1, 3, 2)) for x in xs]
    assert [call.arguments["source"] for call in calls_of(Concat(tuple(computed), axis=1))] == computed
    assert len(calls_of(Concat(tuple(Reshape(t, shape=t.type.shape) for t in computed), axis=1))) == 1


def test_the_rest() -> None:
    x, values = given((3, 1, 5))
    check_node(Expand(x, shape=(2, 3, 4, 5)), values, 0)
    x, values = given((1, 6, 1, 5), F4, Blocked(1, 8))
    check_node(Expand(x, shape=(2, 6, 3, 5), layout=Blocked(1, 8)), values, 0)
    check_node(Expand(x, shape=(2, 6, 3, 5)), values, 0)
    x, values = given((3, 10, 7), np.int8)
    check_node(Reshape(x, shape=(21, 10)), values)
    x, values = given((2, 6, 1, 1), F4, Blocked(1, 8))
    check_node(Reshape(x, shape=(2, 6), layout=Blocked(1, 8)), values, 0)
    x, values = given((), np.int64)
    check_node(Expand(x, shape=(3,)), values)
    check_node(Reshape(x, shape=(1,)), values)
