"""Where values live: what needs no memory of its own, what is computed inside another value, and that nothing is overwritten too early."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright as tw
from tilewright.backends.common.storage import ARENA, FIRST_INPUT, Storage
from tilewright.backends.cpu.constants import Constants
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.kernel import LateTable, Table
from tilewright.backends.cpu.layout import assign_layouts
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import Concat, Conv, MaxPool, Pointwise, Reorder, Reshape, Slice, pointwise
from tilewright.engine.tensor import Blocked

LANES = 16


def conv(x: Node, k: int, rng: np.random.Generator, kernel: int = 1) -> Conv:
    weight = rng.standard_normal((k, x.type.shape[1], kernel, kernel)).astype(np.float32)
    return Conv(x, Constant(weight), None, pads=((kernel // 2, kernel // 2),) * 2)


def image(channels: int = 32, n: int = 1) -> Input:
    return Input(name="x", shape=(n, channels, 6, 5))


def agrees_with_reference(graph: Graph, rng: np.random.Generator) -> NativeExecutable:
    inputs = [rng.standard_normal(i.type.shape).astype(np.float32) for i in graph.inputs]
    expected = tw.compile(graph, backend="reference", passes=[], precision="float64").run(
        {i.name: a for i, a in zip(graph.inputs, inputs, strict=True)}
    )
    session = tw.compile(graph, passes=[])
    for _ in range(2):
        actual = session.run({i.name: a for i, a in zip(graph.inputs, inputs, strict=True)})
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, atol=2e-5 * np.abs(value).max())
    executable = session.executable
    assert isinstance(executable, NativeExecutable)
    return executable


def test_blocked_from_first_to_last_convolution(rng: np.random.Generator) -> None:
    x = image(3)
    node = conv(pointwise("relu", MaxPool(conv(x, 40, rng, 3), kernel=(2, 2))), 20, rng)
    laid_out = assign_layouts(Graph((x,), (node,), ("y",)), LANES)
    assert [n.opname for n in laid_out if isinstance(n, Reorder)] == ["reorder"], str(laid_out)
    assert laid_out.find(MaxPool)[0].type.layout == Blocked(1, LANES)


def test_one_reorder_serves_all_plain_readers(rng: np.random.Generator) -> None:
    y = conv(image(), 32, rng)
    graph = Graph((y.x,), (y, Reshape(y, shape=(32, 30))), ("y", "z"))  # type: ignore[arg-type]
    reordered = [n.operands[0] for n in assign_layouts(graph, LANES).find(Reorder)]
    assert [n.opname for n in reordered] == ["input", "conv"]


def test_concat_of_whole_blocks_is_written_in_place(rng: np.random.Generator) -> None:
    x = image()
    parts = [conv(x, 32, rng), conv(x, 48, rng), conv(x, 20, rng)]
    graph = Graph((x,), (conv(Concat(tuple(parts), axis=1), 16, rng),), ("y",))
    executable = agrees_with_reference(graph, rng)
    assert all(step.node.opname != "concat" for step in executable.steps)


def test_concat_off_the_blocks_is_copied(rng: np.random.Generator) -> None:
    x = image()
    graph = Graph((x,), (conv(Concat((conv(x, 22, rng), conv(x, 22, rng)), axis=1), 16, rng),), ("y",))
    executable = agrees_with_reference(graph, rng)
    assert any(step.node.opname == "concat" for step in executable.steps)


@pytest.mark.parametrize("n", [1, 2])
def test_nested_concats_and_shared_operands(n: int, rng: np.random.Generator) -> None:
    x = image(n=n)
    a, b = conv(x, 16, rng), conv(x, 32, rng)
    inner = Concat((a, b), axis=1)
    outer = Concat((inner, conv(inner, 16, rng), a), axis=1)
    agrees_with_reference(Graph((x,), (conv(outer, 16, rng), inner), ("y", "inner")), rng)


@pytest.mark.parametrize("n", [1, 2])
def test_densely_connected_block(n: int, rng: np.random.Generator) -> None:
    """Every layer reads all earlier ones, concatenated anew; with one image nothing is copied."""
    x = image(n=n)
    features: list[Node] = [conv(x, 32, rng)]
    for _ in range(4):
        before = Concat(tuple(features), axis=1) if len(features) > 1 else features[0]
        features.append(conv(pointwise("relu", before), 16, rng, 3))
    executable = agrees_with_reference(Graph((x,), (conv(Concat(tuple(features), axis=1), 16, rng),), ("y",)), rng)
    copies = sum(step.node.opname == "concat" for step in executable.steps)
    assert copies == 0 if n == 1 else copies > 0


def test_the_same_value_twice_in_a_concat(rng: np.random.Generator) -> None:
    x = image()
    a = conv(x, 16, rng)
    agrees_with_reference(Graph((x,), (Concat((a, a), axis=1),), ("y",)), rng)


def test_slices_of_whole_blocks_are_views(rng: np.random.Generator) -> None:
    x = image()
    y = conv(x, 64, rng)
    half = Slice(y, starts=(0, 32, 0, 0), sizes=(1, 32, 6, 5), steps=(1, 1, 1, 1))
    executable = agrees_with_reference(Graph((x,), (conv(half, 16, rng),), ("z",)), rng)
    assert all(step.node.opname != "slice" for step in executable.steps)


def test_pointwise_takes_the_memory_of_an_operand_nobody_reads_again(rng: np.random.Generator) -> None:
    x = image()
    y = conv(x, 32, rng)
    node = pointwise("exp", pointwise("tanh", y))
    graph = assign_layouts(Graph((x,), (conv(node, 16, rng),), ("z",)), LANES)
    storage = Storage(graph)
    first, second = (storage[n] for n in graph if isinstance(n, Pointwise))
    assert first == second == storage[graph.find(Conv)[0]] and first.base == ARENA


def test_pointwise_keeps_off_an_operand_that_is_read_again(rng: np.random.Generator) -> None:
    x = image()
    y = conv(x, 32, rng)
    agrees_with_reference(Graph((x,), (conv(pointwise("add", pointwise("tanh", y), y), 16, rng),), ("z",)), rng)


def test_pointwise_keeps_off_an_operand_of_which_it_reads_another_part(rng: np.random.Generator) -> None:
    """y + (its own first row, broadcast): writing row 0 in place would change what later rows read."""
    x = Input(name="x", shape=(1, 32, 4, 5))
    y = pointwise("tanh", x)
    row = Slice(y, starts=(0, 0, 0, 0), sizes=(1, 1, 4, 5), steps=(1, 1, 1, 1))
    agrees_with_reference(Graph((x,), (pointwise("exp", pointwise("add", y, row)),), ("z",)), rng)


def test_outputs_that_are_inputs_constants_views_or_given_twice(rng: np.random.Generator) -> None:
    x = image()
    y = conv(x, 32, rng)
    constant = Constant(rng.standard_normal((2, 3)).astype(np.float32))
    outputs = (x, constant, y, y, Reshape(y, shape=(32, 30)))
    agrees_with_reference(Graph((x,), outputs, ("x_again", "constant", "y", "y_again", "flat")), rng)


def test_outputs_are_computed_in_the_callers_arrays(rng: np.random.Generator) -> None:
    x = image()
    y = pointwise("tanh", x)
    graph = assign_layouts(Graph((x,), (y,), ("y",)), LANES)
    storage = Storage(graph)
    assert storage[graph.outputs[0]].base == FIRST_INPUT + 1 and storage.copied_outputs() == []
    session = tw.compile(Graph((x,), (y,), ("y",)), passes=[])
    given, out = rng.standard_normal(x.type.shape).astype(np.float32), np.full(y.type.shape, np.nan, np.float32)
    assert session.run({"x": given}, out={"y": out})["y"] is out
    np.testing.assert_allclose(out, np.tanh(given), rtol=1e-6)


def test_results_belong_to_the_caller(rng: np.random.Generator) -> None:
    x = image()
    session = tw.compile(Graph((x,), (Reshape(conv(x, 32, rng), shape=(32, 30)),), ("y",)), passes=[])
    first = session(rng.standard_normal(x.type.shape).astype(np.float32))
    kept = first.copy()
    session(rng.standard_normal(x.type.shape).astype(np.float32))
    np.testing.assert_array_equal(first, kept)


def test_any_strides_of_inputs(rng: np.random.Generator) -> None:
    x = image()
    session = tw.compile(Graph((x,), (conv(x, 32, rng, 3),), ("y",)), passes=[])
    given = rng.standard_normal((1, 6, 5, 32)).astype(np.float32).transpose(0, 3, 1, 2)
    unaligned = np.frombuffer(b"\0" + np.ascontiguousarray(given).tobytes(), np.uint8)[1:].view(np.float32).reshape(given.shape)
    expected = session(np.ascontiguousarray(given))
    np.testing.assert_array_equal(session(given), expected)
    np.testing.assert_array_equal(session(unaligned), expected)


def test_outputs_that_are_parts_of_constants(rng: np.random.Generator) -> None:
    x, constant = image(), Constant(rng.standard_normal((3, 4)).astype(np.float32))
    part = Slice(constant, starts=(1, 0), sizes=(2, 4), steps=(1, 1))
    agrees_with_reference(Graph((x,), (pointwise("tanh", x), Reshape(constant, shape=(12,)), part), ("y", "a", "b")), rng)


@pytest.mark.parametrize("steps", [(1, -2, 1, -1), (1, 1, -1, 1), (1, 2, 1, 1)])
def test_slices_that_turn_an_axis_round(steps: tuple[int, ...], rng: np.random.Generator) -> None:
    """An axis that is read backwards has the extent it had, and is another one all the same."""
    x = image()
    starts = tuple(n - 1 if step < 0 else 0 for n, step in zip((1, 48, 6, 5), steps, strict=True))
    part = Slice(conv(x, 48, rng), starts=starts, sizes=(1, 48 // abs(steps[1]), 6, 5), steps=steps)
    agrees_with_reference(Graph((x,), (part, conv(part, 16, rng)), ("y", "z")), rng)


def test_equal_constants_are_stored_once(rng: np.random.Generator) -> None:
    first = rng.standard_normal(100).astype(np.float32)
    almost, longer = first.copy(), np.append(first, np.float32(1))
    almost[-1] += 1
    arrays = [first, almost, first.copy(), longer, first.view(np.int32).reshape(10, 10), np.zeros((0, 3)), np.float64(2.5) * np.ones(())]
    constants, tables = Constants(), [Table(array) for array in arrays]
    offsets = [constants.add(table) for table in tables]
    constants.forget_tables()
    assert offsets == [constants.add(table) for table in tables] and all(offset % 64 == 0 for offset in offsets)
    assert offsets[0] == offsets[2] == offsets[4] and len(set(offsets[:2] + offsets[3:4])) == 3
    for array, offset in zip(arrays, offsets, strict=True):
        np.testing.assert_array_equal(constants.view(offset, array.dtype, array.shape), array)


def test_constants_grow_in_pieces_and_move_into_one(rng: np.random.Generator) -> None:
    """Also tables that write themselves where they belong, and need zeros there although an equal table was there before."""
    arrays = [rng.integers(0, 9, size).astype(np.int16) for size in (5, 30_000, 7, 200_001, 3, 40_000, 90_000)]
    constants = Constants()
    offsets = []
    for array in arrays:
        assert constants.add(Table(arrays[0])) == 0

        def fill(target: np.ndarray, array: np.ndarray = array) -> None:
            assert not target.any()
            target[...] = array

        offsets.append(constants.add(LateTable(array.shape, array.dtype, fill)))
        constants.forget_tables()
    contents = constants.contents()
    assert len(contents) > 2 and sum(len(content) for content in contents) == constants.nbytes
    joined = np.concatenate(contents)
    for array, offset in zip(arrays, offsets, strict=True):
        np.testing.assert_array_equal(constants.view(offset, array.dtype, array.shape), array)
        moved = constants.moved(offset)
        np.testing.assert_array_equal(joined[moved : moved + array.nbytes].view(array.dtype), array)
