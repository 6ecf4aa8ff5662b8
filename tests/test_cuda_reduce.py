"""Reductions on the emulated GPU: every kind, over any axes, plain and with channels last."""

from __future__ import annotations

import dataclasses as dc
import itertools
from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import channels_last, given
from cuda_harness import check_node, load_kernels, needs_compiler

from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.kernel import Machine, lower
from tilewright.engine.graph import Node
from tilewright.engine.ops import Reduce

pytestmark = needs_compiler
F2, F4, F8 = np.float16, np.float32, np.float64
AXES = [axes for n in range(1, 5) for axes in itertools.combinations(range(4), n)]


@pytest.mark.parametrize("axes", AXES[::2], ids=str)
def test_any_axes(axes: tuple[int, ...]) -> None:
    x, values = given((3, 6, 5, 12))
    check_node(Reduce(x, kind="sum", axes=axes, keepdims=len(axes) == 1), values, 1e-5, 2e-3)
    x, values = given((2, 11, 4, 3), F4, channels_last(F4, 11))
    check_node(Reduce(x, kind="max", axes=axes), values, 0)


@pytest.mark.parametrize("dtype", [F4, F2])
@pytest.mark.parametrize("channels", [3, 64, 37])
def test_global_average(channels: int, dtype: Any) -> None:
    """What classifiers end with: a block for each image and a few packs of channels."""
    shape, layout = (2, channels, 7, 7), channels_last(dtype, channels)
    x, values = given(shape, dtype, layout)
    for kind in ("mean", "max"):
        (call,) = check_node(Reduce(x, kind=kind, axes=(2, 3), layout=layout), values, 2e-3 if dtype == F2 else 1e-5, 1e-2)
        assert f", {16 // np.dtype(dtype).itemsize}>" in call.kernel.source() and call.kernel.threads >= 64
    check_node(Reduce(x, kind="mean", axes=(2, 3), keepdims=False), values, 2e-3 if dtype == F2 else 1e-5, 1e-2)
    check_node(Reduce(x, kind="mean", axes=(1,)), values, 2e-3 if dtype == F2 else 1e-5, 1e-1)


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize("dtype", [F8, F2, np.int8, np.int32, np.uint64, bool])
def test_kinds_and_elements(kind: str, dtype: Any, rng: np.random.Generator) -> None:
    if dtype is bool and kind not in ("max", "min"):
        return
    data = (rng.standard_normal((5, 3, 9)) + 1.5).astype(dtype)
    x = operand("x", data)
    values: dict[Node, np.ndarray] = {x: data}
    for axes in ((0, 2),) if dtype in (np.int8, np.int32) else ((0, 2), (1,)):
        check_node(Reduce(x, kind=kind, axes=axes, keepdims=False), values, 2e-3 if dtype == F2 else 1e-12)


def test_few_results_of_many_elements(rng: np.random.Generator) -> None:
    data = rng.standard_normal((2, 7000, 3)).astype(F4)
    x = operand("x", data)
    values: dict[Node, np.ndarray] = {x: data}
    for axes, kind in (((0, 1, 2), "mean"), ((1,), "sum"), ((1, 2), "min")):
        assert len(check_node(Reduce(x, kind=kind, axes=axes), values, 1e-5, 1e-4)) == 2


def test_small_gpus_share_it_among_fewer_blocks() -> None:
    load_kernels()
    node = Reduce(given((2, 70000, 3))[0], kind="sum", axes=(0, 1, 2))
    machines = [Machine(dc.replace(ARCHITECTURES["sm_90"], multiprocessors=n)) for n in (132, 28)]
    assert [lower(node, machine)[0].kernel.grid[1] for machine in machines] == [264, 56]


def test_nan_and_nothing() -> None:
    x, values = given((3, 40))
    values[x][1, 17] = np.nan
    for kind in ("max", "min", "mean"):
        check_node(Reduce(x, kind=kind, axes=(1,)), values, 1e-5, 1e-4)
    x, values = given((3, 0))
    for kind in ("max", "min", "sum", "prod"):
        check_node(Reduce(x, kind=kind, axes=(1,)), values)
