"""Where kernels run: a GPU through CuPy, or the emulator. Both are the same few calls, so the host code above them is the same."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ...engine.backend import DeviceArray
from ...engine.errors import CompilerBug, MachineError, ModelError
from ...engine.tensor import TensorType
from .architecture import ARCHITECTURES, Architecture
from .emulator.memory import GuardedMemory
from .kernel import Kernel, NoKernel, check_grid

OUT_OF_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY")
"""What CUDA calls it where CuPy has no error of its own for it."""


class Memory(Protocol):
    """A piece of a device's memory; it is freed with the object. It starts at a multiple of at least 16."""

    nbytes: int

    @property
    def address(self) -> int: ...


class Launch(NamedTuple):
    """A kernel as the device loaded it, and the addresses that it is called with."""

    loaded: Any
    pointers: tuple[int, ...]


class Stream(Protocol):
    """Work that is done in order."""

    def upload(self, to: Memory, offset: int, array: np.ndarray) -> None:
        """Copy a contiguous array to the memory; the array must stay as it is until `synchronise`."""
        ...

    def download(self, array: np.ndarray, memory: Memory, offset: int) -> None:
        """Fill a contiguous array, which is complete after `synchronise`."""
        ...

    def copy_in(self, to: Memory, offset: int, array: Any) -> None:
        """Copy what Device.array gave, after all work that its maker has asked for."""
        ...

    def copy_out(self, array: Any, memory: Memory, offset: int) -> None:
        """Fill what Device.array gave, after all work that its maker has asked for; it is complete after `synchronise`."""
        ...

    def zero(self, memory: Memory, offset: int, nbytes: int) -> None:
        """Fill a part of the memory with zeros."""
        ...

    def launch(self, launches: Sequence[Launch]) -> None:
        """Run kernels one after the other."""
        ...

    def capture(self, launches: Sequence[Launch]) -> Callable[[], None]:
        """The launches as one: calling it runs them on this stream."""
        ...

    def seconds(self, launch: Launch, samples: int) -> list[float]:
        """Run one kernel by itself: how long it took, so many times."""
        ...

    def synchronise(self) -> None:
        """Wait until everything is done. Raises what went wrong."""
        ...


class Device(Protocol):
    """Something that runs kernels."""

    name: str
    architecture: Architecture

    def allocate(self, nbytes: int, name: str) -> Memory:
        """Memory that holds anything. Raises MachineError when there is not enough."""
        ...

    def load(self, kernels: Sequence[Kernel]) -> list[Any]:
        """The kernels compiled and loaded, each once."""
        ...

    def prepare(self, kernels: Sequence[Kernel]) -> None:
        """Compile what will be loaded later, all processors at once."""
        ...

    def stream(self) -> Stream:
        """A fresh stream. The caller's work comes before its own: somebody may still use what has become memory of ours until then."""
        ...

    def host(self, nbytes: int) -> np.ndarray:
        """Bytes of the host that copies to and from the device are fastest with."""
        ...

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, what this thread asks for is asked of this device."""
        ...

    def empty(self, kind: TensorType) -> DeviceArray:
        """A fresh array on the device, for a caller."""
        ...

    def array(self, given: DeviceArray, written: bool = False) -> Any:
        """Whatever holds an array on the device, as `copy_in` and `copy_out` take it. Raises ModelError where it cannot be that."""
        ...


class EmulatedDevice:
    """A GPU that is not there. Memory has guard pages and is poisoned; kernels run in the emulator, at the time of their launch."""

    def __init__(self, architecture: str = "sm_90", schedule: Any = None) -> None:
        from .emulator.launch import BASIC

        self.name = f"emulated {architecture}"
        self.architecture = ARCHITECTURES[architecture]
        self.schedule = schedule or BASIC[0]

    def allocate(self, nbytes: int, name: str) -> GuardedMemory:
        """See Device."""
        return GuardedMemory(nbytes, name)

    def load(self, kernels: Sequence[Kernel]) -> list[Any]:
        """See Device."""
        from .emulator.build import kernel_libraries

        for kernel in kernels:
            check_limits(kernel, self.architecture)
        return list(zip(kernels, kernel_libraries(kernels), strict=True))

    def prepare(self, kernels: Sequence[Kernel]) -> None:
        """See Device; here kernels are compiled when they are loaded."""

    def stream(self) -> _EmulatedStream:
        """See Device."""
        return _EmulatedStream(self)

    def host(self, nbytes: int) -> np.ndarray:
        """See Device."""
        return np.empty(nbytes, np.uint8)

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """See Device."""
        return contextlib.nullcontext()

    def empty(self, kind: TensorType) -> DeviceArray:
        """ModelError: nobody else has arrays there."""
        raise ModelError("the cuda-emulated backend takes NumPy arrays only")

    def array(self, given: DeviceArray, written: bool = False) -> Any:
        """See `empty`."""
        raise ModelError("the cuda-emulated backend takes NumPy arrays only")


class _EmulatedStream:
    def __init__(self, device: EmulatedDevice) -> None:
        self._device = device

    def upload(self, to: GuardedMemory, offset: int, array: np.ndarray) -> None:
        to.bytes[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)

    def download(self, array: np.ndarray, memory: GuardedMemory, offset: int) -> None:
        array.reshape(-1).view(np.uint8)[:] = memory.bytes[offset : offset + array.nbytes]

    def zero(self, memory: GuardedMemory, offset: int, nbytes: int) -> None:
        memory.bytes[offset : offset + nbytes] = 0

    def launch(self, launches: Sequence[Launch]) -> None:
        from .emulator.launch import launch

        for (kernel, library), pointers in launches:
            launch(library, kernel, pointers, self._device.schedule)

    def capture(self, launches: Sequence[Launch]) -> Callable[[], None]:
        captured = tuple(launches)
        return lambda: self.launch(captured)

    def copy_in(self, to: GuardedMemory, offset: int, array: Any) -> None:
        raise CompilerBug("an array on a GPU reached the emulator; EmulatedDevice.array refuses them")

    copy_out = copy_in

    def seconds(self, launch: Launch, samples: int) -> list[float]:
        times = list[float]()
        for _ in range(1 + samples):  # the first one finds the libraries
            self.launch([launch])
            times.append(time.perf_counter())
        return [end - start for start, end in itertools.pairwise(times)]

    def synchronise(self) -> None:
        """Everything is done when it is asked for."""


def check_limits(kernel: Kernel, architecture: Architecture) -> None:
    """Raise CompilerBug for a kernel that no launch on this architecture can start."""
    if kernel.shared > architecture.shared_per_block or kernel.threads > 1024 or min(*kernel.grid, *kernel.block) < 1:
        raise CompilerBug(f"{kernel.name}: {kernel.shared} B shared, {kernel.block} threads, {kernel.grid} blocks on {architecture.name}")
    try:
        check_grid(kernel)
    except NoKernel as reason:
        raise CompilerBug(f"{kernel.name}: {reason}") from None


@contextlib.contextmanager
def as_machine_errors(what: str = "") -> Any:
    """What CuPy raises, as MachineError in clear words; `what` was asked for."""
    try:
        yield
    except Exception as error:
        kind = type(error).__name__
        if kind not in ("OutOfMemoryError", "CUDARuntimeError", "CUDADriverError"):
            raise
        asked = what and f", asked for {what}"
        if kind == "OutOfMemoryError" or any(name in str(error) for name in OUT_OF_MEMORY):
            raise MachineError(f"the GPU's memory is full{asked}: {error}") from error
        raise MachineError(f"CUDA failed{asked}: {error}") from error
