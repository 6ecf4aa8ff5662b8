"""NVRTC, NVIDIA's compiler as a library: CUDA C++ text in, machine code for one architecture out. It needs no GPU and no driver."""

from __future__ import annotations

import ctypes
import functools
import glob
import os
import sys
from typing import Any

from ...engine.errors import CompilerBug, MachineError

HOW = 'pip install "tilewright[cuda13]"'
SYSTEM_NAMES = ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")
OPTIONS = ("--std=c++17", "--ptxas-options=-v")


class Nvrtc:
    """The library, loaded."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    @functools.cached_property
    def version(self) -> str:
        """Its version, as "13.0"."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
        return f"{major.value}.{minor.value}"

    @functools.cached_property
    def architectures(self) -> frozenset[str]:
        """The names of those that it compiles for."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs")
        numbers = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(numbers), "nvrtcGetSupportedArchs")
        return frozenset(f"sm_{n}" for n in numbers)

    def compile(self, text: str, architecture: str) -> tuple[bytes, str]:
        """(cubin, log) of a program. Raises CompilerBug with the compiler's messages when it does not compile."""
        program = ctypes.c_void_p()
        create = self._library.nvrtcCreateProgram
        self._check(create(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None), "nvrtcCreateProgram")
        try:
            options = [option.encode() for option in (f"--gpu-architecture={architecture}", *OPTIONS)]
            status = self._library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if status:
                raise CompilerBug(f"generated CUDA text does not compile for {architecture}:\n{log}")
            return self._read(program, "CUBIN"), log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), f"nvrtcGet{what}Size")
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer), f"nvrtcGet{what}")
        return buffer.raw

    def _check(self, status: int, call: str) -> None:
        if status:
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise MachineError(f"{call} failed: {self._library.nvrtcGetErrorString(status).decode()}")


@functools.cache
def nvrtc(driver: int | None = None) -> Nvrtc:
    """The compiler of an installed wheel, else of a CUDA toolkit. Raises MachineError when there is none.

    `driver`: the major version of CUDA that has to run the machine code, which is in another format from each of them to the next.
    """
    newer = ""
    for path in (*_wheels(), *_toolkits(), *SYSTEM_NAMES):
        if (library := _load(path)) is not None:
            found = Nvrtc(library)
            if driver is None or int(found.version.partition(".")[0]) <= driver:
                return found
            newer = newer or found.version
    if newer:
        older = 'pip install "tilewright[cuda12]", or ' if driver == 12 else ""
        raise MachineError(f"NVRTC {newer} makes machine code that this driver, of CUDA {driver}, does not run: {older}take a newer driver")
    raise MachineError(f"compiling CUDA kernels needs NVRTC, by the package nvidia-cuda-nvrtc or a CUDA toolkit, and found neither: {HOW}")


def _wheels() -> list[str]:
    """Newest versions first."""
    found = [path for place in sys.path for path in glob.glob(os.path.join(place, "nvidia", "*", "lib", "libnvrtc.so.*"))]
    return sorted(found, key=os.path.basename, reverse=True)


def _toolkits() -> list[str]:
    places = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    return [path for place in places if place for path in sorted(glob.glob(os.path.join(place, "lib*", "libnvrtc.so*")))]


def _load(path: str) -> Any:
    """The library; before it the part that it looks for by its bare name, which would not be found inside a wheel."""
    try:
        for part in glob.glob(os.path.join(os.path.dirname(path), "libnvrtc-builtins.so*")) if os.path.isabs(path) else []:
            ctypes.CDLL(part)
        return ctypes.CDLL(path)
    except OSError:
        return None
