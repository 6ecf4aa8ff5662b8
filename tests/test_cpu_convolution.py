"""Direct and depthwise convolution, transposed convolution and matrix products on the cpu backend, against float64.

All of it with accuracy="exact", which leaves Winograd out: that has tests of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.backends.cpu.gemm import stacked
from tilewright.backends.cpu.phases_together import Interleave
from tilewright.engine import expression as ex
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import Conv, ConvTranspose, MatMul, pointwise

TARGETS = ["avx512", "avx2"]


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    from tilewright.backends.cpu.target import Target

    if not Target.describe(request.param).is_runnable:
        pytest.skip(f"this machine has no {request.param}")
    return request.param


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def pairs(pads: Any, rank: int) -> tuple[tuple[int, int], ...]:
    return tuple((p, p) if isinstance(p, int) else p for p in (pads if isinstance(pads, tuple) else (pads,) * rank))


def per_axis(value: Any, rank: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * rank


def convolution(
    rng: np.random.Generator, shape: tuple[int, ...], k: int, kernel: Any, *, transposed: bool = False, **attributes: Any
) -> Graph:
    """A graph of one convolution with random weights and bias; scalars stand for every spatial axis."""
    _, c, *spatial = shape
    rank, groups = len(spatial), attributes.get("groups", 1)
    taps = per_axis(kernel, rank)
    fixed: dict[str, Any] = {"pads": pairs(attributes.pop("pads", 0), rank)} | {
        name: value if name == "groups" else per_axis(value, rank) for name, value in attributes.items()
    }
    x = Input(name="x", shape=shape)
    weight = (c, k // groups, *taps) if transposed else (k, c // groups, *taps)
    operator = ConvTranspose if transposed else Conv
    node = operator(x, Constant(normal(rng, *weight)), Constant(normal(rng, k)), **fixed)
    return Graph((x,), (node,), ("y",))


def check(graph: Graph, rng: np.random.Generator, target: str, threads: int = 2, scale: float = 2e-6) -> None:
    """The cpu backend without any fallback agrees with float64, and with itself on another number of threads bit by bit."""
    inputs = [normal(rng, *i.type.shape) for i in graph.inputs]
    expected = tw.compile(graph, backend="reference", passes=[], precision="float64")(*inputs)
    session = tw.compile(graph, backend="cpu", passes=[], threads=threads, target=target, accuracy="exact")
    assert "falls back" not in session.plan, session.plan
    actual = session(*inputs)
    assert actual.dtype == np.float32 and actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= scale * np.abs(expected).max()
    alone = tw.compile(graph, backend="cpu", passes=[], threads=1, target=target, accuracy="exact")(*inputs)
    np.testing.assert_array_equal(actual, alone)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], int, Any, dict[str, Any]]] = {
    "pointwise, overlapping last row": ((1, 32, 14, 15), 64, 1, {}),
    "pointwise on one pixel": ((3, 17, 1, 1), 33, 1, {}),
    "pointwise with padding reads nothing at the border": ((1, 16, 3, 3), 16, 1, {"pads": 1}),
    "3x3, channels and outputs not whole vectors, batch": ((2, 24, 9, 11), 40, 3, {"pads": 1}),
    "large input, pointwise: rows outside, weights stay": ((1, 32, 120, 121), 64, 1, {}),
    "large input, 3x3: rows outside, weights stay": ((1, 32, 101, 103), 64, 3, {"pads": 1}),
    "left, middle and right tiles": ((1, 32, 5, 57), 32, 3, {"pads": 1}),
    "one tile spans the row": ((1, 64, 7, 7), 32, 3, {"pads": 1}),
    "stride 2": ((1, 24, 57, 30), 40, 3, {"strides": 2, "pads": 1}),
    "stride larger than the kernel": ((1, 16, 13, 14), 16, 2, {"strides": 3}),
    "three plain channels, 7x7 stride 2": ((1, 3, 33, 35), 64, 7, {"strides": 2, "pads": 3}),
    "one plain channel, no padding": ((2, 1, 28, 28), 8, 5, {}),
    "dilation 2": ((1, 16, 12, 13), 16, 3, {"dilations": 2, "pads": 2}),
    "dilation reaches beyond the input": ((1, 16, 5, 6), 16, 3, {"dilations": 4, "pads": 4}),
    "asymmetric padding": ((1, 64, 28, 27), 64, 3, {"pads": ((1, 2), (0, 3))}),
    "1x7": ((1, 16, 4, 40), 16, (1, 7), {"pads": ((0, 0), (3, 3))}),
    "7x1": ((1, 16, 40, 4), 16, (7, 1), {"pads": ((3, 3), (0, 0))}),
    "groups of whole vectors": ((1, 64, 13, 13), 64, 3, {"groups": 2, "pads": 1}),
    "groups that share vectors": ((1, 48, 8, 8), 40, 3, {"groups": 2, "pads": 1}),
    "thirty-two groups of four": ((1, 128, 8, 8), 128, 3, {"groups": 32, "pads": 1}),
    "one input channel, two outputs a group": ((1, 20, 6, 7), 40, 3, {"groups": 20, "pads": 1}),
    "grouped plain input": ((1, 4, 9, 9), 6, 3, {"groups": 2, "pads": 1}),
    "1-D": ((1, 16, 30), 16, 5, {"pads": 2}),
    "1-D, one channel, long kernel and stride": ((1, 1, 576), 258, 256, {"strides": 64}),
    "3-D": ((1, 16, 5, 6, 7), 20, 3, {"pads": 1}),
    "3-D, plain channels, stride 2": ((2, 3, 5, 6, 7), 16, 3, {"pads": 1, "strides": 2}),
    "left-over channel vectors": ((1, 32, 28, 28), 112, 3, {"pads": 1}),
    "many outputs, thin rows": ((1, 32, 6, 3), 144, 3, {"pads": 1}),
    "depthwise": ((1, 32, 14, 14), 32, 3, {"groups": 32, "pads": 1}),
    "depthwise, channels not whole vectors, stride 2, batch": ((2, 20, 15, 9), 20, 3, {"groups": 20, "pads": 1, "strides": 2}),
    "depthwise 5x5": ((1, 40, 28, 29), 40, 5, {"groups": 40, "pads": 2}),
    "depthwise 5x5 stride 2, one tile": ((1, 33, 7, 7), 33, 5, {"groups": 33, "pads": 2, "strides": 2}),
    "depthwise, dilation 4": ((1, 16, 30, 31), 16, 3, {"groups": 16, "pads": 4, "dilations": 4}),
    "depthwise 1-D": ((1, 16, 200), 16, 3, {"groups": 16, "pads": 1}),
    "depthwise 3-D": ((1, 16, 3, 4, 5), 16, 3, {"groups": 16, "pads": 1}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str, target: str, rng: np.random.Generator) -> None:
    shape, k, kernel, attributes = CONVOLUTIONS[name]
    check(convolution(rng, shape, k, kernel, **attributes), rng, target)


TRANSPOSED: dict[str, tuple[tuple[int, ...], int, Any, dict[str, Any]]] = {
    "stride 1": ((1, 16, 5, 7), 24, 3, {"pads": 1}),
    "stride 2, kernel 3": ((1, 16, 5, 7), 24, 3, {"strides": 2, "pads": 1}),
    "stride 2, kernel 4": ((1, 16, 5, 7), 24, 4, {"strides": 2, "pads": 1}),
    "stride 2, kernel 2, batch": ((2, 20, 5, 7), 24, 2, {"strides": 2}),
    "stride larger than the kernel leaves gaps": ((1, 16, 5, 4), 16, 2, {"strides": 3}),
    "stride 3, dilation 2": ((1, 32, 5, 7), 16, 3, {"strides": 3, "pads": 1, "dilations": 2}),
    "groups and output padding": ((1, 32, 5, 7), 32, 3, {"strides": 2, "pads": 1, "groups": 2, "output_padding": 1}),
    "plain channels": ((1, 3, 4, 4), 5, 3, {"strides": 2}),
    "1-D": ((1, 16, 9), 16, 4, {"strides": 2, "pads": 1}),
    "3-D": ((1, 16, 2, 3, 4), 16, 3, {"strides": 2, "pads": 1}),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution(name: str, target: str, rng: np.random.Generator) -> None:
    shape, k, kernel, attributes = TRANSPOSED[name]
    check(convolution(rng, shape, k, kernel, transposed=True, **attributes), rng, target)


@pytest.mark.parametrize("epilogue", ["relu", "silu", "hard_swish"])
def test_epilogue_with_residual_and_channel_scale(epilogue: str, target: str, rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(2, 24, 9, 10))
    scale = Input(name="scale", shape=(2, 40, 1, 1))
    squeeze = Conv(scale, Constant(normal(rng, 40, 40, 1, 1)), None)
    shortcut = Conv(x, Constant(normal(rng, 40, 24, 1, 1)), None)
    expression = ex.apply(epilogue, ex.Operand(0) * ex.Operand(2) + ex.Operand(1))
    node = Conv(
        x, Constant(normal(rng, 40, 24, 3, 3)), Constant(normal(rng, 40)), (shortcut, squeeze), pads=((1, 1), (1, 1)), epilogue=expression
    )
    check(Graph((x, scale), (node,), ("y",)), rng, target)


def test_epilogue_that_is_infinite_in_padding_lanes_stays_out_of_the_next_layer(target: str, rng: np.random.Generator) -> None:
    """log(0) in the lanes past channel 20 must not become NaN in the convolution that reads them."""
    x = Input(name="x", shape=(1, 20, 6, 6))
    positive = Conv(
        x, Constant(np.abs(normal(rng, 20, 20, 1, 1))), Constant(np.abs(normal(rng, 20))), epilogue=ex.apply("abs", ex.Operand(0))
    )
    logarithm = pointwise("log", positive)
    node = Conv(logarithm, Constant(normal(rng, 16, 20, 3, 3)), None, pads=((1, 1), (1, 1)))
    check(Graph((x,), (node,), ("y",)), rng, target, scale=1e-5)


def test_epilogue_whose_operands_are_negative_in_padding_lanes(target: str, rng: np.random.Generator) -> None:
    """acc + extra is positive in the 17 channels; in the padding lanes it is 0 + (cos 0 - 2), whose root must not reach the next layer."""
    x, y = Input(name="x", shape=(1, 17, 4, 4)), Input(name="y", shape=(1, 17, 4, 4))
    extra = pointwise("sub", pointwise("cos", Conv(y, Constant(normal(rng, 17, 17, 1, 1)), None)), 2.0)
    root = ex.apply("sqrt", ex.Operand(0) + ex.Operand(1))
    weight = Constant(0.02 * normal(rng, 17, 17, 3, 3))
    node = Conv(x, weight, Constant(np.full(17, 9, np.float32)), (extra,), pads=((1, 1), (1, 1)), epilogue=root)
    check(Graph((x, y), (Conv(node, Constant(normal(rng, 16, 17, 1, 1)), None),), ("z",)), rng, target, scale=1e-5)


TOGETHER: dict[str, tuple[tuple[int, ...], int, Any, dict[str, Any]]] = {
    "generator": ((2, 37, 9, 7), 2, 4, {"strides": 2, "pads": 1}),
    "one channel": ((1, 20, 5, 11), 1, 3, {"strides": 2, "pads": 1, "output_padding": 1}),
    "no overlap": ((1, 20, 5, 11), 2, 2, {"strides": 2}),
    "one axis": ((3, 19, 17), 2, 6, {"strides": 3, "pads": ((1, 2),)}),
    "three axes": ((1, 18, 3, 4, 5), 1, 4, {"strides": 2, "pads": 1}),
    "another stride each": ((1, 20, 6, 5), 1, (5, 4), {"strides": (3, 2), "pads": 1}),
    "plain picture": ((1, 3, 9, 7), 2, 4, {"strides": 2, "pads": 1}),
}
APART: dict[str, tuple[tuple[int, ...], int, Any, dict[str, Any]]] = {
    "more than a vector": ((1, 20, 5, 6), 17, 4, {"strides": 2, "pads": 1}),
    "as many taps": ((1, 20, 5, 6), 1, (1, 3), {"strides": 2, "output_padding": (1, 0)}),
    "odd extents": ((1, 20, 5, 6), 1, 4, {"strides": 2, "pads": ((1, 2), (1, 2))}),
    "groups": ((1, 20, 5, 6), 2, 4, {"strides": 2, "pads": 1, "groups": 2}),
    "the end cut off": ((1, 20, 5, 6), 1, 4, {"strides": 2, "pads": ((0, 4), (0, 4))}),
    "no stride": ((1, 20, 5, 6), 1, 3, {"pads": 1}),
}


@pytest.mark.parametrize("case", [*TOGETHER, *APART])
def test_phases_of_few_channels_are_computed_together(case: str, target: str, rng: np.random.Generator) -> None:
    """With an epilogue; where it is not possible or of no use, phase by phase as ever."""
    shape, k, kernel, attributes = (TOGETHER | APART)[case]
    graph = convolution(rng, shape, k, kernel, transposed=True, **attributes)
    graph = graph.with_outputs([graph.outputs[0].replace(epilogue=ex.apply("relu", ex.IDENTITY))])
    check(graph, rng, target)
    compiled = tw.compile(graph, target=target, accuracy="exact").graph
    assert bool(compiled.find(Interleave)) is (case in TOGETHER) is not bool(compiled.find(ConvTranspose))


def test_interleaving_is_what_its_formula_says(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 12, 3, 5))
    node = Interleave(Input(name="x", shape=x.shape, dtype=x.dtype), (2, 3))
    y = node.reference(x)
    assert y.shape == node.type.shape == (2, 2, 6, 15)
    for n, c, h, w in np.ndindex(y.shape):
        assert y[n, c, h, w] == x[n, c * 6 + h % 2 * 3 + w % 3, h // 2, w // 3]


MATRICES = {"row": (1, 100, 33), "tall": (30, 128, 16), "odd": (5, 7, 9), "ragged": (17, 64, 100)}


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("name", MATRICES)
def test_matmul_with_constant(name: str, lead: tuple[int, ...], target: str, rng: np.random.Generator) -> None:
    m, k, n = MATRICES[name]
    a = Input(name="a", shape=(*lead, m, k))
    check(Graph((a,), (MatMul(a, Constant(normal(rng, k, n)), Constant(normal(rng, n))),), ("y",)), rng, target)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("name", MATRICES)
def test_matmul_of_two_values(name: str, lead: tuple[int, ...], target: str, rng: np.random.Generator) -> None:
    m, k, n = MATRICES[name]
    a, b = Input(name="a", shape=(*lead, m, k)), Input(name="b", shape=(*lead, k, n))
    check(Graph((a, b), (MatMul(a, b),), ("y",)), rng, target)


BROADCAST: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "left in front": ((3, 1), (3, 4)),
    "right in front": ((3, 4), (1, 4)),
    "right lacks it": ((3, 4), (4,)),
    "right behind": ((3, 4), (3, 1)),
    "left is one": ((1, 1), (3, 2)),
    "left has none": ((), (3, 2)),
    "right in the middle": ((2, 3, 4), (2, 1, 4)),
    "left in the middle": ((2, 1, 4), (2, 3, 4)),
    "both in turn": ((2, 1, 4, 1), (1, 3, 1, 2)),
    "both": ((5, 1), (1, 3)),
}


@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize("lead", BROADCAST)
@pytest.mark.parametrize("name", MATRICES)
def test_matmul_of_stacks_that_broadcast(name: str, lead: str, is_constant: bool, target: str, rng: np.random.Generator) -> None:
    """Also with an operand in the epilogue, which lies as the result does."""
    m, k, n = MATRICES[name]
    a, b = Input(name="a", shape=(*BROADCAST[lead][0], m, k)), Input(name="b", shape=(*BROADCAST[lead][1], k, n))
    right = Constant(normal(rng, *b.type.shape)) if is_constant else b
    extra = Input(name="e", shape=MatMul(a, right).type.shape)
    node = MatMul(a, right, Constant(normal(rng, n)), (extra,), epilogue=ex.Operand(0) * ex.Operand(1))
    check(Graph((a, extra) if is_constant else (a, b, extra), (node,), ("y",)), rng, target)


def test_matmul_of_stacks_shares_a_right_matrix_as_one_product() -> None:
    a, b = Input(name="a", shape=(2, 3, 4, 5, 6)), Input(name="b", shape=(2, 1, 1, 6, 7))
    assert (stacked(MatMul(a, b)).rows, stacked(MatMul(a, b)).images.extent) == (60, 2)


def test_matmul_chain_stays_blocked(target: str, rng: np.random.Generator) -> None:
    a = Input(name="a", shape=(3, 50))
    hidden = MatMul(a, Constant(normal(rng, 50, 37)), Constant(normal(rng, 37)), epilogue=ex.apply("relu", ex.Operand(0)))
    node: Node = MatMul(hidden, Constant(normal(rng, 37, 10)), None)
    check(Graph((a,), (node,), ("y",)), rng, target)
