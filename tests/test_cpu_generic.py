"""Products and pools that no vector kernel takes, against NumPy: computed weights, other dtypes; and epilogues that are split off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import check_node, operand

import tilewright as tw
from tilewright.backends.cpu.epilogue import split_epilogues
from tilewright.engine import expression as ex
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import ArgMaxPool, AveragePool, Conv, ConvTranspose, MatMul, MaxPool, Pointwise, cast, pointwise

LANES = 16


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    kind = np.dtype(dtype)
    return rng.standard_normal(shape).astype(kind) if kind.kind == "f" else rng.integers(0, 50, shape).astype(kind)


def operands(rng: np.random.Generator, dtype: str, *shapes: tuple[int, ...]) -> dict[Node, np.ndarray]:
    arrays = [random(rng, shape, dtype) for shape in shapes]
    return {operand(f"x{i}", array): array for i, array in enumerate(arrays)}


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plane": ((2, 3, 7, 9), (5, 3, 3, 2), {"pads": ((1, 1), (0, 1))}),
    "groups": ((1, 6, 5, 4), (4, 3, 2, 3), {"groups": 2, "strides": (2, 1)}),
    "line, dilated": ((2, 3, 17), (4, 3, 3), {"dilations": (3,), "pads": ((2, 5),), "strides": (2,)}),
    "volume": ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"pads": ((1, 0), (0, 1), (1, 1)), "strides": (1, 2, 3)}),
    "depthwise": ((1, 5, 6, 3), (5, 1, 3, 3), {"groups": 5, "pads": ((1, 1), (1, 1))}),
}
TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plane": ((2, 3, 5, 4), (3, 4, 3, 2), {"pads": ((1, 1), (0, 1)), "strides": (2, 3), "output_padding": (1, 0)}),
    "groups, dilated": ((1, 6, 4, 5), (6, 2, 2, 3), {"groups": 3, "dilations": (3, 2), "strides": (2, 1)}),
    "line": ((2, 2, 7), (2, 3, 4), {"strides": (5,)}),
    "volume": ((1, 2, 3, 2, 3), (2, 3, 2, 2, 3), {"strides": (2, 1, 2)}),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_with_computed_weight(rng, case, dtype):
    x, weight, attributes = CONVOLUTIONS[case]
    values = operands(rng, dtype, x, weight, weight[:1])
    x0, x1, x2 = values
    check_node(Conv(x0, x1, x2, **attributes), values, absolute=1e-6 if dtype == "f4" else 1e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution_with_computed_weight(rng, case, dtype):
    x, weight, attributes = TRANSPOSED[case]
    values = operands(rng, dtype, x, weight, (weight[1] * attributes.get("groups", 1),))
    x0, x1, x2 = values
    check_node(ConvTranspose(x0, x1, x2, **attributes), values, absolute=1e-6 if dtype == "f4" else 1e-13)


def test_convolution_without_bias(rng):
    values = operands(rng, "f8", (1, 2, 5, 5), (3, 2, 3, 3))
    x0, x1 = values
    check_node(Conv(x0, x1), values, absolute=1e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u4", "u8"])
@pytest.mark.parametrize(
    "shapes", [((3, 5), (5, 7)), ((2, 1, 3, 5), (4, 5, 2)), ((4, 3, 5), (2, 1, 5, 6)), ((3, 0), (0, 4)), ((2, 3, 5), (2, 5, 1))]
)
def test_matrices_of_any_dtype_that_broadcast(rng, shapes, dtype):
    values = operands(rng, dtype, *shapes)
    a, b = values
    node = MatMul(a, b, Constant(random(rng, (shapes[1][-1],), dtype)))
    check_node(node, values, absolute=1e-6 if dtype == "f4" else 1e-13)


def test_integers_wrap_around(rng):
    values = operands(rng, "i4", (2, 3), (3, 4))
    a, b = values
    values[a] += 2**30
    check_node(MatMul(a, b), values)


WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 9, 8), {"kernel": (3, 2), "strides": (2, 1), "pads": ((1, 1), (0, 1))}),
    ((1, 2, 13), {"kernel": (3,), "dilations": (2,), "strides": (3,), "ceil_mode": True}),
    ((1, 2, 4, 5, 6), {"kernel": (2, 3, 2), "pads": ((1, 0), (1, 1), (0, 1))}),
]


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i1", "i4", "u8"])
@pytest.mark.parametrize(("shape", "window"), WINDOWS)
def test_max_pools(rng, shape, window, dtype):
    values = operands(rng, dtype, shape)
    if np.dtype(dtype).kind == "i":
        values = {x: -array for x, array in values.items()}
    check_node(MaxPool(*values, **window), values)
    check_node(ArgMaxPool(*values, **window), values)
    check_node(ArgMaxPool(*values, **window, column_major=True), values)


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize(("shape", "window"), WINDOWS)
def test_average_pools(rng, shape, window, counts):
    values = operands(rng, "f8", shape)
    check_node(AveragePool(*values, **window, count_include_pad=counts), values, relative=1e-13, absolute=1e-14)


def test_a_window_with_nan_has_nan_as_its_maximum(rng):
    values = operands(rng, "f8", (1, 1, 6, 7))
    [array] = values.values()
    array[0, 0, 2, 3] = np.nan
    check_node(MaxPool(*values, kernel=(3, 3)), values)


def test_windows_outside_of_the_input(rng):
    values = operands(rng, "f8", (1, 2, 3, 3))
    window: dict[str, Any] = {"kernel": (2, 2), "pads": ((3, 3), (3, 3))}
    for node in (MaxPool(*values, **window), ArgMaxPool(*values, **window), AveragePool(*values, **window)):
        check_node(node, values, relative=1e-13)


# epilogues


def compare(graph: Graph, rng: np.random.Generator) -> None:
    """The cpu backend, without fallback, agrees with float64."""
    inputs = [random(rng, i.type.shape, i.type.dtype.str) for i in graph.inputs]
    session = tw.compile(graph, backend="cpu", passes=[])
    assert "falls back" not in session.plan, session.plan
    expected = tw.compile(graph, backend="reference", passes=[], precision="float64")(*inputs)
    np.testing.assert_allclose(session(*inputs), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def given(name: str, *shape: int) -> Input:
    return Input(name=name, shape=shape)


def conv(rng: np.random.Generator, **fields: Any) -> Conv:
    return Conv(given("x", 2, 3, 5, 6), Constant(random(rng, (20, 3, 3, 3))), **fields)


TAKEN = {
    "nothing": lambda rng: conv(rng),
    "residual": lambda rng: conv(rng, extras=(given("r", 2, 20, 3, 4),), epilogue=ex.Operand(0) + ex.Operand(1)),
    "channels": lambda rng: conv(rng, extras=(given("r", 1, 20, 1, 1),), epilogue=ex.Operand(0) * ex.Operand(1)),
    "matrix": lambda rng: MatMul(given("x", 4, 5, 6), given("w", 6, 7)),
    "stack": lambda rng: MatMul(given("x", 4, 5, 6), Constant(random(rng, (4, 6, 7)))),
}
SPLIT = {
    "computed bias": lambda rng: conv(rng, bias=given("b", 20), epilogue=ex.apply("relu", ex.IDENTITY)),
    "one number": lambda rng: conv(rng, extras=(given("r", 1),), epilogue=ex.Operand(0) * ex.Operand(1)),
    "column": lambda rng: conv(rng, extras=(given("r", 4),), epilogue=ex.Operand(0) - ex.Operand(1)),
    "not finite at zero": lambda rng: conv(rng, bias=Constant(random(rng, (20,))), epilogue=1 / ex.IDENTITY),
    "another dtype": lambda rng: cast(conv(rng, epilogue=ex.Convert(ex.IDENTITY, np.dtype(np.int32))), np.dtype(np.float32)),
    "bias of a matrix": lambda rng: MatMul(given("x", 3, 5), given("w", 5, 7), given("b", 7)),
    "float64": lambda rng: pointwise("abs", matmul64()),
    "row of a stack": lambda rng: MatMul(
        given("x", 4, 3, 5), given("w", 4, 5, 7), extras=(given("r", 4, 1, 7),), epilogue=ex.Operand(0) + ex.Operand(1)
    ),
}


def matmul64() -> MatMul:
    a, b, r = (Input(name=n, shape=s, dtype=np.dtype(np.float64)) for n, s in {"a": (3, 5), "b": (5, 7), "r": (3, 7)}.items())
    return MatMul(a, b, None, (r,), epilogue=ex.Operand(0) * ex.Operand(1))


def graph_of(node: Node) -> Graph:
    inputs = tuple(n for n in Graph((), (node,), ("y",)).nodes if isinstance(n, Input))
    return Graph(inputs, (node,), ("y",))


@pytest.mark.parametrize("case", TAKEN)
def test_epilogues_that_direct_kernels_take_along(rng, case):
    graph = graph_of(TAKEN[case](rng))
    assert split_epilogues(graph, LANES).outputs == graph.outputs
    compare(graph, rng)


@pytest.mark.parametrize("case", SPLIT)
def test_epilogues_that_become_steps(rng, case):
    graph = graph_of(SPLIT[case](rng))
    bare = split_epilogues(graph, LANES)
    [product] = [n for n in bare if isinstance(n, Conv | MatMul)]
    assert product.epilogue == ex.IDENTITY and not product.extras and len(bare.find(Pointwise)) > len(graph.find(Pointwise))
    compare(graph, rng)
