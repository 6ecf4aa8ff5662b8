"""Running a plan: the memory of each run, one call for the steps, and outputs that are not computed where the caller wants them."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ...engine.tensor import TensorType
from ..common.location import CONSTANTS, FIRST_INPUT, Location
from .arena import Arena
from .program import Program


class Known(Protocol):
    """The constants of a plan in memory."""

    @property
    def address(self) -> int: ...

    def view(self, offset: int, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
        """An array that lies there."""
        ...


@dc.dataclass(frozen=True)
class Frame:
    """What a run needs to know beside the program and the constants."""

    results: tuple[TensorType, ...]
    """The types of the outputs."""
    copied: tuple[tuple[int, TensorType, Location], ...]
    """Outputs that are not computed in the caller's array, and where and as what they are: inputs, constants, parts of others."""
    arena_size: int
    scratch_size: int


class Runner:
    """A plan that is ready to run. Callers that run at once each get an arena of their own."""

    def __init__(self, frame: Frame, program: Program, known: Known) -> None:
        self.frame, self.program, self.known = frame, program, known
        self._contexts: list[tuple[Arena, Arena]] = []

    def take_context(self) -> tuple[Arena, Arena]:
        """An arena and scratch memory that no other run is using; without a lock, which a fork could leave taken forever."""
        try:
            return self._contexts.pop()
        except IndexError:
            return Arena(self.frame.arena_size), Arena(self.frame.scratch_size)

    def give_back(self, context: tuple[Arena, Arena]) -> None:
        """The run is over."""
        self._contexts.append(context)


class Run:
    """One execution: its memory and the addresses of everything."""

    def __init__(self, runner: Runner, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None) -> None:
        self.runner = runner
        self.inputs = [np.ascontiguousarray(a) for a in inputs]
        self.out = list(out) if out is not None else [np.empty(kind.shape, kind.dtype) for kind in runner.frame.results]

    def __enter__(self) -> Run:
        self.context = self.runner.take_context()
        arena, scratch = self.context
        places = arena.address, self.runner.known.address, scratch.address
        self.bases = [*places, *(a.ctypes.data for a in (*self.inputs, *self.out))]
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.give_back(self.context)

    def steps(self, first: int, last: int) -> None:
        """Some steps of the program."""
        self.runner.program.run_range(self.bases, first, last)

    def physical(self, kind: TensorType, at: Location) -> np.ndarray:
        """A value in memory, in its physical order."""
        if at.base < FIRST_INPUT:
            memory = self.runner.known if at.base == CONSTANTS else self.context[0]
            return memory.view(at.offset, kind.dtype, kind.physical_shape)
        array = [*self.inputs, *self.out][at.base - FIRST_INPUT]
        return array.reshape(-1).view(np.uint8)[at.offset : at.offset + kind.nbytes].view(kind.dtype).reshape(kind.physical_shape)

    def finish(self) -> list[np.ndarray]:
        """The outputs; those that lie elsewhere are copied."""
        for index, kind, at in self.runner.frame.copied:
            self.out[index][...] = logical(self.physical(kind, at), kind)
        return self.out


def logical(array: np.ndarray, kind: TensorType) -> np.ndarray:
    """The logical array behind a physical one; a view where its layout is plain."""
    if kind.layout is None:
        return array.reshape(kind.shape)
    from ...engine.ops.layout import from_physical  # with the operators, which a saved model is opened without

    return from_physical(array, kind.shape, kind.layout)
