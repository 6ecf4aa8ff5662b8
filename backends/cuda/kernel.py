"""What a step of the cuda backend is: a kernel and where its operands lie; and who lowers which operator to which kernels."""

from __future__ import annotations

import dataclasses as dc
import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from ...engine.graph import Node
from ..common.choices import RULE, Schedules
from ..common.cuda_expression import memory_type
from ..common.lowering import Address, Lowerings, NoKernel, Table
from . import KERNELS
from .architecture import Architecture

Extent = tuple[int, int, int]


@dc.dataclass(frozen=True)
class Parameter:
    """A pointer that a kernel is called with."""

    name: str
    dtype: np.dtype
    written: bool = False
    alone: bool = True
    """Nothing else that the kernel is called with overlaps it, so that it is declared `__restrict__`."""

    @property
    def declaration(self) -> str:
        """As CUDA text."""
        return f"{'' if self.written else 'const '}{memory_type(self.dtype)}*{' __restrict__' if self.alone else ''} {self.name}"


@dc.dataclass(frozen=True)
class Kernel:
    """A kernel to be generated: its fields are everything that decides its code and its launch. All extents are constants in its text.

    A family is a subclass with fields, `parameters`, `grid`, `block`, `shared` where it needs shared memory, and `body`. The text
    uses nothing but the language, threadIdx, blockIdx, __syncthreads, SHARED_MEMORY(name), and what prelude.cuh and functions.cuh
    declare, so that the same text runs on a GPU and in the emulator.
    """

    blocks_per_multiprocessor: ClassVar[int] = 1
    """So many must fit; the compiler limits registers to that."""

    @property
    def name(self) -> str:
        """Of the function: unique for the content."""
        return _name(self)

    @property
    def family(self) -> str:
        """Which kind of kernel it is."""
        return type(self).__name__.removesuffix("Kernel").lower()

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What it is called with, in order: pointers only."""
        raise NotImplementedError

    @property
    def grid(self) -> Extent:
        """Blocks along x, y and z."""
        raise NotImplementedError

    @property
    def block(self) -> Extent:
        """Threads of a block along x, y and z."""
        raise NotImplementedError

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory."""
        return 0

    @property
    def threads(self) -> int:
        """Of a block."""
        return math.prod(self.block)

    def body(self) -> str:
        """What stands between the braces of the function."""
        raise NotImplementedError

    def source(self) -> str:
        """CUDA C++ text of the one function that it is."""
        declared = ", ".join(parameter.declaration for parameter in self.parameters)
        bounds = f"__launch_bounds__({self.threads}, {self.blocks_per_multiprocessor})"
        return f'extern "C" __global__ void {bounds} {self.name}({declared}) {{\n{self.body().rstrip()}\n}}\n'


@functools.lru_cache(maxsize=4096)
def _name(kernel: Kernel) -> str:
    return f"{kernel.family}_{hashlib.sha256(repr(kernel).encode()).hexdigest()[:20]}"


@dc.dataclass(frozen=True)
class Scratch:
    """Memory of `nbytes` that holds anything before a step and is free after it. Equal objects in a call are one piece.

    Where one piece is all that the steps of a node have, each of them finds in it what the step before has left.

    `zero`: it holds zeros before the step, and the kernel leaves zeros there.
    """

    nbytes: int
    zero: bool = False


Argument = Node | Table | Scratch | Address


@dc.dataclass(frozen=True)
class Call:
    """One step of a plan: a kernel, and for each of its parameters by name what the pointer leads to."""

    kernel: Kernel
    arguments: Mapping[str, Argument]

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.kernel.parameters]
        assert sorted(names) == sorted(self.arguments), f"{self.kernel.name} takes {names}, given {list(self.arguments)}"


@dc.dataclass(frozen=True)
class Machine:
    """What a lowering may know."""

    architecture: Architecture
    precision: str = "fp32"
    """Of products: "fp32", "tf32x3", "tf32", "fp16" or "bf16"."""
    accuracy: str = "fast"
    schedules: Schedules = RULE
    """Whom a lowering asks where there is a choice."""


MOST_BLOCKS = 2**31 - 1, 65535, 65535
"""Of a grid, along each axis."""


def check_grid(kernel: Kernel) -> None:
    """NoKernel for more blocks than a grid may have along an axis."""
    if any(blocks > most for blocks, most in zip(kernel.grid, MOST_BLOCKS, strict=True)):
        raise NoKernel(f"{kernel.family} in a grid of {kernel.grid} blocks")


def launchable(calls: list[Call]) -> list[Call]:
    """The calls, or NoKernel where one cannot be launched."""
    for call in calls:
        check_grid(call.kernel)
    return calls


Lowering = Callable[..., list[Call]]
LOWERINGS = Lowerings(KERNELS, launchable)


def lowers(*operators: type[Node]) -> Callable[[Lowering], Lowering]:
    """Decorator: this function `(node, machine) -> list[Call]` lowers these operators, or raises NoKernel(reason).

    Operand and result layouts are those of `node.operands[i].type.layout` and `node.type.layout`. Every value starts at an address
    that is a multiple of 16. Lowerings are asked in the order of their modules in this folder's `__init__`.
    """
    return LOWERINGS.register(*operators)


def lower(node: Node, machine: Machine) -> list[Call]:
    """See `Lowerings.lower`."""
    return LOWERINGS.lower(node, machine)
