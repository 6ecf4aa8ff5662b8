"""Products of few rows on the emulated GPU: fully connected layers, and convolutions that are no more than that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import calls_of
from cuda_convolutions import F2, F4, FEW, convolution, tolerance
from cuda_harness import check_compiles, check_node, needs_compiler, needs_nvrtc

from tilewright.backends.cuda import gemv
from tilewright.backends.cuda.architecture import ARCHITECTURES, Architecture
from tilewright.backends.cuda.gemv import GemvKernel, choose
from tilewright.backends.cuda.kernel import Machine, NoKernel
from tilewright.engine.expression import IDENTITY, Expression, Operand, apply
from tilewright.engine.graph import Constant, Node
from tilewright.engine.ops import MatMul

pytestmark = needs_compiler
Case = tuple[tuple[int, ...], int, int, bool]
CASES: list[Case] = [
    ((1, 37), 37, 10, True),
    ((8, 64), 64, 33, True),
    ((3, 1000), 1000, 7, False),
    ((2, 1, 3, 260), 260, 5, True),
    ((1, 1), 1, 1, False),
    ((5, 515), 515, 18, True),
    ((1, 4096), 4096, 3, True),
]
"""Shape of a, depth, features, whether there is a bias."""


def product(
    case: Case, dtype: Any, extras: tuple[tuple[int, ...], ...] = (), epilogue: Expression = IDENTITY
) -> tuple[MatMul, dict[Node, np.ndarray]]:
    """The node, and values of its inputs."""
    shape, depth, features, bias = case
    rng = np.random.default_rng(depth + features)
    data = rng.standard_normal(shape).astype(dtype)
    a = operand("a", data)
    values: dict[Node, np.ndarray] = {a: data}
    for i, wanted in enumerate(extras):
        value = rng.standard_normal(wanted).astype(dtype)
        values[operand(f"extra{i}", value)] = value
    weight = Constant((rng.standard_normal((depth, features)) / np.sqrt(depth)).astype(dtype))
    held = Constant(rng.standard_normal(features).astype(dtype)) if bias else None
    return MatMul(a, weight, held, tuple(v for v in values if v is not a), epilogue=epilogue), values


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [F4, F2])
@pytest.mark.parametrize("is_large", [False, True])
def test_products(case: Case, dtype: Any, is_large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few features, which several warps share, and as many as fill the GPU, of which a warp computes two."""
    if is_large:
        monkeypatch.setattr(gemv, "BLOCKS_EACH", 0)
    (call,) = check_node(*product(case, dtype), *tolerance(dtype))
    assert isinstance(call.kernel, GemvKernel)
    assert (call.kernel.per_warp == 2) == (is_large and np.prod(case[0][:-1]) > 2)


@pytest.mark.parametrize("dtype", [F4, F2])
def test_epilogues(dtype: Any) -> None:
    """A residual, a number for each feature, for each row, and one for all."""
    total = apply("sigmoid", Operand(0) * Operand(2)) + Operand(1) * Operand(3) + apply("max", Operand(4), 0.5)
    node, values = product(((2, 3, 40), 40, 9, True), dtype, ((2, 3, 9), (9,), (3, 1), ()), total)
    check_node(node, values, *tolerance(dtype))


@pytest.mark.parametrize("dtype", [F4, F2])
@pytest.mark.parametrize("last", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(("shape", "weight"), [((2, 9, 3, 5), (10, 9, 3, 5)), ((3, 21, 1, 1), (5, 21, 1, 1)), ((1, 6, 2, 3), (7, 6, 1, 1))])
def test_convolutions(dtype: Any, last: tuple[bool, bool], shape: tuple[int, ...], weight: tuple[int, ...]) -> None:
    """A kernel as large as x, gates of squeeze-and-excitation, and a small map."""
    node, values = convolution(shape, weight, dtype=dtype, last=last, epilogue=apply("silu", IDENTITY))
    (call,) = check_node(node, values, *tolerance(dtype))
    assert isinstance(call.kernel, GemvKernel) == (last[0] or shape[2:] == weight[2:])


def test_what_is_left_to_others() -> None:
    machine = Machine(ARCHITECTURES["sm_90"])
    many, _ = product(((9, 8), 8, 5, True), F4)
    wide, _ = product(((2, 8), 8, 5, True), np.float64)
    computed = MatMul(many.a, operand("b", np.ones((8, 5), F4)))
    for node in (many, wide, computed):
        with pytest.raises(NoKernel):
            gemv.lower_gemv(node, machine)
    strided, _ = convolution((1, 4, 4, 4), (4, 4, 1, 1), strides=(2, 2))
    with pytest.raises(NoKernel):
        gemv.lower_conv_as_gemv(strided, machine)


def test_few_features_are_shared_by_warps() -> None:
    assert choose(1, 4096, 25088 // 4, 132) == (1, 1)
    assert choose(1, 1000, 2048 // 4, 132) == (1, 2)
    assert choose(1, 1000, 2048 // 4, 28) == (1, 1)
    assert choose(1, 10, 84 // 4, 132) == (1, 1)
    assert choose(8, 4096, 4096 // 4, 132) == (2, 1)


@needs_nvrtc
@pytest.mark.parametrize("dtype", [F4, F2])
@pytest.mark.parametrize("case", [((1, 2048), 2048, 1000, True), ((8, 4096), 4096, 4096, True), ((7, 515), 515, 100, False)])
@pytest.mark.parametrize("architectures", [FEW, pytest.param([*ARCHITECTURES.values()], marks=pytest.mark.sweep)])
def test_compiles(dtype: Any, case: Case, architectures: list[Architecture]) -> None:
    for call in calls_of(product(case, dtype)[0]):
        check_compiles(call.kernel, architectures)
