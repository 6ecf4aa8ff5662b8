"""Data movement of the cpu backend: every operator, layout pair and element size, with odd shapes, against NumPy."""

import itertools

import numpy as np
import pytest
from cpu_harness import check_node, load_kernels, operand, run_node, runs

import tilewright as tw
from tilewright.backends.cpu.kernel import Machine, NoKernel, lower
from tilewright.backends.cpu.move import grid, lower_constant_gather
from tilewright.backends.cpu.strided import CopyKernel
from tilewright.backends.cpu.target import Target
from tilewright.engine.graph import Constant, Graph, Node
from tilewright.engine.ops import Concat, Expand, Gather, Pad, Reorder, Reshape, Slice, Transpose
from tilewright.engine.tensor import Blocked

DTYPES = ["f4", "f2", "u1", "f8", "?"]
BLOCKS = [8, 16]


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    return rng.integers(0, 2 if dtype == "?" else 100, shape).astype(dtype)


def layouts(rank: int = 4) -> list[tuple[Blocked | None, Blocked | None]]:
    """Pairs of layouts of an operand and of the result."""
    pairs: list[tuple[Blocked | None, Blocked | None]] = [(None, None)]
    for block in BLOCKS if rank > 1 else ():
        pairs += [(Blocked(1, block), None), (None, Blocked(1, block)), (Blocked(1, block), Blocked(1, block))]
    return pairs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 3, 17, 19), (2, 37, 9, 11), (1, 64, 20, 20), (3, 5), (2, 33, 4), (2, 16, 3, 4, 5)])
def test_reorder(rng, dtype, shape):
    values = numbers(rng, shape, dtype)
    for before, after in layouts():
        x = operand("x", values, before)
        check_node(Reorder(x, layout=after), {x: values})


def test_reorder_between_blocked_axes(rng):
    values = numbers(rng, (9, 21, 34))
    for before, after in itertools.permutations((Blocked(0, 16), Blocked(1, 16), Blocked(2, 16)), 2):
        x = operand("x", values, before)
        check_node(Reorder(x, layout=after), {x: values})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 33), (2, 17, 24), (2, 19, 5, 33), (2, 3, 4, 5, 6)])
def test_transpose(rng, dtype, shape):
    values = numbers(rng, shape, dtype)
    for permutation in itertools.islice(itertools.permutations(range(len(shape))), 24):
        x = operand("x", values)
        check_node(Transpose(x, permutation=permutation), {x: values})


def test_transpose_of_blocked_values(rng):
    values = numbers(rng, (2, 35, 5, 18))
    for permutation in itertools.permutations(range(4)):
        for before, after in ((Blocked(1, 16), None), (None, Blocked(1, 16)), (Blocked(1, 8), None), (None, Blocked(3, 16))):
            x = operand("x", values, before)
            check_node(Transpose(x, permutation=permutation, layout=after), {x: values})


def slice_of(x: Node, rng: np.random.Generator, steps: tuple[int, ...]) -> Slice:
    """A random slice with these steps."""
    starts, sizes = [], []
    for extent, step in zip(x.type.shape, steps, strict=True):
        start = int(rng.integers(extent))
        most = (extent - 1 - start) // step + 1 if step > 0 else start // -step + 1
        starts.append(start)
        sizes.append(int(rng.integers(1, most + 1)))
    return Slice(x, starts=tuple(starts), sizes=tuple(sizes), steps=steps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slice(rng, dtype):
    for shape in ((40,), (17, 33), (3, 18, 21), (2, 19, 5, 33), (2, 3, 4, 5, 6)):
        values = numbers(rng, shape, dtype)
        for _ in range(8):
            x = operand("x", values)
            check_node(slice_of(x, rng, tuple(map(int, rng.choice([1, 1, 2, 3, -1, -2], len(shape))))), {x: values})


@pytest.mark.parametrize("channels", [3, 16, 37, 64])
def test_slice_of_blocked_values(rng, channels):
    values = numbers(rng, (3, channels, 9, 10))
    for before, after in layouts():
        for steps in ((1, 1, 1, 1), (-1, 1, 2, -3), (2, 1, 1, 1)):
            x = operand("x", values, before)
            check_node(slice_of(x, rng, steps).replace(layout=after), {x: values})


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_along_the_blocked_axis(rng, dtype):
    for channels, step in itertools.product((5, 48, 58), (1, 2, 3, -1, -2)):
        values = numbers(rng, (2, channels, 5, 7), dtype)
        for block in BLOCKS:
            x = operand("x", values, Blocked(1, block))
            start = 0 if step > 0 else channels - 1
            count = (channels - 1) // abs(step) + 1
            node = Slice(x, starts=(0, start, 0, 0), sizes=(2, count, 5, 7), steps=(1, step, 1, 1), layout=Blocked(1, block))
            check_node(node, {x: values})


def test_channel_shuffle(rng):
    for channels in (5, 48, 96, 116):
        values = numbers(rng, (2, channels, 6, 30))
        shuffled = rng.permutation(channels)
        paired = np.concatenate([np.arange(0, channels, 2), np.arange(1, channels, 2)])
        for block, indices in itertools.product(BLOCKS, (shuffled, paired, np.array([-1, 0, -channels]))):
            x = operand("x", values, Blocked(1, block))
            check_node(Gather(x, Constant(indices), axis=1, layout=Blocked(1, block)), {x: values})


@pytest.mark.parametrize("dtype", DTYPES)
def test_concat(rng, dtype):
    for axis, extents in itertools.product(range(4), ((3, 4), (16, 1, 5), (1, 0, 7, 2))):
        arrays = [numbers(rng, tuple(n if i == axis else e for i, e in enumerate((2, 5, 3, 9))), dtype) for n in extents]
        operands = [operand(f"x{i}", a) for i, a in enumerate(arrays)]
        check_node(Concat(tuple(operands), axis=axis), dict(zip(operands, arrays, strict=True)))


@pytest.mark.parametrize("channels", [(16, 32), (32, 16, 5), (24, 24), (58, 58), (4, 3, 2), (7, 9), (3, 40, 21, 1)])
def test_concat_of_blocked_values(rng, channels):
    arrays = [numbers(rng, (2, c, 5, 7)) for c in channels]
    for before, after in layouts():
        operands = [operand(f"x{i}", a, before) for i, a in enumerate(arrays)]
        check_node(Concat(tuple(operands), axis=1, layout=after), dict(zip(operands, arrays, strict=True)))


def test_concat_along_other_axes_of_blocked_values(rng):
    for axis in (0, 2, 3):
        arrays = [numbers(rng, tuple(n if i == axis else e for i, e in enumerate((2, 21, 3, 4)))) for n in (2, 5)]
        operands = [operand(f"x{i}", a, Blocked(1, 16)) for i, a in enumerate(arrays)]
        check_node(Concat(tuple(operands), axis=axis, layout=Blocked(1, 16)), dict(zip(operands, arrays, strict=True)))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(rng, mode):
    for dtype, shape in itertools.product(DTYPES, ((5,), (3, 17), (1, 4, 6, 7))):
        values = numbers(rng, shape, dtype)
        x = operand("x", values)
        for most in (1, 3, 40 if len(shape) < 4 else 8):
            pads = tuple((int(a), int(b)) for a, b in rng.integers(0, most + 1, (len(shape), 2)))
            check_node(Pad(x, pads=pads, mode=mode, value=1), {x: values})


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("channels", [3, 32, 37])
def test_pad_of_blocked_values(rng, mode, channels):
    values = numbers(rng, (2, channels, 6, 7))
    for before, after in layouts():
        for pads in (((0, 0), (0, 0), (1, 1), (2, 2)), ((0, 1), (0, 0), (3, 0), (0, 2))):
            x = operand("x", values, before)
            check_node(Pad(x, pads=pads, mode=mode, value=2.5, layout=after), {x: values})


def test_pad_channels_of_blocked_values(rng):
    values = numbers(rng, (1, 19, 4, 5))
    for block, pads in itertools.product(BLOCKS, (((0, 0), (3, 5), (0, 0), (1, 0)), ((0, 0), (16, 0), (0, 0), (0, 0)))):
        x = operand("x", values, Blocked(1, block))
        check_node(Pad(x, pads=pads, value=-3.0, layout=Blocked(1, block)), {x: values})


def test_pad_with_infinity_keeps_padding_lanes_finite(rng):
    values = numbers(rng, (1, 19, 4, 5))
    x = operand("x", values, Blocked(1, 16))
    check_node(Pad(x, pads=((0, 0), (0, 0), (1, 1), (1, 1)), value=-np.inf, layout=Blocked(1, 16)), {x: values})


@pytest.mark.parametrize("dtype", DTYPES)
def test_expand(rng, dtype):
    for shape, result in (((1,), (70,)), ((5, 1), (5, 19)), ((1, 7), (4, 3, 7)), ((3, 1, 5, 1), (2, 3, 4, 5, 33)), ((), (3, 2))):
        values = numbers(rng, shape, dtype)
        x = operand("x", values)
        check_node(Expand(x, shape=result), {x: values})


def test_expand_of_blocked_values(rng):
    for shape in ((2, 21, 1, 1), (1, 1, 5, 6), (1, 21, 5, 1)):
        values = numbers(rng, shape)
        for before, after in layouts():
            if before is None or after is None or shape[1] > 1:
                x = operand("x", values, before)
                check_node(Expand(x, shape=(2, 21, 5, 6), layout=after), {x: values})


def test_reshape_copies(rng):
    values = numbers(rng, (3, 5, 7))
    x = operand("x", values)
    check_node(Reshape(x, shape=(7, 15)), {x: values})


def test_large_copies_are_shared_by_threads(rng):
    values = numbers(rng, (1, 64, 56, 56))
    x = operand("x", values)
    for name, threads in runs():
        calls = lower(Reorder(x, layout=Blocked(1, 16)), Machine(Target.describe(name), threads))
        assert len(calls) == 1
        assert calls[0].units // calls[0].grain >= threads
    np.testing.assert_array_equal(run_node(Transpose(x, permutation=(0, 2, 3, 1)), {x: values}, threads=2), values.transpose(0, 2, 3, 1))


def test_empty_results(rng):
    values = numbers(rng, (0, 4))
    x = operand("x", values)
    check_node(Transpose(x, permutation=(1, 0)), {x: values})
    check_node(Pad(x, pads=((1, 2), (0, 1)), value=4), {x: values})


@pytest.mark.parametrize("dtype", ["f4", "u1", "f8"])
@pytest.mark.parametrize("channels", [2, 3, 4, 5, 8])
def test_alternating_channels(rng, dtype, channels):
    for shape, permutation in (((2, channels, 7, 45), (0, 2, 3, 1)), ((2, 7, 45, channels), (0, 3, 1, 2)), ((130, channels), (1, 0))):
        values = numbers(rng, shape, dtype)
        x = operand("x", values)
        node = Transpose(x, permutation=permutation)
        check_node(node, {x: values})
        if len(shape) == 4:
            check_node(node.replace(layout=Blocked(1, 16)), {x: values})


def test_a_photo_is_taken_apart_by_shuffles(rng):
    x = operand("x", numbers(rng, (1, 24, 24, 3), "u1"))
    calls = lower(Transpose(x, permutation=(0, 3, 1, 2)), Machine(Target.describe("avx2"), 1))
    assert [c.kernel for c in calls] == [CopyKernel("unzip", 1, 3)]


def test_gather_by_known_indices_is_a_few_slices(rng):
    for indices in (2, -1, [3, 4, 5], [0, 2, 4, -1], [5, 3, 1], [7, 7, 7], [0, 1, 2, 6, 5, 4]):
        for axis, before in itertools.product((0, 1, 2), (None, Blocked(0, 8))):
            values = numbers(rng, (9, 8, 10))
            x = operand("x", values, before)
            node = Gather(x, Constant(np.array(indices)), axis=axis)
            check_node(node, {x: values})
            calls = lower(node, Machine(Target.describe("avx2"), 1))
            assert all(isinstance(call.kernel, CopyKernel) for call in calls)


def differences(rows: int, columns: int) -> np.ndarray:
    """column - row, from 0 on."""
    return np.arange(columns) - np.arange(rows)[:, None] + rows - 1


MACHINE = Machine(Target.describe("avx2"), 1)
GRIDS = {
    "rows and columns": (np.arange(0, 9, 4)[:, None] + np.arange(3)).ravel(),
    "differences": differences(5, 6),
    "repeated": np.repeat(np.arange(10), 3),
    "again and again": np.tile(np.arange(3, -1, -1), 5),
    "three axes": np.array([4, 6, 8])[:, None, None] + np.array([0, 1])[:, None] - np.array([0, 2, 4]),
    "in two runs": np.roll(np.arange(10), 4).reshape(2, 5),
}


@pytest.mark.parametrize("dtype", ["f4", "u1", "f8"])
@pytest.mark.parametrize("name", GRIDS)
def test_gather_by_indices_that_are_a_grid_is_one_copy(rng, name, dtype):
    load_kernels()
    values = numbers(rng, (11, 12, 13), dtype)
    x = operand("x", values)
    for axis in range(3):
        node = Gather(x, Constant(GRIDS[name]), axis=axis)
        calls = lower(node, MACHINE)
        assert all(isinstance(call.kernel, CopyKernel) for call in calls)
        assert len(calls) == (2 if name == "in two runs" else 1)
        check_node(node, {x: values})


def test_indices_that_are_no_grid():
    for indices in ([0, 1, 3], [0, 1, 4, 5, 8], [0, 2, 1, 3, 4, 6, 6, 7], [0, 1, 5, 6, 11, 12]):
        assert grid(np.array(indices)) is None
    assert grid(np.array([0, 1, 5, 6, 10, 11])) == [(3, 5), (2, 1)]
    assert grid(np.array([7])) == [(1, 1)]
    with pytest.raises(NoKernel, match="more than 4 runs"):
        lower_constant_gather(Gather(operand("x", np.zeros((2, 20))), Constant(np.array([0, 3, 4, 9, 1, 2, 7, 11, 5, 5])), axis=1), MACHINE)


def test_movement_that_merges_into_one_gather_needs_no_numba(rng):
    """Every third column of every second row, written as slices and reshapes."""
    x = operand("x", numbers(rng, (2, 60, 5)))
    rows = Slice(Reshape(x, shape=(2, 6, 10, 5)), starts=(0, 1, 0, 0), sizes=(2, 3, 10, 5), steps=(1, 2, 1, 1))
    chosen = Slice(Reshape(rows, shape=(2, 30, 5)), starts=(0, 1, 0), sizes=(2, 10, 5), steps=(1, 3, 1))
    session = tw.compile(Graph((x,), (chosen,), ("y",)))
    values = rng.standard_normal((2, 60, 5)).astype(np.float32)
    np.testing.assert_array_equal(session.run({"x": values})["y"], values.reshape(2, 6, 10, 5)[:, 1::2].reshape(2, 30, 5)[:, 1::3])
    assert "0 numba steps" in str(session.plan)
