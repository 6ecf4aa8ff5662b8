"""A GPU, through CuPy. Nothing here runs on the machines of the tests; it is written against CuPy's documented API."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine.errors import MachineError
from ...engine.plugins import missing_package
from .architecture import ARCHITECTURES, STATIC_SHARED, Architecture
from .cubin import Cubin, compile_kernels
from .device import Launch, as_machine_errors, check_limits
from .kernel import Kernel


def import_cupy() -> Any:
    """CuPy with a GPU that it can use. Raises MachineError saying what is missing."""
    try:
        import cupy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_package("cupy", "the cuda backend") from error
    if not cupy.cuda.is_available():
        raise MachineError(
            "the cuda backend found no NVIDIA GPU: either there is none, or its driver is missing or older than CUDA "
            f"{cupy.cuda.runtime.runtimeGetVersion() // 1000} needs; `nvidia-smi` shows both"
        )
    return cupy


class CupyMemory:
    """Memory of the device."""

    def __init__(self, cupy: Any, nbytes: int) -> None:
        self.nbytes = nbytes
        with as_machine_errors():
            self.pointer = cupy.cuda.alloc(max(nbytes, 1))

    @property
    def address(self) -> int:
        """Where it starts; a multiple of 256."""
        return int(self.pointer.ptr)


class CupyDevice:
    """The current GPU."""

    def __init__(self) -> None:
        self.cupy = import_cupy()
        capability = self.cupy.cuda.Device().compute_capability
        self.architecture = nearest(int(capability))
        properties = self.cupy.cuda.runtime.getDeviceProperties(self.cupy.cuda.Device().id)
        self.name = f"{properties['name'].decode()} ({self.architecture.name})"

    def allocate(self, nbytes: int, name: str) -> CupyMemory:
        """See Device."""
        return CupyMemory(self.cupy, nbytes)

    def load(self, kernels: Sequence[Kernel]) -> list[Any]:
        """See Device."""
        for kernel in kernels:
            check_limits(kernel, self.architecture)
        return [self._load(cubin) for cubin in compile_kernels(kernels, self.architecture)]

    def _load(self, cubin: Cubin) -> Any:
        """(kernel, function, module): the function is the module's."""
        kernel = cubin.kernel
        with tempfile.TemporaryDirectory(prefix="tilewright-") as folder, as_machine_errors():
            path = os.path.join(folder, "kernel.cubin")
            with open(path, "wb") as file:
                file.write(cubin.code)
            module = self.cupy.RawModule(path=path)
            function = module.get_function(kernel.name)
            if kernel.shared > STATIC_SHARED:
                function.max_dynamic_shared_size_bytes = kernel.shared
        return kernel, function, module

    def stream(self) -> CupyStream:
        """See Device."""
        return CupyStream(self)


class CupyStream:
    """See device.Stream."""

    def __init__(self, device: CupyDevice) -> None:
        self.device = device
        with as_machine_errors():
            self.stream = device.cupy.cuda.Stream(non_blocking=True)

    def upload(self, to: CupyMemory, offset: int, array: np.ndarray) -> None:
        with as_machine_errors():
            (to.pointer + offset).copy_from_host_async(array.ctypes.data, array.nbytes, self.stream)
            self.stream.synchronize()

    def download(self, array: np.ndarray, memory: CupyMemory, offset: int) -> None:
        with as_machine_errors():
            (memory.pointer + offset).copy_to_host_async(array.ctypes.data, array.nbytes, self.stream)

    def zero(self, memory: CupyMemory, offset: int, nbytes: int) -> None:
        with as_machine_errors():
            (memory.pointer + offset).memset_async(0, nbytes, self.stream)

    def launch(self, launches: Sequence[Launch]) -> None:
        with as_machine_errors(), self.stream:
            for (kernel, function, _), pointers in launches:
                function(kernel.grid, kernel.block, tuple(map(np.uint64, pointers)), shared_mem=kernel.shared)

    def capture(self, launches: Sequence[Launch]) -> Callable[[], None]:
        """The launches as a CUDA Graph."""
        with as_machine_errors():
            self.stream.begin_capture()
            self.launch(launches)
            graph = self.stream.end_capture()
            graph.upload(self.stream)

        def replay() -> None:
            with as_machine_errors():
                graph.launch(self.stream)

        return replay

    def synchronise(self) -> None:
        with as_machine_errors():
            self.stream.synchronize()


def nearest(number: int) -> Architecture:
    """The architecture whose machine code a GPU of this compute capability runs: of the same major version, and not newer."""
    fitting = [a for a in ARCHITECTURES.values() if a.number // 10 == number // 10 and a.number <= number]
    if not fitting:
        raise MachineError(f"no kernels for compute capability {number / 10}; there are those for {', '.join(ARCHITECTURES)}")
    return max(fitting, key=lambda a: a.number)
