"""The general convolution, transposed ones, and first convolutions of few channels on the emulated GPU."""

from __future__ import annotations

import dataclasses as dc
import itertools
from typing import Any

import numpy as np
import pytest
from cuda_convolutions import F2, F4, F8, FEW, convolution, tolerance
from cuda_harness import NodeRun, check_compiles, check_node, load_kernels, needs_compiler, needs_nvrtc

from tilewright.backends.common.geometry import phases
from tilewright.backends.cuda import conv_direct, conv_stem
from tilewright.backends.cuda.architecture import ARCHITECTURES, Architecture
from tilewright.backends.cuda.conv_direct_tile import TILES, Tile, choose_tile
from tilewright.backends.cuda.emulator.launch import BASIC
from tilewright.backends.cuda.kernel import LOWERINGS, Call, Machine, lower
from tilewright.backends.cuda.phases import PhasedAxis, phased_axes
from tilewright.engine.expression import Operand, apply
from tilewright.engine.ops import Conv, ConvTranspose

pytestmark = needs_compiler
SAME = ((1, 1), (1, 1))
Case = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]
CONVOLUTIONS: list[Case] = [
    ((2, 3, 13, 11), (10, 3, 3, 3), {"strides": (2, 1), "pads": ((1, 1), (1, 0))}),
    ((1, 6, 9, 7), (9, 2, 3, 3), {"groups": 3, "dilations": (2, 1), "pads": ((1, 1), (1, 0))}),
    ((1, 8, 9, 7), (8, 4, 3, 3), {"groups": 2, "pads": SAME}),
    ((2, 5, 20), (7, 5, 4), {"strides": (3,)}),
    ((1, 4, 4, 5, 6), (20, 4, 2, 3, 3), {"pads": ((1, 1), (1, 1), (0, 1))}),
    ((1, 6, 5, 5), (12, 1, 3, 3), {"groups": 6}),
]
TRANSPOSED: list[Case] = [
    ((2, 3, 7, 5), (3, 10, 3, 3), {"strides": (2, 2), "pads": ((1, 1), (1, 0))}),
    ((1, 6, 5, 7), (6, 2, 4, 4), {"strides": (2, 2), "pads": SAME, "groups": 3}),
    ((1, 4, 5, 7), (4, 1, 3, 2), {"strides": (3, 2), "dilations": (2, 2), "groups": 4, "output_padding": (1, 1)}),
    ((1, 4, 9), (4, 6, 5), {"strides": (4,), "dilations": (6,)}),
    ((1, 3, 3, 3, 4), (3, 5, 2, 2, 3), {"strides": (2, 1, 2)}),
    ((1, 2, 3, 3), (2, 3, 16, 16), {"strides": (8, 8), "pads": ((4, 4), (4, 4))}),
    ((1, 2, 3, 4), (2, 3, 3, 3), {"strides": (9, 9), "dilations": (4, 4), "pads": ((2, 2), (2, 2))}),
]
EVERY = [*((Conv, case) for case in CONVOLUTIONS), *((ConvTranspose, case) for case in TRANSPOSED)]
STEMS: list[Case] = [
    ((2, 3, 13, 11), (10, 3, 7, 7), {"strides": (2, 2), "pads": ((3, 3), (3, 3))}),
    ((1, 1, 9, 33), (6, 1, 5, 5), {}),
    ((1, 4, 8, 17), (40, 4, 3, 3), {"pads": SAME, "dilations": (1, 2), "strides": (1, 3)}),
    ((2, 2, 29), (7, 2, 4), {"strides": (3,), "pads": ((1, 2),)}),
    ((1, 3, 5, 6, 7), (9, 3, 3, 3, 3), {"pads": ((1, 1), (1, 1), (1, 1))}),
]
LAYOUTS = list(itertools.product((False, True), (False, True)))


@pytest.fixture
def only_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is asked."""
    load_kernels()
    for operator in (Conv, ConvTranspose):
        monkeypatch.setitem(LOWERINGS, operator, [conv_direct.lower_direct])


def check_some(operator: Any, case: Case, dtype: Any, last: tuple[bool, bool], is_constant: bool = True, every: int = 3) -> Call:
    """The call of a case, which was compared in every so-manieth basic schedule."""
    shape, weight, attributes = case
    node, values = convolution(shape, weight, dtype=dtype, last=last, operator=operator, is_constant=is_constant, **attributes)
    (call,) = check_node(node, values, *tolerance(dtype), schedules=BASIC[::every])
    return call


@pytest.mark.usefixtures("only_direct")
@pytest.mark.parametrize(("operator", "case"), EVERY)
def test_layouts(operator: Any, case: Case) -> None:
    """Each case with two of the four, two dtypes, and constant weights or computed ones."""
    turn = sum(case[0]) % 2
    check_some(operator, case, F4, LAYOUTS[turn], is_constant=turn == 0)
    check_some(operator, case, F2 if turn else F8, LAYOUTS[3 - turn])


@pytest.mark.sweep
@pytest.mark.usefixtures("only_direct")
@pytest.mark.parametrize(("operator", "case"), EVERY)
@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", [F4, F2, F8])
@pytest.mark.parametrize("is_constant", [False, True])
def test_everything(operator: Any, case: Case, last: tuple[bool, bool], dtype: Any, is_constant: bool) -> None:
    check_some(operator, case, dtype, last, is_constant, every=1)


@pytest.mark.usefixtures("only_direct")
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles(tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    """More channels and positions than a tile holds, and a rest of both; a depth that is no multiple either."""
    monkeypatch.setattr(conv_direct, "choose_tile", lambda *_: tile)
    rows, columns = (70, 9) if tile.rows >= 16 else (2 * tile.rows, 23)
    last = (tile.column_run == 4, tile.rows >= 4)
    case = (1, 8, columns, 13), (rows, 8, 3, 2), {"pads": SAME}
    check_some(Conv, case, F4, last, every=5)


@pytest.mark.usefixtures("only_direct")
@pytest.mark.parametrize("last", LAYOUTS)
def test_epilogues(last: tuple[bool, bool]) -> None:
    extras = ((2, 6, 5, 9), (2, 6, 1, 1), (5, 9), (1, 1, 1, 9), (1, 6, 5, 1))
    total = apply("silu", Operand(0) * Operand(2)) + Operand(1) * Operand(3) + apply("max", Operand(4), Operand(5))
    for groups in (1, 2):
        shape, weight = (2, 4, 5, 9), (6, 4 // groups, 3, 3)
        node, values = convolution(shape, weight, last=last, extras=extras, epilogue=total, pads=SAME, groups=groups)
        check_node(node, values, *tolerance(F4), schedules=BASIC[::3])


@pytest.mark.parametrize("case", STEMS)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("is_large", [False, True])
def test_stems(case: Case, last: bool, is_large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of outputs, and as many threads as there can be."""
    monkeypatch.setattr(conv_stem, "BLOCKS_EACH", 0 if is_large else 10**6)
    call = check_some(Conv, case, F2 if last == is_large else F4, (last, True), every=2)
    assert isinstance(call.kernel, conv_stem.StemKernel)
    assert (call.kernel.pixels > 2) == is_large or len(case[0]) == 3


def test_weights_of_a_stem_that_fill_shared_memory() -> None:
    """Blocks take as many channels as fit."""
    node, values = convolution((1, 3, 12, 14), (70, 3, 11, 11), last=(False, True), pads=((2, 2), (3, 3)), strides=(4, 4))
    (call,) = check_node(node, values, *tolerance(F4), schedules=BASIC[::3])
    assert isinstance(call.kernel, conv_stem.StemKernel)
    assert call.kernel.grid[1] > 1
    assert call.kernel.shared <= conv_stem.MOST_SHARED


def test_phases_follow_from_a_formula(rng: np.random.Generator) -> None:
    """As the geometry that all backends share has them one by one."""
    seen = 0
    while seen < 300:
        kernel, stride, dilation, size, before = (int(n) for n in rng.integers(1, 7, 5))
        attributes = {"strides": (stride,), "dilations": (dilation,), "pads": ((before - 3, 1),)}
        if (size - 1) * stride + (kernel - 1) * dilation + 1 <= before - 2:
            continue
        node, _ = convolution((1, 1, size), (1, 1, kernel), last=(False, False), operator=ConvTranspose, **attributes)
        (axis,) = phased_axes(node)
        for phase, (wanted,) in enumerate(phases(node)):
            assert axis.taps(phase) == len(wanted.taps)
            if wanted.taps:
                assert first_and_offset(axis, phase) == (wanted.taps[0].index, wanted.taps[0].offset)
                assert [t.index - wanted.taps[0].index for t in wanted.taps] == [m * axis.tap_step for m in range(len(wanted.taps))]
                assert [t.offset - wanted.taps[0].offset for t in wanted.taps] == [m * axis.offset_step for m in range(len(wanted.taps))]
        seen += 1


def first_and_offset(axis: PhasedAxis, phase: int) -> tuple[int, int]:
    """What the texts say."""
    first = eval(axis.first_text(str(phase)).replace("/", "//"))
    return first, eval(axis.offset_text(str(phase), str(first)).replace("/", "//"))


def test_phases_of_many_kinds_are_one_launch() -> None:
    """Where the tiled product would need one for each of 36."""
    shape, weight, attributes = TRANSPOSED[-1]
    node, values = convolution(shape, weight, operator=ConvTranspose, **attributes)
    (call,) = check_node(node, values, *tolerance(F4), schedules=BASIC[:1])
    assert call.kernel.family == "directconv"
    load_kernels()
    shape, weight, attributes = TRANSPOSED[-2]
    few, _ = convolution(shape, weight, operator=ConvTranspose, **attributes)
    calls = lower(few, Machine(ARCHITECTURES["sm_90"]))
    assert len(calls) == 4 and all(call.kernel.family != "directconv" for call in calls)


def test_small_maps_get_small_tiles() -> None:
    large = ARCHITECTURES["sm_90"]
    assert choose_tile(512, 4096, 1, 4, large).threads == 256
    assert choose_tile(64, 56 * 56, 1, 4, large).columns <= 64
    assert choose_tile(4, 56 * 56, 32, 4, large).rows == 4
    assert choose_tile(1, 10**5, 1, 4, large).rows == 1
    assert choose_tile(512, 4096, 1, 8, large).depth == 8


def test_small_gpus_get_larger_tiles() -> None:
    large, small = (choose_tile(64, 28 * 28, 1, 4, dc.replace(ARCHITECTURES["sm_90"], multiprocessors=n)) for n in (132, 8))
    assert small.rows * small.columns > large.rows * large.columns
    node, _ = convolution((1, 3, 112, 112), (64, 3, 7, 7), last=(False, True), strides=(2, 2), pads=((3, 3), (3, 3)))
    calls = [conv_stem.lower_stem(node, Machine(dc.replace(ARCHITECTURES["sm_90"], multiprocessors=n))) for n in (132, 8)]
    pixels = [call.kernel.pixels for (call,) in calls if isinstance(call.kernel, conv_stem.StemKernel)]
    assert pixels[0] < pixels[1]


@pytest.mark.usefixtures("only_direct")
def test_padding_lanes_become_zero() -> None:
    """Groups whose channels do not fill vectors, and an epilogue that is infinite where the sum is zero."""
    epilogue = apply("div", 1, Operand(0))
    for groups in (1, 3):
        node, values = convolution((1, 6, 5, 5), (6, 6 // groups, 3, 3), bias=False, epilogue=epilogue, groups=groups)
        NodeRun(node, values, Machine(ARCHITECTURES["sm_90"])).run(BASIC[0])


@needs_nvrtc
@pytest.mark.parametrize("architectures", [FEW[1:], pytest.param([*ARCHITECTURES.values()], marks=pytest.mark.sweep)])
@pytest.mark.parametrize("tile", [*TILES[::3], *(pytest.param(tile, marks=pytest.mark.sweep) for tile in TILES)], ids=str)
def test_compiles(tile: Tile, architectures: list[Architecture], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_direct, "choose_tile", lambda *_: tile)
    dtype, operator = (F4, Conv) if tile.column_run == 4 else (F2, ConvTranspose)
    shape, weight = (1, 64, 28, 28), (64, 64, 3, 3)
    node, _ = convolution(shape, weight, dtype=dtype, operator=operator, strides=(2, 2), pads=SAME, last=(tile.rows > 4, True))
    for call in conv_direct.lower_direct(node, Machine(ARCHITECTURES["sm_90"])):
        check_compiles(call.kernel, architectures)


@needs_nvrtc
@pytest.mark.parametrize("architectures", [FEW, pytest.param([*ARCHITECTURES.values()], marks=pytest.mark.sweep)])
@pytest.mark.parametrize(
    ("batch", "kernel", "step", "channels"),
    [(1, 7, 2, 64), (1, 3, 2, 32), pytest.param(8, 7, 2, 64, marks=pytest.mark.sweep), pytest.param(4, 11, 4, 96, marks=pytest.mark.sweep)],
)
def test_stems_compile(batch: int, kernel: int, step: int, channels: int, architectures: list[Architecture]) -> None:
    for last, dtype in ((False, F4), (True, F2)):
        node, _ = convolution((batch, 3, 224, 224), (channels, 3, kernel, kernel), dtype=dtype, last=(last, True), strides=(step, step))
        for call in conv_stem.lower_stem(node, Machine(ARCHITECTURES["sm_90"])):
            check_compiles(call.kernel, architectures)
