"""Single nodes on the cpu backend: lowered, compiled for a target, run on guarded memory, compared with float64.

Operands and results end where a page without access begins, so that a kernel that reads or writes behind them crashes here, and
nowhere else. Results hold garbage before, and the bytes in front of them are checked afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tilewright.backends.common.storage import result_offset
from tilewright.backends.cpu import NUMBA_KERNELS, VECTOR_KERNELS, codegen
from tilewright.backends.cpu.kernel import Address, Argument, Call, Machine, Scratch, Table, lower
from tilewright.backends.cpu.program import Program, ProgramStep
from tilewright.backends.cpu.target import Target, lacking
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Constant, Graph, Input, Node, Result
from tilewright.engine.ops.layout import from_physical, to_physical
from tilewright.engine.tensor import Blocked

TARGETS = [name for name in ("avx512", "avx2", "neon") if not lacking(name)]
CANARY = 0xC5
GARBAGE = 0xFF
PAGE = mmap.PAGESIZE


def load_kernels() -> None:
    """Register the lowerings of every module that exists."""
    for name in (*VECTOR_KERNELS, *NUMBA_KERNELS):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"tilewright.backends.cpu.{name}")


class Guarded:
    """`nbytes` bytes that end at a page without access; in front of them at least 64 canary bytes."""

    def __init__(self, nbytes: int) -> None:
        room = -(-(nbytes + 64) // PAGE) * PAGE
        self._memory = mmap.mmap(-1, room + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        everything = np.frombuffer(self._memory, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(everything.ctypes.data + room), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
        self.bytes = everything[room - nbytes : room]
        self._front = everything[: room - nbytes]
        self._front[:] = CANARY
        self.bytes[:] = GARBAGE

    @property
    def address(self) -> int:
        return self.bytes.ctypes.data

    def fill(self, array: np.ndarray) -> None:
        """Copy the array in."""
        self.bytes[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def is_intact(self) -> bool:
        """Whether nobody wrote in front."""
        return bool((self._front == CANARY).all())


def operand(name: str, array: np.ndarray, layout: Blocked | None = None) -> Input:
    """An operand of the array's type in a layout."""
    return Input(name=name, shape=array.shape, dtype=array.dtype, layout=layout)


class NodeRun:
    """One node with its memory."""

    def __init__(self, node: Node, values: Mapping[Node, np.ndarray], target: str, threads: int, in_place: Node | None = None) -> None:
        load_kernels()
        self.node, self.threads = node, threads
        self.machine = Machine(Target.describe(target), threads)
        self.places: list[Guarded] = []
        self.base: dict[Any, int] = {}
        for value, array in values.items():
            self.add(value, to_physical(array, value.type.layout))
        if in_place is not None:
            self.base[node] = self.base[in_place]
        elif node not in self.base:
            last = node.types[-1]
            self.add(node, result_offset(node, len(node.types) - 1) + last.nbytes)
        self.calls = lower(node, self.machine)

    def add(self, key: Any, content: np.ndarray | int) -> int:
        """Memory for a value or of a size; its index among the bases."""
        place = Guarded(content if isinstance(content, int) else content.nbytes)
        if not isinstance(content, int):
            place.fill(content)
        self.base[key] = len(self.places)
        self.places.append(place)
        return self.base[key]

    def run(self) -> list[np.ndarray]:
        """The results as logical arrays; asserts that nothing else was written and that padding lanes are finite."""
        addresses = codegen.load([call.kernel for call in self.calls], self.machine.target)
        steps = [ProgramStep(addresses[c.kernel.symbol], self.arguments(c), c.units, c.grain) for c in self.calls]
        before = {
            node: self.places[i].bytes.copy() for node, i in self.base.items() if isinstance(node, Node) and i != self.base[self.node]
        }
        Program(steps, self.threads).run([place.address for place in self.places])
        assert all(place.is_intact() for place in self.places), "something was written in front of an array"
        for node, content in before.items():
            assert np.array_equal(content, self.places[self.base[node]].bytes), f"operand {node} was written to"
        return [self.result(i) for i in range(len(self.node.types))]

    def arguments(self, call: Call) -> list[int]:
        """The block of i64 that the kernel gets."""
        found: list[int] = []
        for name in call.kernel.signature:
            value = call.arguments[name.rstrip("*")]
            found += self.resolve(value) if name.endswith("*") else [as_integer(value)]
        return found

    def resolve(self, argument: Argument) -> list[int]:
        place, offset = (argument.place, argument.offset) if isinstance(argument, Address) else (argument, 0)
        assert not isinstance(place, int)
        if place not in self.base:
            if isinstance(place, Table):
                self.add(place, place.data)
            elif isinstance(place, Scratch):
                self.add(place, place.nbytes * self.threads)
            else:
                assert isinstance(place, Constant), f"{place} is no operand"
                self.add(place, to_physical(place.data, place.type.layout))
        return [self.base[place], offset]

    def result(self, index: int) -> np.ndarray:
        kind = self.node.types[index]
        start = result_offset(self.node, index)
        content = self.places[self.base[self.node]].bytes[start : start + kind.nbytes]
        physical = content.view(kind.dtype).reshape(kind.physical_shape)
        if kind.layout and kind.dtype.kind == "f":
            logical = to_physical(np.ones(kind.shape, bool), kind.layout)
            assert np.isfinite(physical[~logical]).all(), "padding lanes are not finite"
        if kind.dtype.kind == "b":
            assert (content <= 1).all(), "a bool is neither 0 nor 1"
        return from_physical(physical, kind.shape, kind.layout).copy()


def as_integer(value: Argument) -> int:
    assert isinstance(value, int | np.integer), f"expected a number, got {value}"
    return int(value)


def run_node(node: Node, values: Mapping[Node, np.ndarray], target: str = "", threads: int = 1, in_place: Node | None = None) -> Any:
    """The result of a node, or a list of several, on a target (by default this machine's best)."""
    results = NodeRun(node, values, target or TARGETS[0], threads, in_place).run()
    return results if len(results) > 1 else results[0]


def expected(node: Node, values: Mapping[Node, np.ndarray]) -> list[np.ndarray]:
    """The results by the node's NumPy meaning, in float64."""
    inputs = [v for v in values if isinstance(v, Input)]
    outputs = (node,) if len(node.types) == 1 else tuple(Result(node, index=i) for i in range(len(node.types)))
    graph = Graph(tuple(inputs), outputs, tuple(f"y{i}" for i in range(len(outputs))))
    with np.errstate(all="ignore"):
        return evaluate(widen(graph), [values[i] for i in inputs])


def runs() -> Iterator[tuple[str, int]]:
    """Every target that runs here, on one thread and on two."""
    for target in TARGETS:
        yield from ((target, 1), (target, 2))


def check_node(node: Node, values: Mapping[Node, np.ndarray], relative: float = 1e-6, absolute: float = 0.0) -> None:
    """Assert that every target gives, on one and two threads, what NumPy gives in float64; integers exactly."""
    wanted = expected(node, values)
    for target, threads in runs():
        found = NodeRun(node, values, target, threads).run()
        for result, want in zip(found, wanted, strict=True):
            assert_close(result, want, relative, absolute, f"{node} on {target} with {threads} threads")


def assert_close(found: np.ndarray, wanted: Any, relative: float, absolute: float = 0.0, what: str = "") -> None:
    """|found - wanted| <= relative * |wanted| + absolute; NaN and infinities at the same places; integers and bools equal."""
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape, f"{what}: shape {found.shape} instead of {wanted.shape}"
    if found.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted, err_msg=what)
        return
    wide = wanted.astype(np.float64)
    largest = float(np.finfo(found.dtype).max)
    rounded = np.where(np.abs(wide) > largest, np.copysign(np.inf, wide), wide)
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - rounded)
        fine = (error <= relative * np.abs(rounded) + absolute) | (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    if not fine.all():
        worst = np.unravel_index(np.argmax(np.where(fine, 0, np.nan_to_num(error, nan=np.inf))), fine.shape)
        raise AssertionError(f"{what}: {(~fine).sum()} of {fine.size} wrong; at {worst} got {found[worst]}, expected {wide[worst]}")
