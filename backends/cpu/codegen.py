"""Kernel → LLVM IR → object code → address: every kernel is compiled once, kept on disk, and loaded for the life of the process."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...engine.debug import dump_each
from ...engine.errors import CompilerBug, MachineError
from ..common.object_cache import open_cache
from .target import Target, binding, binding_version, host

ABI_VERSION = 1
"""Raise it when the arguments of kernels, or the layout of step tables, change."""


class Kernel(Protocol):
    """Something that can be compiled to `void symbol(ptr args, ptr bases, i64 begin, i64 end, i64 thread)`.

    args: the step's read-only block of i64; an address in it takes two of them: (index in bases, byte offset).
    bases: the addresses of one run: 0 the arena, 1 the constants, 2 the scratch memory, then the inputs, then the outputs.
    The kernel does the units of work begin <= unit < end; `thread` picks its part of the scratch memory.

    Two attributes are optional: `optimize = True` runs LLVM's O2 passes (without its vectorisers) before code generation, and
    `exports` names further functions of the module to find the addresses of. All other definitions are made internal.
    """

    @property
    def symbol(self) -> str:
        """A valid LLVM identifier that is unique for what `emit` writes."""
        ...

    def emit(self, target: Target) -> str:
        """The text of an LLVM module that defines the function `symbol`."""
        ...


lock = threading.RLock()
"""Held while kernels are compiled or loaded, and over a fork."""
_numbers = itertools.count()
_addresses: dict[tuple[str, str], int] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def load(kernels: Iterable[Kernel], target: Target) -> dict[str, int]:
    """symbol → address of each kernel, and of its `exports`, compiling those that neither this process nor the cache has."""
    wanted = {kernel.symbol: kernel for kernel in kernels}
    if not target.is_runnable:
        raise MachineError(f"code for {target.name} ({target.cpu}) does not run on this machine; expected {host()[1]}")
    with lock:
        dump_each(((kernel.symbol, kernel.emit(target)) for kernel in wanted.values()), level=4)
        machine = target.key
        missing = [k for k in wanted.values() if (machine, k.symbol) not in _addresses]
        if missing:
            names = [name for k in missing for name in exported(k)]
            found = link(object_codes(missing, target), names)
            _addresses.update({(machine, name): address for name, address in found.items()})
        return {name: _addresses[machine, name] for k in wanted.values() for name in exported(k)}


def exported(kernel: Kernel) -> list[str]:
    """The functions of a kernel's module that can be called from outside."""
    return [kernel.symbol, *getattr(kernel, "exports", ())]


def object_code(kernel: Kernel, target: Target) -> bytes:
    """The kernel's object from the cache, else freshly compiled and stored there."""
    with lock:
        return object_codes([kernel], target)[0]


def object_codes(kernels: Sequence[Kernel], target: Target) -> list[bytes]:
    """The objects of several kernels; the caller holds the lock."""
    cache = open_cache()
    keys = [f"{k.symbol}\n{source_stamp()}\n{target.key}\nABI {ABI_VERSION}{compiler_of(k)}" for k in kernels]
    found = [cache.get(key) if cache else None for key in keys]
    missing = [kernel for kernel, payload in zip(kernels, found, strict=True) if payload is None]
    fresh = iter(compiled(missing, target) if missing else ())
    objects = []
    for key, payload in zip(keys, found, strict=True):
        objects.append(next(fresh) if payload is None else payload)
        if cache and payload is None:
            cache.put(key, objects[-1])
    return objects


def compiled(kernels: Sequence[Kernel], target: Target) -> list[bytes]:
    """The objects of kernels, freshly compiled: while LLVM works on one, in a thread of its own, the next is written."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as compiler:
        jobs = [compiler.submit(compile_module, k.emit(target), target, exported(k), getattr(k, "optimize", False)) for k in kernels]
        return [job.result() for job in jobs]


def compile_ir(ir: str, target: Target, *, exports: Sequence[str] | None = None, optimize: bool = False) -> bytes:
    """The object code of an IR text, also for a target that does not run here. exports: what must be defined and stays visible."""
    with lock:
        return compile_module(ir, target, exports, optimize)


def compile_module(ir: str, target: Target, exports: Sequence[str] | None, optimize: bool) -> bytes:
    """See compile_ir; the caller holds the lock, or waits for this while it holds it."""
    llvm, machine = binding(), target_machine(target)
    try:
        module = llvm.parse_assembly(ir)
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        module.verify()
        seal(module, exports)
    except (RuntimeError, NameError) as error:
        raise CompilerBug(f"{exports[0] if exports else 'module'}: expected a valid LLVM module, got {error}\n{ir}") from error
    if optimize:
        run_passes(llvm, module, machine)
    return machine.emit_object(module)


def seal(module: Any, exports: Sequence[str] | None) -> None:
    """Make every definition internal that is not exported, so that kernels loaded together cannot clash; none of them unwinds."""
    for name in exports or ():
        if module.get_function(name).is_declaration:
            raise NameError(f"only a declaration of {name}")
    for function in module.functions:
        if not function.is_declaration:
            function.add_function_attribute("nounwind")
    for value in [*module.functions, *module.global_variables]:
        if exports is not None and not value.is_declaration and value.name not in exports and not value.name.startswith("llvm."):
            value.linkage = "internal"


def run_passes(llvm: Any, module: Any, machine: Any) -> None:
    """LLVM's O2 pipeline; kernels choose their vectors themselves."""
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


@functools.cache
def target_machine(target: Target) -> Any:
    """LLVM's code generator for a target, at its highest level."""
    llvm = binding()
    if target.architecture != host()[0].partition("-")[0]:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    maker = llvm.Target.from_triple(target.triple)
    return maker.create_target_machine(cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small", jit=True)


def link(objects: Sequence[bytes], names: Sequence[str]) -> dict[str, int]:
    """The addresses of functions in objects that become part of this process.

    Nothing is ever freed: a thread may still be inside the code when the interpreter goes away.
    """
    library = binding().JITLibraryBuilder().add_current_process()
    for content in objects:
        library.add_object_img(content)
    for name in names:
        library.export_symbol(name)
    try:
        linked = library.link(linker(), f"kernels {next(_numbers)}")
    except RuntimeError as error:
        raise CompilerBug(f"expected objects that link, got {error}, in {', '.join(names)}") from error
    found = {name: linked[name] for name in names}
    linked.detach()
    return found


@functools.cache
def linker() -> Any:
    """The linker of this process: JITLink, which puts the parts of an object side by side, so that they always reach each other.

    LLVM's older loader asks for memory part by part, and writes wrong distances without a word where the parts lie too far apart.
    """
    return keep(binding().create_lljit_compiler(target_machine(Target.native()), use_jit_link=True))


def keep(value: Any) -> Any:
    """Never collect this object, not even when the interpreter goes away: one reference too many, on purpose."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return value


def compiler_of(kernel: Kernel) -> str:
    """What compiles a kernel beside llvmlite, for its key; asking for the version is slow, and few networks have such kernels."""
    if getattr(kernel, "engine", "vector") != "numba":
        return ""
    import importlib.metadata

    return f"\nnumba {importlib.metadata.version('numba')}"


@functools.cache
def source_stamp() -> str:
    """Changes with the source of anything that decides what code is emitted, and with the versions of what it is emitted with."""
    root = Path(__file__).parents[2]
    files = [*sorted((root / "backends/cpu").rglob("*.py")), *sorted((root / "backends/common").rglob("*.py"))]
    stamp = hashlib.sha256()
    for file in [*files, root / "engine/expression.py"]:
        stamp.update(file.read_bytes())
    return f"{stamp.hexdigest()} llvmlite {binding_version()} numpy {np.__version__}"
