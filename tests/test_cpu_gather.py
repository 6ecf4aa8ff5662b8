"""Gathers and scatters of the cpu backend against NumPy, and what they do with an index outside of its axis."""

import numpy as np
import pytest
from cpu_harness import check_node, operand, run_node

from tilewright.backends.cpu.gather import Walk
from tilewright.engine.graph import Node
from tilewright.engine.ops import Gather, GatherElements, GatherND, ScatterElements, ScatterND


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    return rng.integers(0, 2 if dtype == "?" else 100, shape).astype(dtype)


def values_of(**arrays: np.ndarray) -> tuple[list[Node], dict[Node, np.ndarray]]:
    operands: list[Node] = [operand(name, array) for name, array in arrays.items()]
    return operands, dict(zip(operands, arrays.values(), strict=True))


def positions(rng: np.random.Generator, extent: int, shape: tuple[int, ...], dtype: str = "i8") -> np.ndarray:
    """Indices from both ends."""
    return rng.integers(-extent, extent, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u1", "?"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(rng, dtype, axis):
    shape = (5, 7, 33)
    for indices in ((), (4,), (2, 3), (0,)):
        (x, i), values = values_of(x=numbers(rng, shape, dtype), i=positions(rng, shape[axis], indices))
        check_node(Gather(x, i, axis=axis), values)


def test_gather_by_small_integers_and_many_rows(rng):
    (x, i), values = values_of(x=numbers(rng, (300, 9, 2)), i=positions(rng, 9, (11,), "i4"))
    check_node(Gather(x, i, axis=1), values)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_gather_elements(rng, axis):
    shape, part = (5, 6, 7, 8), [3, 6, 7, 2]
    part[axis] = 9
    (x, i), values = values_of(x=numbers(rng, shape), i=positions(rng, shape[axis], tuple(part)))
    check_node(GatherElements(x, i, axis=axis), values)


@pytest.mark.parametrize(("batch", "depth"), [(0, 1), (0, 2), (0, 4), (1, 1), (1, 3), (2, 1), (2, 2)])
def test_gather_nd(rng, batch, depth):
    shape = (3, 4, 5, 6)
    tuples = (*shape[:batch], 7, 2, depth)
    indices = np.stack([positions(rng, shape[batch + d], tuples[:-1]) for d in range(depth)], axis=-1)
    (x, i), values = values_of(x=numbers(rng, shape), i=indices)
    check_node(GatherND(x, i, batch_dims=batch), values)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1"])
def test_scatter_elements(rng, reduction, dtype):
    shape, part = (5, 6, 7), (4, 6, 3)
    for axis in range(3):
        indices = np.stack([rng.permutation(shape[axis])[: part[axis]] for _ in range(10)])[:, : part[axis]]
        places = np.moveaxis(np.broadcast_to(indices[0], tuple(n for k, n in enumerate(part) if k != axis) + (part[axis],)), -1, axis)
        if reduction != "none":
            places = positions(rng, shape[axis], part)
        updates = numbers(rng, part, dtype)
        (x, i, u), values = values_of(x=numbers(rng, shape, dtype), i=places, u=updates)
        check_node(ScatterElements(x, i, u, axis=axis, reduction=reduction), values)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd(rng, reduction):
    shape = (5, 6, 7)
    for depth in (1, 2, 3):
        unique = np.stack(np.unravel_index(rng.permutation(np.prod(shape[:depth]))[:4], shape[:depth]), axis=-1)
        repeated = rng.integers(0, np.array(shape[:depth]), (9, depth))
        indices = unique if reduction == "none" else repeated
        updates = rng.standard_normal((len(indices), *shape[depth:]))
        (x, i, u), values = values_of(x=rng.standard_normal(shape), i=indices, u=updates)
        check_node(ScatterND(x, i, u, reduction=reduction), values)


def test_extremes_keep_nan(rng):
    data = np.array([1.0, np.nan, 3.0, -np.inf], np.float32)
    (x, i, u), values = values_of(x=data, i=np.array([0, 1, 2, 3]), u=np.array([np.nan, 5.0, 2.0, 7.0], np.float32))
    for reduction in ("max", "min"):
        check_node(ScatterElements(x, i, u, axis=0, reduction=reduction), values)


def test_bool_scatter(rng):
    for reduction in ("none", "add", "mul"):
        (x, i, u), values = values_of(x=numbers(rng, (9,), "?"), i=np.array([3, 1, 8, 0]), u=numbers(rng, (4,), "?"))
        check_node(ScatterElements(x, i, u, axis=0, reduction=reduction), values)


def test_the_last_update_of_a_place_stays():
    (x, i, u), values = values_of(x=np.zeros(3, np.float32), i=np.array([1, 1, 1]), u=np.array([5, 6, 7], np.float32))
    np.testing.assert_array_equal(run_node(ScatterElements(x, i, u, axis=0), values), [0, 7, 0])


def test_indices_outside_never_leave_the_operands(rng):
    data = numbers(rng, (4, 5))
    wild = np.array([0, 99, -99, 2**62, -(2**62)])
    (x, i), values = values_of(x=data, i=wild)
    np.testing.assert_array_equal(run_node(Gather(x, i, axis=0), values), data[[0, 3, 0, 3, 0]])
    (x, i, u), values = values_of(x=data, i=wild[:, None], u=numbers(rng, (5, 5)))
    want = data.copy()
    want[0] = values[u][0]
    np.testing.assert_array_equal(run_node(ScatterND(x, i, u), values), want)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 30, 31, 64, 210])
def test_a_long_list_of_indices_is_a_few_rows(rng, count):
    """Rows are what threads share; with one index each, finding out where a row begins would take longer than the rest."""
    for leading in (1, 3, 17):
        (x, i), values = values_of(x=numbers(rng, (leading, 12)), i=positions(rng, 12, (count,)))
        check_node(Gather(x, i, axis=1), values)
    rows, arguments = Walk([(3, 50, 0), (210, 0, 1)], [(50, 1)], 1).arguments(8)
    assert 8 <= rows <= 12 and arguments["columns"] == 3 * 210 // rows
