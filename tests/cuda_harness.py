"""Single nodes and kernels on the emulated GPU: on guarded memory, in every basic schedule, compared with float64, and compiled by NVRTC.

A new family is tested with `check_node`; everything that a kernel can do wrong without a GPU noticing ends in an error there.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import importlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from cpu_harness import assert_close, expected

from tilewright.backends.common.storage import result_offset
from tilewright.backends.cuda import KERNELS
from tilewright.backends.cuda.architecture import ARCHITECTURES, Architecture
from tilewright.backends.cuda.cubin import compile_kernel
from tilewright.backends.cuda.emulator.build import kernel_libraries
from tilewright.backends.cuda.emulator.launch import BASIC, Schedule, launch
from tilewright.backends.cuda.emulator.memory import GuardedMemory
from tilewright.backends.cuda.kernel import Address, Argument, Call, Extent, Kernel, Machine, Parameter, Scratch, Table, lower
from tilewright.backends.cuda.nvrtc import nvrtc
from tilewright.engine.errors import MachineError
from tilewright.engine.graph import Constant, Node
from tilewright.engine.ops.layout import from_physical, to_physical

pytestmark = needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="emulating CUDA kernels needs g++")


@functools.cache
def _why_no_nvrtc() -> str:
    try:
        nvrtc()
    except MachineError as error:
        return str(error)
    return ""


needs_nvrtc = pytest.mark.skipif(bool(_why_no_nvrtc()), reason=_why_no_nvrtc())


def load_kernels() -> None:
    """Register the lowerings of every module."""
    for name in KERNELS:
        importlib.import_module(f"tilewright.backends.cuda.{name}")


@dc.dataclass(frozen=True)
class TextKernel(Kernel):
    """A kernel of a test: its parameters and its body as they are."""

    given: tuple[Parameter, ...]
    text: str
    threads_of_block: int = 32
    blocks: int = 1
    bytes_shared: int = 0

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self.given

    @property
    def grid(self) -> Extent:
        return self.blocks, 1, 1

    @property
    def block(self) -> Extent:
        return self.threads_of_block, 1, 1

    @property
    def shared(self) -> int:
        return self.bytes_shared

    def body(self) -> str:
        return self.text


def run_kernel(kernel: Kernel, arrays: Mapping[str, np.ndarray], schedule: Schedule = BASIC[0]) -> dict[str, Any]:
    """What is in the arrays of its parameters after one launch; a parameter may be given garbage by `np.empty`-like arrays."""
    memories = {name: filled(name, array) for name, array in arrays.items()}
    (library,) = kernel_libraries([kernel])
    launch(library, kernel, [memories[p.name].address for p in kernel.parameters], schedule)
    return {name: memory.bytes.view(arrays[name].dtype).reshape(arrays[name].shape).copy() for name, memory in memories.items()}


def filled(name: str, array: np.ndarray) -> GuardedMemory:
    """Memory with the content of an array."""
    memory = GuardedMemory(array.nbytes, name)
    memory.bytes[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memory


class NodeRun:
    """One node with its memory: every operand, table and result lies between pages of its own."""

    def __init__(self, node: Node, values: Mapping[Node, np.ndarray], machine: Machine, calls: Sequence[Call] = ()) -> None:
        """`calls`: the node's steps, where they are not those of whoever is asked first."""
        load_kernels()
        self.node, self.values = node, values
        self.calls = list(calls) or lower(node, machine)
        self.libraries = kernel_libraries([call.kernel for call in self.calls])

    def run(self, schedule: Schedule) -> list[np.ndarray]:
        """The results as logical arrays; asserts that operands stay as they are and padding lanes are finite."""
        places: dict[Any, GuardedMemory] = {
            value: filled(f"operand {i}", to_physical(a, value.type.layout)) for i, (value, a) in enumerate(self.values.items())
        }
        last = len(self.node.types) - 1
        places[self.node] = GuardedMemory(result_offset(self.node, last) + self.node.types[last].nbytes, "the result")
        for call, library in zip(self.calls, self.libraries, strict=True):
            pointers = [self._address(call.arguments[p.name], places) for p in call.kernel.parameters]
            launch(library, call.kernel, pointers, schedule)
            self._check(call, places)
        return [self._result(places[self.node], i) for i in range(len(self.node.types))]

    def _address(self, argument: Argument, places: dict[Any, GuardedMemory]) -> int:
        place, offset = (argument.place, argument.offset) if isinstance(argument, Address) else (argument, 0)
        if place not in places:
            places[place] = self._memory(place)
        return places[place].address + offset

    def _memory(self, place: Any) -> GuardedMemory:
        if isinstance(place, Scratch):
            memory = GuardedMemory(place.nbytes, "scratch memory")
            memory.bytes[:] = 0 if place.zero else memory.bytes
            return memory
        if isinstance(place, Table):
            return filled("a table", place.data)
        assert isinstance(place, Constant), f"{place} is no operand"
        return filled("a constant", to_physical(place.data, place.type.layout))

    def _check(self, call: Call, places: dict[Any, GuardedMemory]) -> None:
        for value, array in self.values.items():
            content = to_physical(array, value.type.layout).reshape(-1).view(np.uint8)
            assert np.array_equal(places[value].bytes, content), f"{call.kernel.name} wrote to an operand"
        for place, memory in places.items():
            assert not (isinstance(place, Scratch) and place.zero and memory.bytes.any()), f"{call.kernel.name} left no zeros"

    def _result(self, memory: GuardedMemory, index: int) -> np.ndarray:
        kind, start = self.node.types[index], result_offset(self.node, index)
        physical = memory.bytes[start : start + kind.nbytes].view(kind.dtype).reshape(kind.physical_shape)
        if kind.layout and kind.dtype.kind == "f":
            inside = to_physical(np.ones(kind.shape, bool), kind.layout)
            assert np.isfinite(physical[~inside]).all(), "padding lanes are not finite"
        return from_physical(physical, kind.shape, kind.layout).copy()


def check_node(
    node: Node,
    values: Mapping[Node, np.ndarray],
    relative: float = 1e-6,
    absolute: float = 0.0,
    precision: str = "fp32",
    schedules: Sequence[Schedule] = BASIC,
) -> list[Call]:
    """Assert that the node gives what NumPy gives in float64, and the same bits in every schedule; its calls, for more checks."""
    run = NodeRun(node, values, Machine(ARCHITECTURES["sm_90"], precision))
    first: list[np.ndarray] = []
    for schedule in schedules:
        found = run.run(schedule)
        first = first or found
        for a, b in zip(first, found, strict=True):
            assert a.tobytes() == b.tobytes(), f"{node!r}: {schedule} gives other bits than {schedules[0]}"
    for result, want in zip(first, expected(node, values), strict=True):
        assert_close(result, want, relative, absolute, repr(node))
    return run.calls


def check_compiles(kernel: Kernel, architectures: Sequence[Architecture] = tuple(ARCHITECTURES.values())) -> None:
    """Assert that NVRTC compiles the kernel for every architecture, that it spills nothing, and that it stays inside the limits."""
    for architecture in architectures:
        cubin = compile_kernel(kernel, architecture)
        assert not cubin.excess(), f"{kernel.name} on {architecture.name}: {cubin.excess()}"
