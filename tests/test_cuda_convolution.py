"""Convolutions as tiled products: every kind of product and geometry in the emulator, against float64; and as machine code."""

from __future__ import annotations

import dataclasses as dc

import cuda_harness
import numpy as np
import pytest
from cuda_harness import load_kernels, needs_compiler
from cuda_products import (
    FIRST,
    PRECISIONS,
    RELU,
    SECOND,
    SM_90,
    SUM,
    Case,
    candidate_tiles,
    check,
    kernel_of,
    node_of,
    sampled,
    shared_by,
)

from tilewright.backends.cuda.convolution import lower_convolution
from tilewright.backends.cuda.emulator.launch import BASIC, THOROUGH
from tilewright.backends.cuda.kernel import Machine, NoKernel
from tilewright.backends.cuda.schedule import Tile
from tilewright.engine.expression import apply
from tilewright.engine.tensor import Blocked

SHAPES = [
    Case(8, 16, (5, 7), (3, 3), pad=1),
    Case(3, 20, (9, 8), (7, 7), stride=2, pad=3, epilogue=RELU),
    Case(10, 6, (6, 6), (1, 1), batch=3, bias=False),
    Case(64, 40, (7, 7), (1, 1), stride=2),
    Case(24, 33, (11, 5), (5, 5), pad=2, batch=2),
    Case(16, 70, (4, 9), (3, 2), stride=3, pad=1),
    Case(12, 12, (13, 13), (3, 3), dilation=3, pad=3, epilogue=apply("silu", SUM + FIRST), extras=("full",)),
    Case(9, 31, (8, 8), (3, 3), pad=1, epilogue=apply("relu", SUM) * FIRST + SECOND, extras=("channel", "full"), batch=2),
    Case(20, 24, (6, 6), (3, 3), epilogue=SUM * FIRST + SECOND, extras=("one", "pixel"), batch=2),
    Case(16, 24, (6, 7), (3, 3), pad=1, groups=2),
    Case(64, 64, (6, 5), (3, 3), pad=1, groups=2, epilogue=RELU, batch=2),
    Case(32, 64, (5, 5), (3, 3), pad=1, groups=8, epilogue=SUM + FIRST, extras=("full",)),
    Case(15, 30, (5, 6), (3, 3), groups=3, stride=2, pad=1),
    Case(128, 128, (4, 4), (1, 1), groups=4, epilogue=SUM * FIRST, extras=("channel",), batch=2),
    Case(10, 18, (23,), (5,), pad=2, stride=2),
    Case(8, 20, (31,), (3,), dilation=4, batch=2, epilogue=apply("tanh", SUM)),
    Case(6, 10, (4, 5, 6), (3, 3, 3), pad=1),
    Case(4, 36, (5, 3, 7), (2, 1, 3), stride=2, pad=1, batch=2),
    Case(200, 12, (2, 3), (3, 3), pad=1),
    Case(72, 130, (3, 3), (1, 1)),
    Case(5, 7, (1, 1), (1, 1), batch=5),
    Case(12, 9, (10, 12), (4, 4), stride=4),
    Case(8, 8, (17, 3), (1, 3), pad=1, more=(("pads", ((0, 0), (2, 0))),)),
    Case(7, 40, (9, 9), (3, 3), pad=1, epilogue=apply("log", apply("abs", SUM) + 1)),
    Case(12, 20, (5, 6), (3, 3), stride=2, pad=1, transposed=True, epilogue=SUM + FIRST, extras=("full",)),
    Case(16, 16, (4, 4), (2, 2), stride=2, transposed=True, groups=2, batch=2),
    Case(8, 5, (5,), (5,), stride=3, dilation=2, transposed=True),
    Case(40, 20, (5, 6), (4, 4), stride=2, pad=1, transposed=True, batch=2, epilogue=SUM * FIRST + SECOND, extras=("full", "pixel")),
    Case(64, 72, (3, 4), (4, 4), stride=2, pad=1, transposed=True, groups=2, batch=2, epilogue=SUM + FIRST, extras=("channel",)),
    Case(12, 9, (4, 3), (5, 5), stride=4, pad=1, transposed=True, more=(("output_padding", (1, 2)),)),
    Case(8, 12, (3, 2, 2), (2, 2, 2), stride=2, transposed=True, batch=2, epilogue=RELU),
    Case(8, 12, (4, 3), (2, 2), stride=2, transposed=True, batch=2, more=(("pads", ((1, 0), (1, 0))), ("output_padding", (1, 1)))),
    Case(6, 9, (3, 3), (1, 1), stride=2, transposed=True, epilogue=RELU),
]


@needs_compiler
@pytest.mark.parametrize(("case", "precision"), sampled([(c, p) for c in SHAPES for p in PRECISIONS], 3))
def test_geometry(case: Case, precision: str) -> None:
    check(case, precision)


DEEP = Case(72, 44, (5, 6), (3, 3), pad=1, epilogue=apply("silu", SUM + FIRST), extras=("full",))


@needs_compiler
@pytest.mark.parametrize(("splits", "precision"), sampled([(s, p) for s in (1, 2, 3, 4, 6, 8, 12, 16) for p in PRECISIONS], 4))
def test_splits(splits: int, precision: str) -> None:
    """Blocks share tiles and sum in the same order whoever comes last; the counters are zero again."""
    (call,) = check(DEEP, precision, dc.replace(shared_by(precision), depth=32, splits=splits))
    assert call.kernel.grid[2] == splits


@needs_compiler
@pytest.mark.sweep
@pytest.mark.parametrize("precision", PRECISIONS)
def test_splits_in_many_schedules(precision: str) -> None:
    check(DEEP, precision, dc.replace(shared_by(precision), splits=4, stages=4), THOROUGH)


@needs_compiler
@pytest.mark.parametrize(("precision", "tile"), sampled(candidate_tiles(), 7))
def test_every_candidate(precision: str, tile: Tile) -> None:
    """Each tile, with odd numbers of positions and channels, in two schedules."""
    check(Case(20, 77, (9, 9), (3, 3), pad=1, stride=2, batch=5, epilogue=RELU), precision, tile, (BASIC[0], BASIC[-1]))


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "stacks"),
    [(2, 2, 0, [4]), (4, 2, 1, [4]), (3, 2, 1, [1, 1, 1, 1]), (5, 4, 0, [1, 3, 3, 9]), (1, 2, 0, [1] * 4)],
)
def test_phases_that_are_alike_are_one_step(kernel: int, stride: int, pad: int, stacks: list[int], rng: np.random.Generator) -> None:
    load_kernels()
    node, _ = node_of(Case(16, 8, (5, 6), (kernel, kernel), stride=stride, pad=pad, transposed=True), "fp32", rng)
    assert [kernel_of(call).stack for call in lower_convolution(node, Machine(SM_90))] == stacks


@needs_compiler
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_stages(stages: int) -> None:
    check(Case(40, 33, (6, 6), (3, 3), pad=1), "fp32", dc.replace(shared_by("fp32"), stages=stages))


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_padding_lanes_of_inputs_are_not_seen(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold any finite numbers."""
    to_physical = cuda_harness.to_physical

    def with_garbage(array: np.ndarray, layout: Blocked | None) -> np.ndarray:
        physical = to_physical(array, layout)
        if layout is not None and array.dtype.kind == "f":
            physical[~to_physical(np.ones(array.shape, bool), layout)] = 1e4
        return physical

    monkeypatch.setattr(cuda_harness, "to_physical", with_garbage)
    check(Case(10, 18, (5, 5), (3, 3), pad=1, epilogue=SUM + FIRST, extras=("full",)), precision, schedules=BASIC[:1])


# what is declined


@pytest.mark.parametrize(
    ("case", "why"),
    [(Case(16, 16, (5, 5), (3, 3), groups=16), "depthwise"), (Case(16, 16, (5, 5), (3, 3), more=(("layout", None),)), "channels-last")],
)
def test_declined(case: Case, why: str, rng: np.random.Generator) -> None:
    load_kernels()
    node, _ = node_of(dc.replace(case, more=()), "fp32", rng)
    if case.more:
        node = node.replace(layout=None)
    with pytest.raises(NoKernel, match=why):
        lower_convolution(node, Machine(SM_90))
