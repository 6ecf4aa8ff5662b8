"""Pointwise regions on the emulated GPU: broadcasting, vectors, layouts, dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_harness import operand
from cuda_harness import check_compiles, check_node, needs_compiler, needs_nvrtc

from tilewright.backends.common.kinds import BFLOAT16
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.emulator.launch import BASIC
from tilewright.backends.cuda.kernel import Call, Machine, NoKernel, lower
from tilewright.backends.cuda.pointwise import PointwiseKernel
from tilewright.engine.expression import Convert, Expression, Operand, apply
from tilewright.engine.graph import Constant, Node
from tilewright.engine.ops import Pointwise
from tilewright.engine.tensor import Blocked, TensorType

pytestmark = needs_compiler
F4 = np.dtype(np.float32)
X, Y, Z = map(Operand, range(3))
TWO = BASIC[:: len(BASIC) - 1]
BROADCASTS = {
    "same": ((2, 3, 5, 7), (2, 3, 5, 7)),
    "one number": ((4, 9), ()),
    "channels": ((2, 6, 5, 7), (6, 1, 1)),
    "rows": ((3, 4, 8), (4, 1)),
    "columns": ((3, 4, 8), (8,)),
    "both grow": ((5, 1, 8), (1, 6, 1)),
    "a middle axis": ((2, 5, 3, 4), (2, 1, 3, 4)),
    "odd columns": ((300, 7), (300, 1)),
    "scalars": ((), ()),
    "long": ((1, 70001), (1, 1)),
}


def check(expression: Expression, *arrays: np.ndarray, relative: float = 1e-6) -> PointwiseKernel:
    inputs = [operand(f"x{i}", a) for i, a in enumerate(arrays)]
    node = Pointwise(tuple(inputs), expression=expression)
    return only(check_node(node, dict(zip(inputs, arrays, strict=True)), absolute=1e-6, schedules=TWO, relative=relative))


def only(calls: list[Call]) -> PointwiseKernel:
    (call,) = calls
    assert isinstance(call.kernel, PointwiseKernel)
    return call.kernel


@pytest.mark.parametrize("shapes", BROADCASTS.values(), ids=BROADCASTS)
def test_broadcasting(shapes: tuple[tuple[int, ...], ...], rng: np.random.Generator) -> None:
    x, y = (rng.standard_normal(shape).astype(F4) for shape in shapes)
    check(X * 2 - Y, x, y)


def test_three_operands_of_three_shapes(rng: np.random.Generator) -> None:
    x, y, z = (rng.standard_normal(shape).astype(F4) for shape in ((4, 1, 5), (3, 1), (2, 1, 1, 5)))
    check(apply("max", X + Y, Z) * Y, x, y, z)


@pytest.mark.parametrize(("shape", "other", "width"), [((2, 8), (2, 8), 4), ((2, 6), (2, 1), 2), ((3, 3), (3, 1), 1), ((3, 4), (3, 4), 4)])
def test_vectors_are_as_wide_as_they_can(shape: tuple[int, ...], other: tuple[int, ...], width: int, rng: np.random.Generator) -> None:
    kernel = check(X + Y, rng.standard_normal(shape).astype(F4), rng.standard_normal(other).astype(F4))
    assert kernel.width == width


def test_widest_element_decides(rng: np.random.Generator) -> None:
    kernel = check(Convert(X, np.dtype(np.float64)) * Y, rng.standard_normal((4, 8)).astype(F4), rng.standard_normal((4, 8)))
    assert kernel.width == 2
    kernel = check(Convert(X, np.dtype(np.uint8)), rng.uniform(0, 200, (4, 32)).astype(np.float16), relative=0)
    assert kernel.width == 8


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint16", "int64", "bool"])
def test_dtypes(dtype: str, rng: np.random.Generator) -> None:
    x, y = ((rng.standard_normal((3, 40)) * 9).astype(dtype) for _ in range(2))
    tree = apply("xor", X, Y) if dtype == "bool" else apply("where", X < Y, X, Y + Y)
    check(tree, x, y, relative=1e-3 if dtype == "float16" else 1e-15)


@pytest.mark.parametrize(
    ("shape", "block"), [((2, 6, 3, 5), 8), ((2, 8, 3, 5), 8), ((1, 3, 7), 4), ((2, 5, 2, 3, 2), 8), ((2, 20, 3, 3), 20)]
)
def test_channels_last(shape: tuple[int, ...], block: int, rng: np.random.Generator) -> None:
    """Full operands, one number for each channel, and one for each position; padding lanes stay finite whatever the expression."""
    layout = Blocked(1, block)
    x, y = (rng.standard_normal(shape).astype(F4) for _ in range(2))
    channel = rng.standard_normal((shape[1], *[1] * (len(shape) - 2))).astype(F4)
    inputs = [operand("x", x, layout), operand("y", y, layout)]
    tree = apply("log", X * X + 0.0) / Y + Z
    node = Pointwise((*inputs, Constant(channel)), expression=tree, layout=layout)
    check_node(node, dict(zip(inputs, (x, y), strict=True)), 2e-6, 1e-6, schedules=TWO)
    single = operand("z", rng.standard_normal((shape[0], 1, *shape[2:])).astype(F4), None)
    values: dict[Node, np.ndarray] = {inputs[0]: x, single: rng.standard_normal(single.type.shape).astype(F4)}
    check_node(Pointwise((inputs[0], single), expression=X * Y, layout=layout), values, schedules=TWO)


def test_excited_channels(rng: np.random.Generator) -> None:
    """What a squeeze-and-excitation multiplies: one number for each image and channel, blocked as the value is."""
    layout = Blocked(1, 8)
    x, gate = rng.standard_normal((2, 6, 3, 3)).astype(F4), rng.standard_normal((2, 6, 1, 1)).astype(F4)
    inputs = [operand("x", x, layout), operand("gate", gate, layout)]
    node = Pointwise(tuple(inputs), expression=X * apply("sigmoid", Y), layout=layout)
    check_node(node, dict(zip(inputs, (x, gate), strict=True)), schedules=TWO)


def test_in_place(rng: np.random.Generator) -> None:
    """An operand may be the result: it is read before it is written, and not declared to be alone."""
    kernel = check(X * X + Y, *(rng.standard_normal((5, 12)).astype(F4) for _ in range(2)))
    assert "restrict" not in kernel.source()


def test_what_is_declined() -> None:
    machine = Machine(ARCHITECTURES["sm_90"])
    x = operand("x", np.zeros(5, np.int32))
    with pytest.raises(NoKernel, match="exp of int32"):
        lower(Pointwise((x,), expression=apply("exp", X)), machine)
    several = operand("x", np.zeros((1, 20, 2, 2), F4), Blocked(1, 8))
    with pytest.raises(NoKernel, match="several blocks"):
        lower(Pointwise((several,), expression=X + 1, layout=Blocked(1, 8)), machine)
    plain = operand("y", np.zeros((1, 6, 2, 2), F4))
    with pytest.raises(NoKernel, match="plain operand"):
        lower(Pointwise((plain,), expression=X + 1, layout=Blocked(1, 8)), machine)
    assert lower(Pointwise((operand("e", np.zeros((0, 3), F4)),), expression=X + 1), machine) == []


def test_the_text_of_a_kernel(golden: object) -> None:
    x, y = operand("x", np.zeros((2, 6, 5, 8), F4)), operand("y", np.zeros((6, 1, 1), np.float16))
    node = Pointwise((x, y), expression=apply("silu", X + Convert(Y, F4)))
    (call,) = lower(node, Machine(ARCHITECTURES["sm_90"]))
    assert callable(golden)
    golden(call.kernel.source())


@needs_nvrtc
def test_compiles_for_every_architecture() -> None:
    for dtype in (F4, np.dtype(np.float16), BFLOAT16):
        kind = TensorType(dtype, (2, 64, 14, 14), Blocked(1, 64))
        x, y = (operand(name, np.zeros(kind.shape, dtype), kind.layout) for name in "xy")
        node = Pointwise((x, y), expression=apply("hard_swish", X + Y), layout=kind.layout)
        (call,) = lower(node, Machine(ARCHITECTURES["sm_90"]))
        assert isinstance(call.kernel, PointwiseKernel) and call.kernel.width == 16 // dtype.itemsize
        check_compiles(call.kernel)
