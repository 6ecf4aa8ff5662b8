"""Depthwise convolutions on the emulated GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import calls_of, channels_last
from cuda_convolutions import F2, F4, FEW, tolerance
from cuda_harness import NodeRun, check_compiles, check_node, needs_compiler, needs_nvrtc

from tilewright.backends.cuda import conv_depthwise
from tilewright.backends.cuda.architecture import ARCHITECTURES, Architecture
from tilewright.backends.cuda.conv_depthwise import DepthwiseKernel, choose_pixels
from tilewright.backends.cuda.emulator.launch import BASIC
from tilewright.backends.cuda.kernel import Machine, NoKernel
from tilewright.backends.cuda.sliding import Window
from tilewright.engine.expression import IDENTITY, Operand, apply
from tilewright.engine.graph import Constant, Node
from tilewright.engine.ops import Conv
from tilewright.engine.tensor import Blocked

pytestmark = needs_compiler
Case = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]
CASES: list[Case] = [
    ((2, 5, 9, 7), (3, 3), {"pads": ((1, 1), (1, 1))}),
    ((1, 9, 11, 13), (3, 3), {"strides": (2, 2), "pads": ((0, 1), (1, 0))}),
    ((1, 4, 6, 12), (5, 5), {"pads": ((2, 2), (2, 2))}),
    ((1, 3, 10, 15), (5, 3), {"strides": (1, 2), "dilations": (2, 3), "pads": ((4, 1), (3, 5))}),
    ((1, 6, 5, 23), (2, 11), {"pads": ((1, 0), (5, 5))}),
    ((3, 7, 19), (4,), {"strides": (3,), "pads": ((2, 1),)}),
    ((1, 5, 4, 5, 6), (3, 2, 3), {"pads": ((1, 1), (0, 1), (1, 1)), "strides": (1, 2, 1)}),
    ((1, 4, 7, 7), (7, 7), {"pads": ((3, 3), (3, 3))}),
]
"""x, kernel, attributes."""


def depthwise(
    case: Case, dtype: Any, seed: int = 0, with_bias: bool = True, extras: Any = (), epilogue: Any = IDENTITY
) -> tuple[Conv, dict[Node, np.ndarray]]:
    """The node, and values of its inputs. `extras`: shapes."""
    shape, kernel, attributes = case
    rng = np.random.default_rng(seed)
    layout = channels_last(dtype, shape[1])
    data = rng.standard_normal(shape).astype(dtype)
    x = operand("x", data, layout)
    weight = Constant((rng.standard_normal((shape[1], 1, *kernel)) / np.prod(kernel)).astype(dtype))
    bias = Constant(rng.standard_normal(shape[1]).astype(dtype)) if with_bias else None
    values: dict[Node, np.ndarray] = {x: data}
    given = []
    for i, wanted in enumerate(extras):
        values_of = rng.standard_normal(wanted).astype(dtype)
        full = len(wanted) == len(shape) and wanted[1] == shape[1]
        given.append(operand(f"extra{i}", values_of, layout if full else None))
        values[given[-1]] = values_of
    node = Conv(x, weight, bias, tuple(given), groups=shape[1], epilogue=epilogue, layout=layout, **attributes)
    return node, values


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [F4, F2])
@pytest.mark.parametrize("is_large", [False, True])
def test_depthwise(case: Case, dtype: Any, is_large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single outputs, and the long runs that large maps get."""
    if is_large:
        monkeypatch.setattr(conv_depthwise, "BLOCKS_EACH", 0)
    (call,) = check_node(*depthwise(case, dtype, with_bias=case[0][1] != 9), *tolerance(dtype))
    assert isinstance(call.kernel, DepthwiseKernel)
    assert call.kernel.pixels == (
        1 if not is_large else next(p for p in (8, 4) if p <= call.kernel.window.out[-1] and (dtype == F4 or p < 8))
    )


@pytest.mark.parametrize("dtype", [F4, F2])
def test_epilogues(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A residual, one number for each channel of an image, for each position, for each column, and one for all."""
    monkeypatch.setattr(conv_depthwise, "BLOCKS_EACH", 0)
    shape = (2, 6, 5, 9)
    extras = [shape, (2, 6, 1, 1), (5, 9), (1, 1, 1, 9), (1, 6, 5, 1)]
    total = apply("silu", Operand(0) * Operand(2)) + Operand(1) * Operand(3) + apply("max", Operand(4), Operand(5))
    node, values = depthwise((shape, (3, 3), {"pads": ((1, 1), (1, 1))}), dtype, extras=extras, epilogue=total)
    check_node(node, values, *tolerance(dtype))


def test_padding_lanes_become_zero() -> None:
    """Also where the epilogue would make something else of the sum there, or divide by it."""
    node, values = depthwise(CASES[0], F4, with_bias=False, epilogue=apply("div", 1, Operand(0)))
    run = NodeRun(node, values, Machine(ARCHITECTURES["sm_90"]))
    with np.errstate(divide="ignore"):
        run.run(BASIC[0])


def test_what_is_no_depthwise_convolution() -> None:
    """Two outputs for each channel, weights that are computed, plain values."""
    x = operand("x", np.zeros((1, 4, 5, 5), F4), Blocked(1, 4))
    plain = operand("x", np.zeros((1, 4, 5, 5), F4))
    weight = Constant(np.ones((8, 1, 3, 3), F4))
    for node in (
        Conv(x, weight, groups=4, layout=Blocked(1, 8)),
        Conv(x, operand("w", np.ones((4, 1, 3, 3), F4)), groups=4, layout=Blocked(1, 4)),
        Conv(plain, Constant(np.ones((4, 1, 3, 3), F4)), groups=4),
    ):
        with pytest.raises(NoKernel):
            conv_depthwise.lower_depthwise(node, Machine(ARCHITECTURES["sm_90"]))


def test_runs_are_long_where_the_gpu_is_full_anyway() -> None:
    window = {"kernel": (3, 3), "strides": (1, 1), "before": (1, 1), "dilations": (1, 1)}

    def pixels(side: int, channels: int, multiprocessors: int = 132) -> int:
        x = operand("x", np.zeros((1, 1, side, side), F4)).type
        return choose_pixels(Window(x, (side, side), **window), 4, channels // 4, multiprocessors)

    assert (pixels(112, 96), pixels(56, 144), pixels(28, 192), pixels(7, 960)) == (8, 4, 2, 1)
    assert (pixels(56, 144, 28), pixels(28, 192, 28), pixels(7, 960, 28)) == (8, 8, 2)


@needs_nvrtc
@pytest.mark.parametrize("dtype", [F4, F2])
@pytest.mark.parametrize(("side", "kernel", "strides"), [(112, 3, 1), (56, 5, 2), (14, 7, 1)])
@pytest.mark.parametrize("architectures", [FEW, pytest.param([*ARCHITECTURES.values()], marks=pytest.mark.sweep)])
def test_compiles(dtype: Any, side: int, kernel: int, strides: int, architectures: list[Architecture]) -> None:
    pads = ((kernel // 2, kernel // 2),) * 2
    case = (1, 96, side, side), (kernel, kernel), {"strides": (strides, strides), "pads": pads}
    node, _ = depthwise(case, dtype, extras=[(1, 96, 1, 1)], epilogue=apply("hard_swish", Operand(0)) * Operand(1))
    for call in calls_of(node):
        check_compiles(call.kernel, architectures)
