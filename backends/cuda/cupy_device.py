"""A GPU, through CuPy. The tests run this file against a small CuPy of their own, which does what CuPy's documentation says."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine.backend import DeviceArray
from ...engine.errors import MachineError, ModelError
from ...engine.plugins import missing_package
from ...engine.tensor import TensorType
from .architecture import ARCHITECTURES, STATIC_SHARED, Architecture
from .cubin import Cubin, compile_kernels
from .device import Launch, as_machine_errors, check_limits
from .kernel import Kernel

REPEATS = 20
"""Launches of a kernel that are timed together."""


def import_cupy() -> Any:
    """CuPy with a GPU that it can use. Raises MachineError saying what is missing."""
    try:
        import cupy  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "cupy", "the cuda backend") from error
    except ImportError as error:
        raise MachineError(f"the cuda backend cannot load CuPy: {error}") from error
    if not cupy.cuda.is_available():
        raise MachineError(
            "the cuda backend found no NVIDIA GPU: either there is none, or its driver is missing or older than CUDA "
            f"{cupy.cuda.runtime.runtimeGetVersion() // 1000} needs; `nvidia-smi` shows both"
        )
    return cupy


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where this process writes machine code for CuPy to load."""
    return tempfile.TemporaryDirectory(prefix="tilewright-")


def _file_of(cubin: Cubin) -> str:
    """The machine code as a file, replaced in one step. Raises MachineError where it cannot be written."""
    try:
        folder = _folder().name
        os.makedirs(folder, exist_ok=True)  # somebody may have tidied up
        path = os.path.join(folder, f"{cubin.kernel.name}.cubin")
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(cubin.code)
        os.replace(file.name, path)
    except OSError as error:
        raise MachineError(f"cannot write machine code in {tempfile.gettempdir()} (see TMPDIR): {error.strerror}") from error
    return path


class CupyMemory:
    """Memory of the device."""

    def __init__(self, cupy: Any, nbytes: int, name: str) -> None:
        self.nbytes = nbytes
        with as_machine_errors(f"{nbytes / 2**20:.1f} MiB for {name}"):
            self.pointer = cupy.cuda.alloc(max(nbytes, 1))

    @property
    def address(self) -> int:
        """Where it starts; a multiple of 256."""
        return int(self.pointer.ptr)


class CupyDevice:
    """The GPU that is current when this is made."""

    def __init__(self) -> None:
        self.cupy = import_cupy()
        with as_machine_errors():
            self._device = self.cupy.cuda.Device()
            properties = self.cupy.cuda.runtime.getDeviceProperties(self._device.id)
            self._driver = self.cupy.cuda.runtime.driverGetVersion() // 1000
            family = nearest(int(self._device.compute_capability))
        self.architecture = dc.replace(family, multiprocessors=properties["multiProcessorCount"])
        self.name = f"{properties['name'].decode()} ({self.architecture.name})"

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """Each thread has a current device of its own; within this it is this one."""
        return self.cupy.cuda.Device(self._device.id)

    def allocate(self, nbytes: int, name: str) -> CupyMemory:
        """See Device."""
        return CupyMemory(self.cupy, nbytes, name)

    def host(self, nbytes: int) -> np.ndarray:
        """Page-locked memory, which the GPU copies from and to without the processor's help."""
        with as_machine_errors(f"{nbytes / 2**20:.1f} MiB of page-locked memory"):
            return np.frombuffer(self.cupy.cuda.alloc_pinned_memory(max(nbytes, 1)), np.uint8, nbytes)

    def empty(self, kind: TensorType) -> DeviceArray:
        """A CuPy array."""
        with as_machine_errors(f"an output {kind}"):
            return DeviceArray(self.cupy.empty(kind.shape, kind.dtype), kind.dtype, kind.shape)

    def array(self, given: DeviceArray, written: bool = False) -> Any:
        """As a C-contiguous CuPy array; the very memory of the given one where it is to be written."""
        with as_machine_errors(), self.current():
            is_own = isinstance(given.value, self.cupy.ndarray) or not hasattr(given.value, "__dlpack__")
            array = self.cupy.asarray(given.value) if is_own else self.cupy.from_dlpack(given.value)  # which waits for its maker's stream
            if array.device.id != self._device.id:
                raise ModelError(f"an array is on GPU {array.device.id}, the model on GPU {self._device.id}")
            if written and not array.flags.c_contiguous:
                raise ModelError(f"out: expected a C-contiguous array, got one on the GPU with strides {array.strides}")
            return self.cupy.ascontiguousarray(array)

    def load(self, kernels: Sequence[Kernel]) -> list[Any]:
        """See Device."""
        for kernel in kernels:
            check_limits(kernel, self.architecture)
        return [self._load(cubin) for cubin in compile_kernels(kernels, self.architecture, self._driver)]

    def prepare(self, kernels: Sequence[Kernel]) -> None:
        """See Device; the cache of objects keeps them."""
        compile_kernels(kernels, self.architecture, self._driver)

    def _load(self, cubin: Cubin) -> Any:
        """(kernel, function, module): the function is the module's. CuPy keeps modules by their paths, so a kernel has one path."""
        kernel, path = cubin.kernel, _file_of(cubin)
        with as_machine_errors():
            module = self.cupy.RawModule(path=path)
            function = module.get_function(kernel.name)
            if kernel.shared > STATIC_SHARED:
                function.max_dynamic_shared_size_bytes = kernel.shared
        return kernel, function, module

    def stream(self) -> CupyStream:
        """See Device."""
        return CupyStream(self)


class CupyStream:
    """See device.Stream. It waits for no other stream, but for the caller's when it is made, and in `copy_in` and `copy_out`."""

    def __init__(self, device: CupyDevice) -> None:
        self._cupy = device.cupy
        with as_machine_errors():
            self.stream = self._cupy.cuda.Stream(non_blocking=True)
            self._wait_for_the_caller()

    def upload(self, to: CupyMemory, offset: int, array: np.ndarray) -> None:
        with as_machine_errors():
            (to.pointer + offset).copy_from_host_async(array.ctypes.data, array.nbytes, self.stream)

    def download(self, array: np.ndarray, memory: CupyMemory, offset: int) -> None:
        with as_machine_errors():
            (memory.pointer + offset).copy_to_host_async(array.ctypes.data, array.nbytes, self.stream)

    def copy_in(self, to: CupyMemory, offset: int, array: Any) -> None:
        with as_machine_errors():
            self._wait_for_the_caller()
            (to.pointer + offset).copy_from_device_async(array.data, array.nbytes, self.stream)

    def copy_out(self, array: Any, memory: CupyMemory, offset: int) -> None:
        with as_machine_errors():
            self._wait_for_the_caller()
            array.data.copy_from_device_async(memory.pointer + offset, array.nbytes, self.stream)

    def _wait_for_the_caller(self) -> None:
        """What the caller's current stream still does with an array comes first."""
        self.stream.wait_event(self._cupy.cuda.get_current_stream().record())

    def zero(self, memory: CupyMemory, offset: int, nbytes: int) -> None:
        with as_machine_errors():
            (memory.pointer + offset).memset_async(0, nbytes, self.stream)

    def launch(self, launches: Sequence[Launch]) -> None:
        with as_machine_errors(), self.stream:
            for (kernel, function, _), pointers in launches:
                function(kernel.grid, kernel.block, tuple(map(np.uint64, pointers)), shared_mem=kernel.shared)

    def capture(self, launches: Sequence[Launch]) -> Callable[[], None]:
        """The launches as a CUDA Graph. What this and other threads ask of the GPU besides, as CuPy does, does not disturb it."""
        if not launches:
            return lambda: None
        with as_machine_errors():
            self.stream.begin_capture(self._cupy.cuda.runtime.streamCaptureModeRelaxed)
            try:
                self.launch(launches)
            except BaseException:
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    self.stream.end_capture()
                raise
            graph = self.stream.end_capture()
            graph.upload(self.stream)

        def replay() -> None:
            with as_machine_errors():
                graph.launch(self.stream)

        return replay

    def seconds(self, launch: Launch, samples: int) -> list[float]:
        """Of a launch among many that are replayed as one: by itself it would end before the processor has asked for its end's time."""
        replay, found = self.capture([launch] * REPEATS), list[float]()
        with as_machine_errors():
            for _ in range(1 + samples):
                start = self.stream.record(self._cupy.cuda.Event())
                replay()
                end = self.stream.record(self._cupy.cuda.Event())
                end.synchronize()
                found.append(float(self._cupy.cuda.get_elapsed_time(start, end)) / 1e3 / REPEATS)
        return found[1:]

    def synchronise(self) -> None:
        with as_machine_errors():
            self.stream.synchronize()


def nearest(number: int) -> Architecture:
    """The architecture whose machine code a GPU of this compute capability runs: of the same major version, and not newer."""
    fitting = [a for a in ARCHITECTURES.values() if a.number // 10 == number // 10 and a.number <= number]
    if not fitting:
        raise MachineError(f"no kernels for compute capability {number / 10}; there are those for {', '.join(ARCHITECTURES)}")
    return max(fitting, key=lambda a: a.number)
