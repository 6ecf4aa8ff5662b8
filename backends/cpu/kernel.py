"""What a step of the cpu backend is: a kernel, its arguments, its units of work; and who lowers which operator to which kernels."""

from __future__ import annotations

import dataclasses as dc
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import ClassVar

from ...engine.graph import Node
from ..common.choices import RULE, Schedules
from ..common.lowering import Address as Address
from ..common.lowering import LateTable as LateTable
from ..common.lowering import Lowerings
from ..common.lowering import NoKernel as NoKernel
from ..common.lowering import Table as Table
from . import NUMBA_KERNELS, VECTOR_KERNELS
from .emit import Emitter
from .target import Target


@dc.dataclass(frozen=True)
class Kernel:
    """A kernel to be generated: its fields are everything that decides its code, besides the target."""

    parameters: ClassVar[tuple[str, ...]] = ()
    """Names of its arguments in order, for families where they do not depend on the fields; `x*` is an address."""
    engine: ClassVar[str] = "vector"
    """"vector" for kernels written in LLVM IR, "numba" for the long tail."""

    @property
    def symbol(self) -> str:
        """A name that is unique for the content."""
        return _symbol(self)

    @property
    def signature(self) -> tuple[str, ...]:
        """Names of the arguments of this very kernel."""
        return self.parameters

    def emit(self, target: Target) -> str:
        """LLVM IR text of a module that defines the function `symbol`."""
        emitter = Emitter(self.symbol, self.signature, target)
        self.write(emitter)
        return emitter.text()

    def write(self, k: Emitter) -> None:
        """Emit the body."""
        raise NotImplementedError


@functools.lru_cache(maxsize=4096)
def _symbol(kernel: Kernel) -> str:
    name = type(kernel).__name__.removesuffix("Kernel").lower()
    return f"{name}_{hashlib.sha256(repr(kernel).encode()).hexdigest()[:20]}"


@dc.dataclass(frozen=True)
class Scratch:
    """Memory of `nbytes` for each thread, at (address + thread * nbytes), that lives during one step only.

    Shared, it is one piece for all threads, and what one step of a node leaves there the next step of the same node finds.
    """

    nbytes: int
    shared: bool = False


Argument = int | Node | Table | Scratch | Address


@dc.dataclass(frozen=True)
class Call:
    """One step of a plan: a kernel applied to arguments over `units` units of work, which threads share in grains."""

    kernel: Kernel
    arguments: Mapping[str, Argument]
    units: int
    grain: int = 1
    """Fewest units that are worth handing to a thread at a time."""


@dc.dataclass(frozen=True)
class Machine:
    """What a lowering may know: the target and the number of threads, and whom it asks where there is a choice."""

    target: Target
    threads: int
    accuracy: str = "fast"
    schedules: Schedules = RULE


Lowering = Callable[..., list[Call]]
LOWERINGS = Lowerings((*VECTOR_KERNELS, *NUMBA_KERNELS))


def lowers(*operators: type[Node]) -> Callable[[Lowering], Lowering]:
    """Decorator: this function `(node, machine) -> list[Call]` lowers these operators, or raises NoKernel(reason).

    Operand and result layouts are those of `node.operands[i].type.layout` and `node.type.layout`. Lowerings are asked in the
    order of their modules in this folder's `__init__`.
    """
    return LOWERINGS.register(*operators)


def lower(node: Node, machine: Machine) -> list[Call]:
    """See `Lowerings.lower`."""
    return LOWERINGS.lower(node, machine)


LEAST_GRAIN, MOST_GRAIN = 2e-6, 5e-6
"""Seconds of work that are handed out at a time: enough to pay for the claim; but when one thread is done the others soon are."""


def grain_for(units: int, work: float, threads: int) -> int:
    """Units to hand out at a time, of `work` seconds in all: about four grains a thread, more where these would take long."""
    if units <= 1 or threads == 1:
        return max(1, units)
    seconds = min(max(work / (4 * threads), LEAST_GRAIN), MOST_GRAIN)
    return max(1, min(units, round(units * seconds / max(work, 1e-9))))
