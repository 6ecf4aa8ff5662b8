"""Matrix products as tiled products: stacks, tails, operands that are no whole chunks, every kind of product, against float64."""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np
import pytest
from cpu_harness import assert_close, expected, operand
from cuda_harness import NodeRun, TextKernel, check_compiles, load_kernels, needs_compiler, needs_nvrtc
from cuda_products import F2, F4, FIRST, PRECISIONS, SECOND, SM_90, SUM, TOLERANCE, kernel_of, sampled

import tilewright as tw
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.conv_implicit_gemm import ImplicitGemmKernel
from tilewright.backends.cuda.convolution import lower_convolution
from tilewright.backends.cuda.emulator.launch import BASIC
from tilewright.backends.cuda.gemm import lower_matmul
from tilewright.backends.cuda.gemm_call import with_tile
from tilewright.backends.cuda.kernel import Call, Extent, Machine, NoKernel, launchable, lower
from tilewright.backends.cuda.schedule import Tile
from tilewright.engine.expression import Expression, apply
from tilewright.engine.graph import Constant, Graph, Input, Node
from tilewright.engine.ops import Conv, MatMul
from tilewright.engine.tensor import Blocked


@dc.dataclass(frozen=True)
class Case:
    """A product; `b` is constant unless computed."""

    a: tuple[int, ...]
    b: tuple[int, ...]
    computed: bool = False
    bias: bool = False
    extras: tuple[tuple[int, ...], ...] = ()
    epilogue: Expression = SUM
    blocked: str = ""
    """Which of a, b and y lie in padded rows."""

    def __str__(self) -> str:
        shapes = "@".join("x".join(map(str, shape)) for shape in (self.a, self.b))
        return f"{shapes}{'-computed' * self.computed}{'-bias' * self.bias}-{self.blocked}{len(self.extras)}"


CASES = [
    Case((1, 64), (64, 10), bias=True),
    Case((3, 40), (40, 1000), bias=True, epilogue=apply("relu", SUM)),
    Case((37, 24), (24, 40)),
    Case((5, 7, 16), (16, 20), bias=True, epilogue=apply("gelu", SUM) + FIRST, extras=((5, 7, 20),)),
    Case((5, 7), (7, 9)),
    Case((3, 13), (13, 33), bias=True, blocked="ay"),
    Case((2, 3, 17, 9), (2, 3, 9, 21), computed=True),
    Case((2, 3, 17, 8), (2, 3, 8, 24), computed=True, epilogue=SUM * 0.25 + FIRST, extras=((1, 1, 17, 24),)),
    Case((4, 1, 9, 12), (5, 12, 16), computed=True),
    Case((1, 3, 9, 12), (4, 3, 12, 10)),
    Case((3, 6, 20), (20, 11), computed=True, bias=True, epilogue=SUM + FIRST * SECOND, extras=((3, 1, 1), (11,))),
    Case((6, 33), (33, 6), computed=True, blocked="b"),
    Case((4, 9, 4), (4, 4, 1), computed=True),
    Case((64, 300), (300, 70), bias=True),
]


def node_of(case: Case, precision: str, rng: np.random.Generator) -> tuple[MatMul, dict[Node, np.ndarray]]:
    """The node, and random values of its operands."""
    dtype = F2 if precision == "fp16" else F4
    unit = 16 // dtype.itemsize

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    def padded(name: str, shape: tuple[int, ...]) -> Blocked | None:
        return Blocked(len(shape) - 1, -(-shape[-1] // unit) * unit) if name in case.blocked else None

    values: dict[Node, np.ndarray] = {}

    def given(name: str, array: np.ndarray) -> Node:
        node = operand(name, array, padded(name, array.shape))
        values[node] = array
        return node

    a = given("a", random(*case.a))
    weight = (random(*case.b) / math.sqrt(case.b[-2])).astype(dtype)
    b = given("b", weight) if case.computed else Constant(data=weight)
    bias = Constant(data=random(case.b[-1])) if case.bias else None
    extras = tuple(given(f"extra {i}", random(*shape)) for i, shape in enumerate(case.extras))
    node = MatMul(a, b, bias, extras, epilogue=case.epilogue)
    return node.replace(layout=padded("y", node.type.shape)), values


def check(case: Case, precision: str, tile: Tile | None = None) -> list[Call]:
    """Assert that the kernel gives what NumPy gives in float64, and the same bits in every schedule."""
    node, values = node_of(case, precision, np.random.default_rng(11))
    machine = Machine(SM_90, precision)
    calls = lower_matmul(node, machine)
    if tile is not None:
        calls = [with_tile(kernel_of(calls[0]), calls[0].arguments, tile)]
    run = NodeRun(node, values, machine, calls)
    (wanted,) = expected(node, values)
    found = [run.run(schedule)[0] for schedule in BASIC]
    assert_close(found[0], wanted, 0, TOLERANCE[precision] * float(np.abs(wanted).max()), str(case))
    assert all(other.tobytes() == found[0].tobytes() for other in found), f"{case}: schedules give different bits"
    return run.calls


@dc.dataclass(frozen=True)
class TallKernel(TextKernel):
    """One with too many blocks along y."""

    @property
    def grid(self) -> Extent:
        return 1, 65536, 1


@needs_compiler
@pytest.mark.parametrize(("case", "precision"), sampled([(c, p) for c in CASES for p in PRECISIONS], 3))
def test_products(case: Case, precision: str) -> None:
    check(case, precision)


@needs_compiler
@pytest.mark.parametrize(("splits", "precision"), sampled([(s, p) for s in (2, 5, 16) for p in PRECISIONS], 4))
def test_splits(splits: int, precision: str) -> None:
    """A stack of products whose blocks share tiles."""
    parts = (8, 8) if precision == "fp32" else (2, 1)
    case = Case((2, 3, 35, 520), (2, 3, 520, 40), computed=splits == 5, epilogue=apply("tanh", SUM))
    (call,) = check(case, precision, Tile(32, 32, 32, 3, parts, splits))
    assert call.kernel.grid == (2 * 6, 2, splits)


def test_rows_of_a_stack_are_rows_of_one_product(rng: np.random.Generator) -> None:
    for case, stack, rows in ((CASES[3], 1, 35), (CASES[6], 6, 17), (CASES[10], 1, 18), (CASES[8], 20, 9)):
        (call,) = lower_matmul(node_of(case, "fp32", rng)[0], Machine(SM_90))
        kernel = call.kernel
        assert isinstance(kernel, ImplicitGemmKernel) and (kernel.stack, kernel.left.rows) == (stack, rows)


def given(name: str, *shape: int) -> Input:
    return Input(name=name, shape=shape)


def test_long_sums_of_tensor_cores_do_not_drift(rng: np.random.Generator) -> None:
    """Tensor cores cut off what they sum, so numbers of one sign lose the same way every time; three times TF32 avoids it."""
    x, weight = rng.random((24, 4608), np.float32), rng.random((4608, 20), np.float32)
    graph = Graph((given := Input(name="x", shape=x.shape),), (MatMul(given, Constant(weight)),), ("y",))
    wanted = x.astype(np.float64) @ weight
    errors = {
        precision: np.abs(tw.compile(graph, backend="cuda_emulated", precision=precision)(x) / wanted - 1).max()
        for precision in ("fp32", "tf32x3", "tf32")
    }
    assert max(errors["tf32x3"], errors["fp32"]) < 1e-6 < 5e-6 < errors["tf32"], errors


def test_large_stacks_go_along_the_longest_axis_of_the_grid() -> None:
    """Only the first one takes more than 65535 blocks."""
    load_kernels()
    (call,) = lower(MatMul(given("a", 70_000, 2, 4), given("b", 70_000, 4, 3)), Machine(SM_90))
    assert call.kernel.grid == (70_000, 1, 1)
    with pytest.raises(NoKernel, match="in a grid of"):
        launchable([Call(TallKernel((), ""), {})])


def test_indices_count_the_padding_lanes_and_the_whole_stack() -> None:
    """What is read has more than 2**31 elements as a whole, or with its padding only."""
    last, weight = Blocked(1, 4), Constant(data=np.zeros((1, 1, 1, 1), np.float32))
    wide = Conv(Input(name="x", shape=(1, 1, 2**15, 2**14 + 64), layout=last), weight, strides=(64, 64), layout=last)
    with pytest.raises(NoKernel, match="index of 32 bits"):
        lower_convolution(wide, Machine(SM_90))
    stacked = MatMul(given("a", 8, 2**14, 2**14 + 1), given("b", 8, 2**14 + 1, 2))
    with pytest.raises(NoKernel, match="index of 32 bits"):
        lower_matmul(stacked, Machine(SM_90))


def test_declined(rng: np.random.Generator) -> None:
    node = MatMul(operand("a", np.zeros((2, 3))), Constant(data=np.zeros((3, 4))))
    with pytest.raises(NoKernel, match="float64"):
        lower_matmul(node, Machine(SM_90))
    half, _ = node_of(CASES[0], "bf16", rng)
    with pytest.raises(NoKernel, match="no products in bf16"):
        lower_matmul(half, Machine(ARCHITECTURES["sm_75"], "bf16"))


@needs_nvrtc
@pytest.mark.parametrize(("case", "precision"), sampled([(CASES[i], p) for i in (5, 7, 6) for p in PRECISIONS], 4))
def test_machine_code(case: Case, precision: str, rng: np.random.Generator) -> None:
    (call,) = lower_matmul(node_of(case, precision, rng)[0], Machine(SM_90, precision))
    able = [a for a in ARCHITECTURES.values() if a.supports(precision)]
    check_compiles(call.kernel, [able[0], able[-1]])
