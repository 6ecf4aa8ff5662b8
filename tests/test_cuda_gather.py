"""Gathers and scatters on the emulated GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import calls_of, channels_last, given
from cuda_harness import NodeRun, check_node, needs_compiler

from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.emulator.launch import BASIC
from tilewright.backends.cuda.kernel import Machine
from tilewright.engine.graph import Constant, Node
from tilewright.engine.ops import Gather, GatherElements, GatherND, ScatterElements, ScatterND

pytestmark = needs_compiler
F2, F4, F8 = np.float16, np.float32, np.float64
REDUCTIONS = ["none", "add", "mul", "max", "min"]


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = F4) -> np.ndarray:
    return rng.integers(0, 2 if dtype is bool else 9, shape).astype(dtype)


def values_of(**arrays: np.ndarray) -> tuple[list[Node], dict[Node, np.ndarray]]:
    operands: list[Node] = [operand(name, array) for name, array in arrays.items()]
    return operands, dict(zip(operands, arrays.values(), strict=True))


def positions(rng: np.random.Generator, extent: int, shape: tuple[int, ...], dtype: Any = np.int64) -> np.ndarray:
    """Indices from both ends."""
    return rng.integers(-extent, extent, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [F4, F2, np.int64, bool])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(axis: int, dtype: Any, rng: np.random.Generator) -> None:
    shape = (5, 7, 12)
    for indices in ((4,), (2, 3)) if axis else ((), (2, 3)):
        (x, i), values = values_of(x=numbers(rng, shape, dtype), i=positions(rng, shape[axis], indices, np.int32))
        (call,) = check_node(Gather(x, i, axis=axis), values)
        assert (", 4> own" in call.kernel.source() or "Pack<float, 4> result" in call.kernel.source()) == (axis < 2 and dtype is F4)


def test_gather_with_channels_last(rng: np.random.Generator) -> None:
    """Channels in another order, rows, and plain results."""
    x, values = given((2, 6, 5, 3), F4, channels_last(F4, 6))
    for axis, count in ((1, 9), (3, 7), (0, 3)):
        i = operand("i", positions(rng, x.type.shape[axis], (count,)))
        shape = tuple(count if k == axis else n for k, n in enumerate(x.type.shape))
        given_values = values | {i: positions(rng, x.type.shape[axis], (count,))}
        for layout in (channels_last(F4, shape[1]), None):
            check_node(Gather(x, i, axis=axis, layout=layout), given_values)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_gather_elements(axis: int, rng: np.random.Generator) -> None:
    shape, part = (5, 6, 7, 8), [3, 6, 7, 2]
    part[axis] = 9
    (x, i), values = values_of(x=numbers(rng, shape), i=positions(rng, shape[axis], tuple(part)))
    check_node(GatherElements(x, i, axis=axis), values)


@pytest.mark.parametrize(("batch", "depth"), [(0, 1), (0, 2), (0, 4), (1, 1), (1, 3), (2, 1), (2, 2)])
def test_gather_nd(batch: int, depth: int, rng: np.random.Generator) -> None:
    shape = (3, 4, 5, 6)
    tuples = (*shape[:batch], 7, 2, depth)
    indices = np.stack([positions(rng, shape[batch + d], tuples[:-1]) for d in range(depth)], axis=-1)
    (x, i), values = values_of(x=numbers(rng, shape), i=indices)
    check_node(GatherND(x, i, batch_dims=batch), values)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scatter_elements(reduction: str, rng: np.random.Generator) -> None:
    """Many updates for each place."""
    for axis, dtype in ((0, F4), (1, np.int32), (2, F2)) if reduction != "add" else ((1, bool), (2, F4)):
        part = [4, 6, 3]
        part[axis] = 9
        arrays = {"x": numbers(rng, (5, 6, 7), dtype), "i": positions(rng, (5, 6, 7)[axis], tuple(part))}
        (x, i, u), values = values_of(**arrays, u=(numbers(rng, tuple(part), dtype) * 0.5).astype(dtype))
        check_node(ScatterElements(x, i, u, axis=axis, reduction=reduction), values, 2e-3 if dtype is F2 else 1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scatter_nd(reduction: str, rng: np.random.Generator) -> None:
    for depth, dtype in ((1, F4), (2, F8), (3, np.uint8)):
        tuples, shape = (5, 4, depth), (3, 4, 6)
        indices = np.stack([positions(rng, shape[d], tuples[:-1], np.int32) for d in range(depth)], axis=-1)
        updates = numbers(rng, (*tuples[:-1], *shape[depth:]), dtype)
        (x, i, u), values = values_of(x=numbers(rng, shape, dtype), i=indices, u=updates)
        check_node(ScatterND(x, i, u, reduction=reduction), values, 1e-6)


def test_sums_in_the_order_of_the_updates(rng: np.random.Generator) -> None:
    """Large and small numbers, so that another order gives other bits."""
    data, updates = np.zeros(3, F4), (rng.standard_normal(200) * 10.0 ** rng.integers(-6, 7, 200)).astype(F4)
    indices = rng.integers(0, 3, (200, 1))
    (x, i, u), values = values_of(x=data, i=indices, u=updates)
    run = NodeRun(ScatterND(x, i, u, reduction="add"), values, Machine(ARCHITECTURES["sm_90"]))
    wanted = data.copy()
    np.add.at(wanted, indices[:, 0], updates)
    for schedule in BASIC:
        assert run.run(schedule)[0].tobytes() == wanted.tobytes()


def test_indices_that_differ_need_no_search() -> None:
    x, u = operand("x", np.zeros((9, 4), F4)), operand("u", np.zeros((3, 4), F4))
    for indices, searches in (([[1], [4], [-1]], False), ([[1], [4], [-5]], True)):
        _, call = calls_of(ScatterND(x, Constant(np.array(indices)), u))
        assert ("other" in call.kernel.source()) == searches


def test_indices_outside_of_their_axis(rng: np.random.Generator) -> None:
    """What NumPy refuses touches nothing else: a gather reads the nearest element, a scatter leaves the update out."""
    data, indices = np.arange(5, dtype=F4), np.array([7, -9, 2])
    (x, i, u), values = values_of(x=data, i=indices, u=np.full(3, 50, F4))
    machine = Machine(ARCHITECTURES["sm_90"])
    gathered = NodeRun(Gather(x, i, axis=0), {x: data, i: indices}, machine).run(BASIC[0])[0]
    np.testing.assert_array_equal(gathered, [4, 0, 2])
    scattered = NodeRun(ScatterElements(x, i, u, axis=0), values, machine).run(BASIC[0])[0]
    np.testing.assert_array_equal(scattered, [0, 1, 50, 3, 4])
