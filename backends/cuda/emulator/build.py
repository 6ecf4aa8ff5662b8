"""C++ text → a loaded library, by g++, kept on disk."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ....engine.errors import CompilerBug, MachineError
from ...common.object_cache import open_cache
from ..kernel import Kernel
from ..prelude import text

FOLDER = Path(__file__).parent
COMPILER = "g++"
FLAGS = ("-std=c++17", "-fPIC", "-shared", "-w", "-fno-strict-aliasing", "-ffp-contract=fast")
MACHINE_FLAGS = ("-O2",)
KERNEL_FLAGS = ("-O1", "-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error", "-fstack-clash-protection")
"""A misaligned access, an index outside an array of known size, or a full stack ends in a signal that the machine reports."""
KERNEL_LIBRARIES = ("-nostdlib", "-Wl,-z,defs", "-lgcc", "-lm", "-lc")
"""That of C++ is not among them: to link it takes as long as to compile a kernel. What they lack is an error of the text."""
FULL = ("No space left", "quota exceeded")
OUT_OF_ORDER = (*FULL, "cannot execute", "signal terminated program", "out of memory", "Cannot allocate", "memory exhausted")
"""What the compiler says where the machine is at fault, and not the text."""
NEEDED = ("avx2", "fma", "f16c")
"""What an x86-64 processor must have for the instructions that make emulated products and float16 fast."""

_loaded: dict[str, ctypes.CDLL] = {}
_lock = threading.Lock()


def machine_library() -> ctypes.CDLL:
    """The emulated multiprocessor."""
    return _library(_own("machine.cpp"), MACHINE_FLAGS, ())


def kernel_libraries(kernels: Sequence[Kernel]) -> list[ctypes.CDLL]:
    """One library for each kernel; those that have to be compiled are compiled at the same time."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda kernel: _library(kernel_text(kernel), KERNEL_FLAGS, KERNEL_LIBRARIES), kernels))


def kernel_text(kernel: Kernel) -> str:
    """What g++ compiles."""
    enter = f"EMULATED_KERNEL({kernel.name}, {len(kernel.parameters)})"
    return f'{text("types.cuh")}\n{_own("prelude.h")}\n{text("functions.cuh")}\n#line 1 "kernel"\n{kernel.source()}\n{enter}\n'


@functools.cache
def _own(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").replace("#pragma once\n", "")


def _library(source: str, flags: Sequence[str], libraries: Sequence[str]) -> ctypes.CDLL:
    path, version = compiler()
    everything = [*FLAGS, *_processor_flags(), *flags]
    key = "\n".join(["emulated 1", version, *everything, *libraries, _own("machine.h"), _own("stacks.h"), source])
    with _lock:
        if key in _loaded:
            return _loaded[key]
    cache = open_cache()
    code = cache.get(key) if cache is not None else None
    with _as_machine_error(), tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        file = Path(folder, "kernel.so")
        if code is not None:
            file.write_bytes(code)
        else:
            _compile([path, *everything], source, file, libraries)
            if cache is not None:
                cache.put(key, file.read_bytes())
        library = ctypes.CDLL(str(file))
    with _lock:
        return _loaded.setdefault(key, library)


def _compile(command: Sequence[str], source: str, result: Path, libraries: Sequence[str]) -> None:
    place = result.with_suffix(".cpp")
    place.write_text(source, encoding="utf-8")
    done = _run(*command, f"-I{FOLDER}", str(place), "-o", str(result), *libraries)
    if done.returncode:
        raise CompilerBug(f"generated CUDA text does not compile as C++:\n{done.stderr}\n{source}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    """The compiler, its messages in English. Raises MachineError where it does not get to the end by no fault of the text."""
    english = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=english)
    reason = next((line.strip() for line in done.stderr.splitlines() if any(text in line for text in OUT_OF_ORDER)), "")
    if done.returncode < 0:
        reason = f"{command[0]} was killed by signal {-done.returncode}"
    if done.returncode and reason:
        where = f"; it writes to {tempfile.gettempdir()} (see TMPDIR)" if any(text in reason for text in FULL) else ""
        raise MachineError(f"emulating CUDA kernels: the compiler failed: {reason}{where}")
    return done


@contextlib.contextmanager
def _as_machine_error() -> Iterator[None]:
    """What the system refuses while a library is made and loaded, in clear words."""
    try:
        yield
    except MachineError:
        raise
    except OSError as error:
        where = f"in {tempfile.gettempdir()} (see TMPDIR)"
        raise MachineError(f"emulating CUDA kernels: cannot make or load a library {where}: {error.strerror or error}") from error


@functools.cache
def compiler() -> tuple[str, str]:
    """(path, version). Raises MachineError where there is none, or none that runs."""
    path = shutil.which(COMPILER)
    if path is None:
        raise MachineError(f"emulating CUDA kernels needs the compiler {COMPILER}, which is not on PATH (Debian: apt install g++)")
    with _as_machine_error():
        done = _run(path, "--version")
    if done.returncode:
        raise MachineError(f"emulating CUDA kernels: `{path} --version` failed: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return path, done.stdout.partition("\n")[0]


@functools.cache
def _processor_flags() -> tuple[str, ...]:
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split()
    except OSError:
        return ()
    return tuple(f"-m{name}" for name in NEEDED) if set(NEEDED) <= set(flags) else ()
