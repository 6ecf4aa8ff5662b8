"""Compiled kernels: machine code for one architecture, kept on disk, and what it uses of the machine."""

from __future__ import annotations

import dataclasses as dc
import json
import os
import re
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ...engine.errors import CompilerBug, MachineError
from ..common.object_cache import open_cache
from .architecture import MOST_REGISTERS, Architecture
from .kernel import Kernel
from .nvrtc import HOW, OPTIONS, nvrtc
from .prelude import device_text

FRAME_SIZE, REGISTER_COUNT = 0x11, 0x2F
"""Attributes of `.nv.info` that hold one number for each function."""
HAS_SIZE = 4
"""The format of attributes whose value has a size of its own."""


@dc.dataclass(frozen=True)
class Resources:
    """What each thread, or block, of a kernel uses."""

    registers: int
    shared: int
    """Bytes of a block: what the launch asks for."""
    stack: int
    """Bytes of local memory of a thread; it lies in device memory and should be 0."""
    spills: int
    """Bytes that a thread stores to and loads from local memory because registers ran out."""

    def __str__(self) -> str:
        return f"{self.registers} registers, {self.shared} B shared, {self.stack} B stack, {self.spills} B spilled"


@dc.dataclass(frozen=True)
class Cubin:
    """A compiled kernel."""

    kernel: Kernel
    architecture: Architecture
    code: bytes
    resources: Resources

    def excess(self) -> str:
        """What exceeds the limits of the architecture, or what spills; empty when all is well."""
        limit = self.architecture.registers_for(self.kernel.threads)
        found = {
            f"{self.resources.registers} registers of {limit}": self.resources.registers > min(limit, MOST_REGISTERS),
            f"{self.kernel.shared} B of shared memory of {self.architecture.shared_per_block}": self.kernel.shared
            > self.architecture.shared_per_block,
            f"{self.resources.spills} B spilled": self.resources.spills > 0,
            f"{self.resources.stack} B of stack": self.resources.stack > 0,
        }
        return ", ".join(text for text, wrong in found.items() if wrong)


def compile_kernel(kernel: Kernel, architecture: Architecture, driver: int | None = None) -> Cubin:
    """The kernel for an architecture, from the cache where it has it. Raises MachineError without NVRTC (see `nvrtc` for `driver`)."""
    text, compiler = device_text(kernel.source()), nvrtc(driver)
    key = "\n".join(["cubin 1", compiler.version, architecture.name, *OPTIONS, text])
    cache = open_cache()
    if cache is not None and (payload := cache.get(key)) is not None:
        head, _, code = payload.partition(b"\n")
        return Cubin(kernel, architecture, code, Resources(**json.loads(head)))
    code, log = compiler.compile(text, architecture.name)
    cubin = Cubin(kernel, architecture, code, resources(code, log, kernel))
    if cache is not None:
        cache.put(key, json.dumps(dc.asdict(cubin.resources)).encode() + b"\n" + code)
    return cubin


def compile_kernels(kernels: Sequence[Kernel], architecture: Architecture, driver: int | None = None) -> list[Cubin]:
    """Several kernels, at the same time. Raises MachineError where the compiler is missing or too old for the architecture."""
    compiler = nvrtc(driver)
    if architecture.name not in compiler.architectures:
        known = ", ".join(sorted(compiler.architectures, key=lambda name: int(name.removeprefix("sm_"))))
        raise MachineError(f"NVRTC {compiler.version} does not compile for {architecture.name}, only for {known}; take a newer one: {HOW}")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        futures = [pool.submit(compile_kernel, kernel, architecture, driver) for kernel in kernels]
    return [future.result() for future in futures]  # all of them are done, and kept, also when one does not compile


def resources(code: bytes, log: str, kernel: Kernel) -> Resources:
    """What the only function of a cubin uses, by the cubin itself; how much it spills, by the assembler's log."""
    numbers = dict(attributes(code))
    if REGISTER_COUNT not in numbers:
        raise CompilerBug(f"the cubin of {kernel.name} does not say how many registers it uses")
    spills = sum(int(n) for n in re.findall(r"(\d+) bytes spill", log))
    return Resources(numbers[REGISTER_COUNT], kernel.shared, numbers.get(FRAME_SIZE, 0), spills)


def attributes(code: bytes) -> Iterator[tuple[int, int]]:
    """(attribute, number) of every record of `.nv.info` that gives one number to a function."""
    for name, offset, size in sections(code):
        if name != ".nv.info":
            continue
        position = offset
        while position < offset + size:
            form, attribute, length = struct.unpack_from("<BBH", code, position)
            position += 4
            if form != HAS_SIZE:
                continue
            if length == 8:
                yield attribute, struct.unpack_from("<II", code, position)[1]
            position += length


def sections(code: bytes) -> list[tuple[str, int, int]]:
    """(name, offset, bytes) of each section of a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", code, 40)
    entry, count, names = struct.unpack_from("<HHH", code, 58)
    heads = [struct.unpack_from("<IIQQQQ", code, table + i * entry) for i in range(count)]
    strings = heads[names][4]

    def text(offset: int) -> str:
        return code[strings + offset : code.index(b"\0", strings + offset)].decode()

    return [(text(head[0]), head[4], head[5]) for head in heads]
