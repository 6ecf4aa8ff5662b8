"""MaxPool and AveragePool on the cpu backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import TARGETS, assert_close, expected, load_kernels, operand, run_node

from tilewright.backends.cpu.kernel import Machine, NoKernel, lower
from tilewright.backends.cpu.pooling import lower_pool
from tilewright.backends.cpu.target import Target
from tilewright.engine.ops import AveragePool, MaxPool
from tilewright.engine.tensor import Blocked

F4 = np.dtype(np.float32)
Shape = tuple[int, ...]
CASES: list[tuple[Shape, dict[str, Any]]] = [
    ((2, 20, 9, 11), {"kernel": (3, 3), "strides": (2, 2), "pads": ((1, 1), (1, 1))}),
    ((1, 64, 50, 70), {"kernel": (2, 2), "strides": (2, 2)}),
    ((1, 16, 55, 55), {"kernel": (3, 3), "strides": (2, 2), "ceil_mode": True}),
    ((1, 16, 54, 56), {"kernel": (3, 3), "strides": (2, 2), "ceil_mode": True, "pads": ((0, 1), (1, 0))}),
    ((1, 16, 30, 31), {"kernel": (3, 3), "pads": ((1, 1), (1, 1))}),
    ((1, 17, 7, 7), {"kernel": (7, 7)}),
    ((1, 5, 13), {"kernel": (3,), "dilations": (2,), "pads": ((2, 1),)}),
    ((3, 5, 213), {"kernel": (60,), "strides": (3,), "pads": ((20, 11),)}),
    ((1, 17, 6, 7, 8), {"kernel": (2, 3, 2), "strides": (1, 2, 1), "pads": ((0, 1), (1, 1), (1, 0))}),
    ((1, 33, 20, 20), {"kernel": (2, 3), "strides": (3, 4), "dilations": (2, 1)}),
    ((2, 3, 12, 12), {"kernel": (5, 5), "dilations": (2, 2), "pads": ((4, 4), (4, 4))}),
    ((1, 16, 4, 2), {"kernel": (1, 1), "strides": (2, 2)}),
    ((1, 8, 40, 40), {"kernel": (13, 13), "pads": ((6, 6), (6, 6))}),
]


def check(node: MaxPool | AveragePool, x: np.ndarray, target: str, relative: float = 0.0, absolute: float = 0.0) -> None:
    for threads in (1, 2):
        assert_close(run_node(node, {node.x: x}, target, threads), expected(node, {node.x: x})[0], relative, absolute, str(node))


def blocked(target: str) -> Blocked:
    return Blocked(1, Target.describe(target).lanes(F4))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape, attributes", CASES, ids=str)
def test_max(shape: Shape, attributes: dict[str, Any], target: str, rng: np.random.Generator) -> None:
    x, layout = rng.standard_normal(shape).astype(np.float32) - 3, blocked(target)
    check(MaxPool(operand("x", x, layout), layout=layout, **attributes), x, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("shape, attributes", CASES, ids=str)
def test_average(shape: Shape, attributes: dict[str, Any], count_include_pad: bool, target: str, rng: np.random.Generator) -> None:
    x, layout = rng.standard_normal(shape).astype(np.float32) + 2, blocked(target)
    check(AveragePool(operand("x", x, layout), layout=layout, count_include_pad=count_include_pad, **attributes), x, target, 1e-6, 1e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int8", "int32", "int64"])
def test_dtypes(dtype: str, target: str, rng: np.random.Generator) -> None:
    layout = blocked(target)
    x = rng.integers(0, 100, (1, 21, 14, 15)).astype(dtype) - (50 if dtype[0] != "u" else 0)
    a, attributes = operand("x", x, layout), {"kernel": (3, 2), "strides": (2, 1), "pads": ((1, 1), (1, 0)), "layout": layout}
    check(MaxPool(a, **attributes), x, target)
    if x.dtype.kind == "f":
        check(AveragePool(a, **attributes), x, target, 1e-3 if dtype == "float16" else 3e-7)


@pytest.mark.parametrize("target", TARGETS)
def test_max_keeps_nan(target: str, rng: np.random.Generator) -> None:
    layout = blocked(target)
    x = rng.standard_normal((1, 16, 20, 20)).astype(np.float32)
    x[rng.random(x.shape) < 0.02] = np.nan
    check(MaxPool(operand("x", x, layout), kernel=(3, 3), strides=(2, 2), layout=layout), x, target)


def test_many_units_share_the_work() -> None:
    load_kernels()
    layout = blocked(TARGETS[0])
    x = operand("x", np.zeros((1, 64, 112, 112), np.float32), layout)
    (call,) = lower(MaxPool(x, kernel=(3, 3), strides=(2, 2), layout=layout), Machine(Target.describe(TARGETS[0]), 2))
    assert call.units >= 8


def test_declines() -> None:
    machine, layout = Machine(Target.describe(TARGETS[0]), 1), blocked(TARGETS[0])
    x = np.zeros((1, 16, 5, 5), np.float32)
    with pytest.raises(NoKernel, match="blocked"):
        lower_pool(MaxPool(operand("x", x), kernel=(2, 2)), machine)
    with pytest.raises(NoKernel, match="outside"):
        lower_pool(MaxPool(operand("x", x, layout), kernel=(2, 2), pads=((2, 0), (0, 0)), layout=layout), machine)


@pytest.mark.parametrize("shape, attributes", CASES[:3] + CASES[-1:], ids=str)
def test_compiles_for_neon(shape: Shape, attributes: dict[str, Any]) -> None:
    load_kernels()
    target = Target.describe("neon")
    layout = Blocked(1, target.lanes(F4))
    node = AveragePool(operand("x", np.zeros(shape, np.float32), layout), layout=layout, **attributes)
    assert all(call.kernel.emit(target) for call in lower(node, Machine(target, 1)))
