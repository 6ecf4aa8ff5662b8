"""The cpu backend for NEON, on any machine: its real plans and kernels in an executable that qemu-aarch64 runs.

A step's kernel, its arguments and its units are those that NativeExecutable makes; memory goes to the emulated program and comes back.
Inputs, outputs and constants end where pages without access begin.
"""

from __future__ import annotations

import ctypes
import dataclasses as dc
import pathlib
import platform
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence

import pytest
from aarch64_linking import PAGE, READ, WRITE, Block, Linker, executable

from tilewright.backends.cpu import codegen, constants, cpu
from tilewright.backends.cpu import executable as plans
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.program import ProgramStep
from tilewright.backends.cpu.target import Target
from tilewright.engine.backend import Options
from tilewright.engine.graph import Graph

NEON = Target.describe("neon")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
COMMAND = [] if platform.machine() in ("aarch64", "arm64") else [EMULATOR or ""]
MISSING = "" if EMULATOR or not COMMAND else "neither qemu-aarch64 nor qemu-aarch64-static is on PATH (Debian, Ubuntu: qemu-user-static)"
CODE, TABLES, MEMORY = 0x1000_0000, 0x2000_0000, 0x4000_0000
SECONDS = 120
CANARY = b"\xc5" * 64

SYSTEM_CALL = struct.pack("<6I", 0xAA0003E8, 0xAA0103E0, 0xAA0203E1, 0xAA0303E2, 0xD4000001, 0xD65F03C0)
"""x8 = x0, x0 = x1, x1 = x2, x2 = x3, svc #0, ret: a function (number, three arguments); LLVM's assembler for aarch64 is out of reach."""
START = f"""
define void @start() {{
entry:
  br label %step
step:
  %entry_ = phi i64 [ {TABLES}, %entry ], [ %next, %stepped ]
  %e = inttoptr i64 %entry_ to ptr
  %kernel = load ptr, ptr %e
  %is_last = icmp eq ptr %kernel, null
  br i1 %is_last, label %answer, label %prepare
prepare:
  %args_at = getelementptr i64, ptr %e, i64 1
  %args = load ptr, ptr %args_at
  %units_at = getelementptr i64, ptr %e, i64 2
  %units = load i64, ptr %units_at
  %grain_at = getelementptr i64, ptr %e, i64 3
  %grain = load i64, ptr %grain_at
  %bases_at = getelementptr i64, ptr %e, i64 4
  %bases = load ptr, ptr %bases_at
  br label %check
check:
  %begin = phi i64 [ 0, %prepare ], [ %end, %call ]
  %is_done = icmp uge i64 %begin, %units
  br i1 %is_done, label %stepped, label %call
call:
  %after = add i64 %begin, %grain
  %end = call i64 @llvm.umin.i64(i64 %after, i64 %units)
  call void %kernel(ptr %args, ptr %bases, i64 %begin, i64 %end, i64 0)
  br label %check
stepped:
  %next = add i64 %entry_, 40
  br label %step
answer:
  %place_at = getelementptr i64, ptr %e, i64 1
  br label %write
write:
  %at = phi ptr [ %place_at, %answer ], [ %after_at, %advance ]
  %place = load i64, ptr %at
  %size_at = getelementptr i64, ptr %at, i64 1
  %size = load i64, ptr %size_at
  %is_over = icmp eq i64 %place, 0
  br i1 %is_over, label %leave, label %rest
rest:
  %from = phi i64 [ %place, %write ], [ %later, %rest ]
  %left = phi i64 [ %size, %write ], [ %fewer, %rest ]
  %written = call i64 inttoptr (i64 {CODE} to ptr)(i64 64, i64 1, i64 %from, i64 %left)
  %later = add i64 %from, %written
  %fewer = sub i64 %left, %written
  %more = icmp sgt i64 %fewer, 0
  %good = icmp sgt i64 %written, 0
  %again = and i1 %more, %good
  br i1 %again, label %rest, label %advance
advance:
  %after_at = getelementptr i64, ptr %at, i64 2
  br label %write
leave:
  call i64 inttoptr (i64 {CODE} to ptr)(i64 94, i64 0, i64 0, i64 0)
  unreachable
}}
declare i64 @llvm.umin.i64(i64, i64)
"""
"""Does every step of the table grain by grain, writes memory to standard output, and exits."""


class Kernels:
    """Code at its final addresses; stands in for `codegen.load`."""

    def __init__(self) -> None:
        self.linker = Linker(CODE)
        assert self.linker.place(SYSTEM_CALL, 4) == CODE
        self.addresses = self.linker.add(codegen.compile_ir(START, NEON, exports=["start"]))

    def load(self, kernels: Iterable[codegen.Kernel], target: Target) -> dict[str, int]:
        """As codegen.load."""
        assert target == NEON
        for kernel in kernels:
            if kernel.symbol not in self.addresses:
                self.addresses |= self.linker.add(codegen.object_code(kernel, target))
        return self.addresses


class EmulatedProgram:
    """Stands in for `program.Program`: every run is a process of its own."""

    def __init__(self, kernels: Kernels, steps: Sequence[ProgramStep]) -> None:
        self._kernels, self._steps = kernels, steps
        self.sizes: list[int] = []
        """Of the memory behind each of the bases."""

    def run_range(self, bases: Sequence[int], first: int, last: int) -> None:
        """As Program.run_range. Fails when memory outside was read or written, as far as pages and canaries tell."""
        blocks = list(self._blocks(bases))
        content = self._answer(self._tables(first, last, blocks), blocks)
        for base, size, block in zip(bases, self.sizes, blocks, strict=True):
            front, content = content[: len(CANARY)], content[len(CANARY) :]
            assert front == CANARY, f"something was written in front of {block.address:#x}"
            ctypes.memmove(base, content[:size], size)
            content = content[size:]

    def _blocks(self, bases: Sequence[int]) -> Iterator[Block]:
        """The memory behind each base: canaries in front, its end at a page without access."""
        end = MEMORY
        for base, size in zip(bases, self.sizes, strict=True):
            content = CANARY + ctypes.string_at(base, size)
            end += (-(-len(content) // PAGE) + 1) * PAGE
            yield Block(end - len(content), content, READ | WRITE)

    def _tables(self, first: int, last: int, blocks: Sequence[Block]) -> bytes:
        """What START reads: five numbers a step, 0, address and size of each block, 0, 0; then what the steps point to."""
        steps = self._steps[first:last]
        size = 8 * (5 * len(steps) + 1 + 2 * len(blocks) + 2)
        numbers, pointed_to = list[int](), [block.address + len(CANARY) for block in blocks]
        for step in steps:
            numbers += [step.address, TABLES + size + 8 * len(pointed_to), step.units, step.grain, TABLES + size]
            pointed_to += step.args
        numbers += [0, *(n for block in blocks for n in (block.address, len(block.content))), 0, 0, *pointed_to]
        return struct.pack(f"<{len(numbers)}q", *numbers)

    def _answer(self, tables: bytes, blocks: Sequence[Block]) -> bytes:
        image = executable(self._kernels.addresses["start"], [self._kernels.linker.block(), Block(TABLES, tables, READ), *blocks])
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "kernels")
            path.write_bytes(image)
            path.chmod(0o755)
            done = subprocess.run([*COMMAND, str(path)], capture_output=True, timeout=SECONDS)
        assert done.returncode == 0, f"the emulated program ended with {done.returncode}: {done.stderr.decode(errors='replace')}"
        assert len(done.stdout) == sum(len(block.content) for block in blocks)
        return done.stdout


class neon:  # noqa: N801 - as plug-ins are named
    """The cpu backend for NEON: units in grains as for two threads, done by one."""

    name = "neon"

    def __init__(self, accuracy: str = "fast") -> None:
        self._cpu = cpu(Options(threads=2, accuracy=accuracy))
        self._cpu.machine = dc.replace(self._cpu.machine, target=NEON)

    def compile(self, graph: Graph) -> NativeExecutable:
        """As Backend.compile."""
        kernels = Kernels()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plans.codegen, "load", kernels.load)
            patch.setattr(plans, "Program", lambda steps, threads: EmulatedProgram(kernels, steps))
            patch.setattr(constants, "FIRST_PIECE", constants.LARGEST_PIECE)  # all of them follow each other
            made = self._cpu.compile(graph)
        assert isinstance(made, NativeExecutable) and isinstance(made.program, EmulatedProgram)
        arrays = [kind.nbytes for node in (*made.graph.inputs, *made.graph.outputs) for kind in node.types]
        assert len(made.known.contents()) <= 1, f"constants: expected at most {constants.LARGEST_PIECE} bytes"
        made.program.sizes = [made.storage.arena_size, made.known.nbytes, made.scratch_size, *arrays]
        return made
