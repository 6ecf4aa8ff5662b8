"""Where a convolution reads: each spatial axis as taps at fixed offsets, and the pixels at the borders for which a tap falls outside.

Conv and ConvTranspose come down to the same thing. Along one axis, output j of a phase reads input j*step + offset for each tap.
A convolution has one phase; a transposed one with stride s has s of them, which write every s-th output (Dumoulin & Visin 2016,
"A guide to convolution arithmetic", section 4).
"""

from __future__ import annotations

import dataclasses as dc
import itertools
from collections.abc import Sequence

import numpy as np

from ...engine.ops import Conv, ConvTranspose


@dc.dataclass(frozen=True)
class Tap:
    """Kernel index `index` reads input j*step + offset for output j."""

    index: int
    offset: int


@dc.dataclass(frozen=True)
class Axis:
    """One phase of one spatial axis."""

    size: int
    """Input positions."""
    count: int
    """Outputs of this phase: first, first + spacing, ..."""
    step: int
    taps: tuple[Tap, ...]
    first: int = 0
    spacing: int = 1

    def valid_taps(self, j: int) -> tuple[int, ...]:
        """Positions in `taps` of those that read inside the input for output j."""
        return tuple(i for i, tap in enumerate(self.taps) if 0 <= j * self.step + tap.offset < self.size)

    def valid_outputs(self, tap: Tap, start: int, length: int) -> tuple[int, int]:
        """The sub-range [low, high) of outputs start..start+length, counted from start, for which the tap reads inside."""
        low = max(0, -(tap.offset // self.step) - start)
        high = min(length, (self.size - 1 - tap.offset) // self.step + 1 - start)
        return (low, high) if low < high else (0, 0)

    @property
    def reads_in_order(self) -> bool:
        """Whether output j of the phase reads exactly input j."""
        return [tap.offset for tap in self.taps] == [0] and self.step == 1 and self.count == self.size

    @property
    def is_pointwise(self) -> bool:
        """Whether that is so, and there are no other phases."""
        return self.taps == (Tap(0, 0),) and self.spacing == 1 and self.reads_in_order


@dc.dataclass(frozen=True)
class TapRun:
    """Consecutive taps of the innermost axis, evenly spaced, that are valid for the same pixels [low, high) of a tile."""

    first: int
    count: int
    offset: int
    spacing: int
    low: int
    high: int


@dc.dataclass(frozen=True)
class Segment:
    """Tiles of one row that are equally wide and see the borders alike: `tiles` of them from pixel `start` on."""

    pixels: int
    runs: tuple[TapRun, ...]
    start: int
    tiles: int


def phases(node: Conv | ConvTranspose) -> list[tuple[Axis, ...]]:
    """Every phase of the operator as one Axis for each spatial axis."""
    return list(itertools.product(*phases_of_axes(node)))


def phases_of_axes(node: Conv | ConvTranspose) -> list[list[Axis]]:
    """For each spatial axis its phases, in their order."""
    spatial = range(node.x.type.rank - 2)
    return [_convolution_axis(node, i) if isinstance(node, Conv) else _transposed_axes(node, i) for i in spatial]


def _convolution_axis(node: Conv, i: int) -> list[Axis]:
    taps = tuple(Tap(r, r * node.dilations[i] - node.pads[i][0]) for r in range(node.kernel[i]))
    return [Axis(node.x.type.shape[2 + i], node.type.shape[2 + i], node.strides[i], taps)]


def _transposed_axes(node: ConvTranspose, i: int) -> list[Axis]:
    stride, before, out = node.strides[i], node.pads[i][0], node.type.shape[2 + i]
    axes = []
    for phase in range(min(stride, out)):
        reach = [(r, phase + before - r * node.dilations[i]) for r in range(node.kernel[i])]
        taps = tuple(Tap(r, distance // stride) for r, distance in reach if distance % stride == 0)
        axes.append(Axis(node.x.type.shape[2 + i], -(-(out - phase) // stride), 1, taps, phase, stride))
    return axes


def adjoint_weight(weight: np.ndarray, groups: int) -> np.ndarray:
    """(groups*c, k, *kernel) of a transposed convolution as (groups*k, c, *kernel) of a convolution."""
    split = weight.reshape(groups, -1, *weight.shape[1:])
    return np.ascontiguousarray(np.swapaxes(split, 1, 2)).reshape(-1, split.shape[1], *weight.shape[2:])


def segments(axis: Axis, pixels: int) -> list[Segment]:
    """A row cut into tiles of `pixels` outputs, the last one perhaps narrower, those alike joined."""
    found: list[Segment] = []
    for start in range(0, axis.count, pixels):
        width = min(pixels, axis.count - start)
        runs = tap_runs(axis, start, width)
        if found and (found[-1].pixels, found[-1].runs) == (width, runs):
            found[-1] = dc.replace(found[-1], tiles=found[-1].tiles + 1)
        else:
            found.append(Segment(width, runs, start, 1))
    return found


def tap_runs(axis: Axis, start: int, pixels: int) -> tuple[TapRun, ...]:
    """The taps of the tile at `start`, those alike joined; taps that no pixel can use are left out."""
    runs: list[TapRun] = []
    for i, tap in enumerate(axis.taps):
        low, high = axis.valid_outputs(tap, start, pixels)
        if low == high:
            continue
        if runs and (joined := _joined(runs[-1], i, tap.offset, low, high)):
            runs[-1] = joined
        else:
            runs.append(TapRun(i, 1, tap.offset, 0, low, high))
    return tuple(runs)


def _joined(run: TapRun, position: int, offset: int, low: int, high: int) -> TapRun | None:
    spacing = offset - run.offset if run.count == 1 else run.spacing
    follows = run.first + run.count == position and run.offset + run.count * spacing == offset
    return dc.replace(run, count=run.count + 1, spacing=spacing) if follows and (run.low, run.high) == (low, high) else None


@dc.dataclass(frozen=True)
class Row:
    """One row of outputs: the positions of its outer axes, and which of their taps read inside the input."""

    outputs: tuple[int, ...]
    taps: tuple[tuple[int, ...], ...]


def rows(outer: Sequence[Axis]) -> list[Row]:
    """All rows in order; there is one for a tensor with a single spatial axis."""
    valid = [[axis.valid_taps(j) for j in range(axis.count)] for axis in outer]
    return [Row(js, tuple(v[j] for v, j in zip(valid, js, strict=True))) for js in itertools.product(*(range(a.count) for a in outer))]
