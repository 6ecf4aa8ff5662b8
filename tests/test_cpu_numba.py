"""Kernels written in Numba: what they may not do, that they obey the target, when Numba is imported; the long tail on NEON."""

import dataclasses as dc
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from cpu_harness import load_kernels

from tilewright.backends.cpu import codegen
from tilewright.backends.cpu.kernel import Machine, lower
from tilewright.backends.cpu.numba_kernel import Array, NumbaKernel
from tilewright.backends.cpu.target import Target, lacking
from tilewright.engine.errors import CompilerBug
from tilewright.engine.graph import Input, Node
from tilewright.engine.ops import GRU, LRN, LSTM, ArgReduce, CumSum, Gather, Pad, Reorder, Resize, ScatterND, Slice, TopK, Transpose
from tilewright.engine.tensor import Blocked


@dc.dataclass(frozen=True)
class OddKernel(NumbaKernel):
    """A body that some test says."""

    parameters: ClassVar[tuple[str, ...]] = ("x*", "y*", "count")
    name: str

    @property
    def dtypes(self) -> dict[str, Any]:
        return {"x": "f4", "y": "f4"}

    def body(self) -> Callable[..., None]:
        return BODIES[self.name]


def raises(begin: int, end: int, thread: int, x: Array, y: Array, count: int) -> None:
    if count > 7:
        raise ValueError("too many")


def allocates(begin: int, end: int, thread: int, x: Array, y: Array, count: int) -> None:
    buffer = np.zeros(count)
    for i in range(count):
        buffer[i] = x[i]
    y[0] = buffer[begin]


def is_ill_typed(begin: int, end: int, thread: int, x: Array, y: Array, count: int) -> None:
    y[0] = x[0].missing


def adds(begin: int, end: int, thread: int, x: Array, y: Array, count: int) -> None:
    for i in range(begin, end):
        y[i] = x[i] + y[i]


BODIES = {f.__name__: f for f in (raises, allocates, is_ill_typed, adds)}


@pytest.mark.parametrize("name", ["raises", "allocates", "is_ill_typed"])
def test_bodies_that_need_an_interpreter_are_refused(name):
    with pytest.raises(CompilerBug, match="expected a function"):
        OddKernel(name).emit(Target.native())


@pytest.mark.skipif(bool(lacking("avx512")), reason="this machine has no AVX-512")
def test_loops_are_vectorised_with_the_registers_of_the_target():
    def assembly(name: str) -> str:
        target = Target.describe(name)
        module = codegen.binding().parse_assembly(OddKernel("adds").emit(target))
        return codegen.target_machine(target).emit_assembly(module)

    assert "ymm" in assembly("avx2")
    assert "zmm" not in assembly("avx2")
    assert "{%k" not in assembly("avx2")


def test_numba_is_imported_only_to_compile():
    code = (
        "import sys, importlib, tilewright.backends.cpu as cpu\n"
        "for name in (*cpu.VECTOR_KERNELS, *cpu.NUMBA_KERNELS): importlib.import_module(f'tilewright.backends.cpu.{name}')\n"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_no_symbol_is_left_undefined():
    load_kernels()
    target = Target.native()
    (call,) = lower(Gather(given(4, 5), INDICES, axis=0), Machine(target, 1))
    kernel = call.kernel
    assert codegen.link([codegen.compile_ir(kernel.emit(target), target, exports=[kernel.symbol])], [kernel.symbol])


def given(*shape: int, dtype: str = "f4", layout: Blocked | None = None) -> Input:
    return Input(name="x", shape=shape, dtype=np.dtype(dtype), layout=layout)


FOUR = Blocked(1, 4)
INDICES = given(3, 1, dtype="i8")
NODES: list[Node] = [
    Reorder(given(1, 19, 5, 7), layout=FOUR),
    Reorder(given(1, 19, 5, 7, layout=FOUR)),
    Transpose(given(3, 9, 9, 3), permutation=(0, 3, 1, 2)),
    Pad(given(2, 5, 6, 7), pads=((0, 0), (0, 0), (1, 1), (2, 2))),
    Slice(given(1, 20, 4, 4, layout=FOUR), starts=(0, 0, 0, 0), sizes=(1, 10, 4, 4), steps=(1, 2, 1, 1), layout=FOUR),
    Resize(given(1, 8, 4, 4, layout=FOUR), shape=(1, 8, 8, 8), scales=(1.0, 1.0, 2.0, 2.0), mode="linear", layout=FOUR),
    Resize(given(1, 3, 4, 4, dtype="u1"), shape=(1, 3, 8, 8), scales=(1.0, 1.0, 2.0, 2.0), mode="cubic"),
    LSTM(given(3, 1, 8), given(1, 32, 8), given(1, 32, 8)),
    GRU(given(3, 1, 8), given(1, 24, 8), given(1, 24, 8)),
    ArgReduce(given(4, 40), kind="max", axis=1),
    ArgReduce(given(4, 40, dtype="i8"), kind="min", axis=0),
    LRN(given(1, 8, 4, 4), size=5),
    Gather(given(4, 5), INDICES, axis=0),
    ScatterND(given(4, 5), INDICES, given(3, 5), reduction="max"),
    TopK(given(4, 50), k=5, axis=1),
    CumSum(given(4, 5), axis=1),
]


@pytest.mark.parametrize("node", NODES, ids=repr)
def test_compiles_for_neon(node):
    load_kernels()
    target = Target.describe("neon")
    for call in lower(node, Machine(target, 2)):
        assert codegen.compile_ir(call.kernel.emit(target), target, exports=[call.kernel.symbol])
