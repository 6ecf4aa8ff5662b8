"""Tiny kernels as IR text, random programs of them with their NumPy meaning, and scripts that run in a fresh interpreter."""

from __future__ import annotations

import dataclasses as dc
import hashlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tilewright.backends.common import object_cache
from tilewright.backends.cpu import codegen
from tilewright.backends.cpu.arena import Arena
from tilewright.backends.cpu.program import Program, ProgramStep
from tilewright.backends.cpu.target import Target

if TYPE_CHECKING:
    import pytest

ROOT = pathlib.Path(__file__).parents[1]


@dc.dataclass(frozen=True)
class TextKernel:
    """`body` is done for each %unit; %source and %result are the addresses that the first four arguments spell, %fifth the fifth."""

    body: str

    @property
    def symbol(self) -> str:
        return "test_" + hashlib.sha256(self.body.encode()).hexdigest()[:16]

    def emit(self, target: Target) -> str:
        return FRAME.replace("SYMBOL", self.symbol).replace("BODY", self.body)

    def address(self) -> int:
        """Where it is on this machine."""
        return codegen.load([self], Target.native())[self.symbol]


FRAME = """
declare i32 @sched_yield()
define ptr @locate(ptr %args, ptr %bases, i64 %slot) {
  %at = getelementptr i64, ptr %args, i64 %slot
  %index = load i64, ptr %at
  %after = getelementptr i64, ptr %at, i64 1
  %offset = load i64, ptr %after
  %place = getelementptr ptr, ptr %bases, i64 %index
  %base = load ptr, ptr %place
  %address = getelementptr i8, ptr %base, i64 %offset
  ret ptr %address
}
define void @SYMBOL(ptr %args, ptr %bases, i64 %begin, i64 %end, i64 %thread) {
entry:
  %source = call ptr @locate(ptr %args, ptr %bases, i64 0)
  %result = call ptr @locate(ptr %args, ptr %bases, i64 2)
  %place = getelementptr i64, ptr %args, i64 4
  %fifth = load i64, ptr %place
  br label %head
head:
  %unit = phi i64 [%begin, %entry], [%next, %tail]
  %from = getelementptr i64, ptr %source, i64 %unit
  %to = getelementptr i64, ptr %result, i64 %unit
  br label %body
body:
BODY
  br label %tail
tail:
  %next = add i64 %unit, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %head, label %done
done:
  ret void
}
"""

AGAIN = TextKernel("""
  %old = load i64, ptr %to
  %product = mul i64 %old, 6364136223846793005
  %new = add i64 %product, %fifth
  store i64 %new, ptr %to""")
"""result[i] = a * result[i] + fifth, in place: shows a unit that is done twice."""

NEIGHBOURS = TextKernel("""
  %wrap = sub i64 %fifth, %unit
  %left0 = add i64 %unit, %fifth
  %left1 = sub i64 %left0, 1
  %left = urem i64 %left1, %fifth
  %right0 = add i64 %unit, 1
  %right = urem i64 %right0, %fifth
  %far0 = mul i64 %unit, 7
  %far = urem i64 %far0, %fifth
  %pl = getelementptr i64, ptr %source, i64 %left
  %pr = getelementptr i64, ptr %source, i64 %right
  %pf = getelementptr i64, ptr %source, i64 %far
  %l = load i64, ptr %pl
  %r = load i64, ptr %pr
  %f = load i64, ptr %pf
  %l3 = mul i64 %l, 3
  %s = xor i64 %l3, %r
  %t = add i64 %s, %f
  store i64 %t, ptr %to""")
"""result[i] = (3 * source[i - 1] ^ source[i + 1]) + source[7 * i], modulo fifth: needs the whole step before it."""

THREAD = TextKernel("""
  store i64 %thread, ptr %to""")
"""result[i] = the thread that did unit i."""

CALLS = TextKernel("""
  %first = icmp eq i64 %unit, %begin
  br i1 %first, label %count, label %tail
count:
  %before = atomicrmw add ptr %result, i64 1 seq_cst""")
"""result[0] += 1 for each call of the kernel, whatever the number of units."""

LAST = TextKernel("""
  %mark = add i64 %thread, 1
  store atomic i64 %mark, ptr %to seq_cst, align 8
  %others = atomicrmw add ptr %source, i64 1 seq_cst
  %first = icmp eq i64 %unit, 0
  br i1 %first, label %hold, label %tail
hold:
  %turn = phi i64 [0, %body], [%turns, %again]
  %did = load atomic i64, ptr %source seq_cst, align 8
  %all = icmp sge i64 %did, %fifth
  br i1 %all, label %tail, label %ask
ask:
  %turns = add i64 %turn, 1
  %late = icmp sgt i64 %turns, 50000000
  br i1 %late, label %fail, label %again
again:
  %status = call i32 @sched_yield()
  br label %hold
fail:
  store i64 -1, ptr %to""")
"""result[i] = thread + 1; unit 0 only ends when *source says that all fifth units have begun, or fails with -1 after many seconds."""

GATE = TextKernel("""
  store i64 1, ptr %to
  br label %hold
hold:
  %turn = phi i64 [0, %body], [%turns, %again]
  %open = load atomic i64, ptr %source seq_cst, align 8
  %go = icmp ne i64 %open, 0
  br i1 %go, label %tail, label %ask
ask:
  %turns = add i64 %turn, 1
  %late = icmp sgt i64 %turns, 50000000
  br i1 %late, label %fail, label %again
again:
  %status = call i32 @sched_yield()
  br label %hold
fail:
  store i64 -1, ptr %to""")
"""result[i] = 1 once *source is not 0, or -1 after many seconds."""


class RandomProgram:
    """A few steps over three arrays in an arena and one input, every step depending on all of the step before."""

    def __init__(self, rng: np.random.Generator, threads: int) -> None:
        self.size = int(rng.integers(1, 500))
        self.plan = []
        for _ in range(rng.integers(1, 14)):
            source, result = (int(v) for v in rng.permutation(3)[:2])
            units = self.size if rng.random() < 0.7 else int(rng.integers(0, self.size + 1))
            grain = int(rng.choice([1, 2, 5, max(1, units // (4 * threads)), max(1, units), 1000]))
            self.plan.append((bool(rng.integers(2)), source, result, units, grain, int(rng.integers(1, 1 << 40))))
        again, neighbours = AGAIN.address(), NEIGHBOURS.address()
        steps = [
            ProgramStep(neighbours if near else again, (0, 8 * self.size * s, 0, 8 * self.size * r, self.size if near else c), units, grain)
            for near, s, r, units, grain, c in self.plan
        ]
        self.program = Program(steps, threads)

    def expected(self, start: np.ndarray) -> np.ndarray:
        """What the arrays hold afterwards."""
        arrays = start.copy()
        every = np.arange(self.size)
        for near, source, result, units, _, constant in self.plan:
            x, y = arrays[source], arrays[result]
            if near:
                new = (3 * np.roll(x, 1) ^ np.roll(x, -1)) + x[7 * every % self.size]
            else:
                new = y * np.uint64(6364136223846793005) + np.uint64(constant)
            y[:units] = new[:units]
        return arrays

    def check(self, rng: np.random.Generator, run: Callable[[Program, Sequence[int]], None] = Program.run) -> None:
        """One run on fresh memory gives what NumPy gives."""
        arena = Arena(3 * 8 * self.size)
        arrays = arena.view(0, np.dtype(np.uint64), (3, self.size))
        arrays[:] = rng.integers(0, 1 << 63, arrays.shape, np.uint64)
        wanted = self.expected(arrays)
        run(self.program, [arena.address])
        assert np.array_equal(arrays, wanted), f"{self.plan}: {np.argwhere(arrays != wanted)[:5].tolist()}"


def run_script(source: str, *arguments: object, seconds: float = 120) -> str:
    """What a script prints in a fresh interpreter without NumPy's threads; fails unless it ends well and in time."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    settings = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", source, *map(str, arguments)]
    ended = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=seconds)
    assert ended.returncode == 0, f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def empty_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A cache folder that does not exist yet, and no kernel known to this process."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    forget(monkeypatch)
    return tmp_path / "cache"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next load look at the cache again, as a new process would."""
    monkeypatch.setattr(codegen, "_addresses", {})
    monkeypatch.setattr(object_cache, "_opened", {})


def again_works(kernel: TextKernel | None = None) -> None:
    """The kernel (None: AGAIN), wherever it comes from, does what it should."""
    values = np.arange(10, dtype=np.uint64)
    Program([ProgramStep((kernel or AGAIN).address(), (0, 0, 0, 0, 5), 10, 10)], 1).run([values.ctypes.data])
    assert values.tolist() == [(6364136223846793005 * i + 5) % 2**64 for i in range(10)]
