"""Phases of a transposed convolution that are one stack of products: they differ in where they read, write and have their weights.

With a kernel of 2 or 4 and a stride of 2 all phases are alike, so that the whole convolution is one step; with a kernel of 3 an axis
has a phase of two taps and one of one.
"""

from __future__ import annotations

import dataclasses as dc
import itertools
from collections.abc import Sequence

import numpy as np

from ...engine.ops import Conv, ConvTranspose
from ..common.geometry import Axis, phases_of_axes
from ..common.lowering import LateTable, Table


@dc.dataclass(frozen=True)
class Run:
    """Phases of one axis that follow each other, with equally many outputs and taps."""

    axes: tuple[Axis, ...]

    @property
    def first(self) -> Axis:
        """The phase that writes the first output."""
        return self.axes[0]

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.axes)

    @property
    def moved(self) -> int:
        """Inputs by which each reads behind the one before."""
        return start(self.axes[1]) - start(self.axes[0]) if len(self.axes) > 1 else 0

    def takes(self, axis: Axis) -> bool:
        """Whether the next phase belongs to it."""
        moved = start(axis) - start(self.axes[-1])
        return reach(axis) == reach(self.first) and (len(self.axes) == 1 or moved == self.moved)


def start(axis: Axis) -> int:
    """Where the first tap of output 0 reads."""
    return axis.taps[0].offset if axis.taps else 0


def reach(axis: Axis) -> tuple[int, int, tuple[int, ...]]:
    """What phases of one run have in common: outputs, their step in the input, and where taps lie behind the first one."""
    return axis.count, axis.step, tuple(tap.offset - start(axis) for tap in axis.taps)


def runs_of(axes: Sequence[Axis]) -> list[Run]:
    """The phases of one axis in as few runs as possible."""
    runs = list[Run]()
    for axis in axes:
        if runs and runs[-1].takes(axis):
            runs[-1] = Run((*runs[-1].axes, axis))
        else:
            runs.append(Run((axis,)))
    return runs


def stacks_of(node: Conv | ConvTranspose) -> list[tuple[Run, ...]]:
    """Every stack as one run for each spatial axis."""
    return list(itertools.product(*map(runs_of, phases_of_axes(node))))


def weights_of(dense: np.ndarray, runs: Sequence[Run]) -> list[np.ndarray]:
    """For each phase of a stack, the last axis first, the weight with its kernel taps only."""
    return [_taps_of(dense, axes) for axes in itertools.product(*(run.axes for run in runs))]


def _taps_of(weight: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    for position, axis in enumerate(axes, start=2):
        indices = [tap.index for tap in axis.taps]
        weight = weight if indices == [*range(weight.shape[position])] else weight.take(indices, position)
    return weight


def in_one(tables: Sequence[Table]) -> Table:
    """Tables of one kind, one behind the other."""
    if len(tables) == 1:
        return tables[0]

    def fill(target: np.ndarray) -> None:
        for table, part in zip(tables, target, strict=True):
            table.write(part)

    return LateTable((len(tables), *tables[0].shape), tables[0].dtype, fill)
