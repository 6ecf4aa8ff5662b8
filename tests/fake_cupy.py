"""A CuPy of the tests: the parts that backends/cuda/cupy_device.py uses, over the emulator's memory and kernels.

Streams do nothing before somebody waits for them, so that a forgotten wait shows as garbage. A capture refuses what CUDA would.
"""

from __future__ import annotations

import pathlib
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from fake_cupy_memory import Array, Block, Pointer, move

from tilewright.backends.cuda.architecture import STATIC_SHARED, Architecture
from tilewright.backends.cuda.cubin import Cubin, Resources
from tilewright.backends.cuda.emulator.build import kernel_libraries
from tilewright.backends.cuda.emulator.launch import launch
from tilewright.backends.cuda.emulator.memory import GuardedMemory
from tilewright.backends.cuda.kernel import Kernel

ROOM = 256
"""CuPy's memory starts at multiples of it; guarded memory at multiples of less, so that alignment that only the arena gives is tested."""


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory.OutOfMemoryError."""


class CUDARuntimeError(RuntimeError):
    """As cupy.cuda.runtime.CUDARuntimeError."""


class FakeCupy(types.ModuleType):
    """The module; `install` puts it where the backend finds it."""

    float32 = np.float32

    def __init__(self, capability: str = "90", room: int = 1 << 30, devices: int = 1, multiprocessors: int = 132) -> None:
        super().__init__("cupy")
        self.room, self.devices, self.events = room, devices, list[str]()
        """events: what was asked for, in order."""
        self.known: dict[str, Kernel] = {}
        self.local = threading.local()
        self.null = Stream(self)
        self.free: dict[int, list[GuardedMemory]] = {}
        """What arrays have left, by its size: as in CuPy, the next one gets it, whatever the device still does there."""
        self.ndarray = Array
        properties = {"name": b"Fake GPU", "multiProcessorCount": multiprocessors}
        runtime = types.SimpleNamespace(
            streamCaptureModeRelaxed=2,
            runtimeGetVersion=lambda: 13020,
            driverGetVersion=lambda: 13000,
            getDeviceProperties=lambda _: properties,
        )
        fake = self

        class Device:
            def __init__(self, number: int | None = None) -> None:
                self.id = getattr(fake.local, "device", 0) if number is None else number
                self.compute_capability = capability

            def __enter__(self) -> None:
                fake.local.device, self._before = self.id, getattr(fake.local, "device", 0)

            def __exit__(self, *_: object) -> None:
                fake.local.device = self._before

        self.cuda = types.SimpleNamespace(
            is_available=lambda: fake.devices > 0,
            runtime=runtime,
            Device=Device,
            alloc=self._alloc,
            alloc_pinned_memory=bytearray,
            Stream=lambda non_blocking=False: Stream(fake, non_blocking),
            Event=Event,
            get_current_stream=self._current,
            get_elapsed_time=lambda start, end: (end.seconds - start.seconds) * 1e3,
        )

    def install(self, monkeypatch: Any) -> FakeCupy:
        """As `import cupy`, and NVRTC's place is taken, too: a cubin is the name of its kernel."""
        monkeypatch.setitem(__import__("sys").modules, "cupy", self)
        monkeypatch.setattr("tilewright.backends.cuda.cupy_device.compile_kernels", self._compile)
        return self

    def _compile(self, kernels: Sequence[Kernel], architecture: Architecture, driver: int) -> list[Cubin]:
        assert driver == 13
        kernel_libraries(kernels)
        self.known |= {kernel.name: kernel for kernel in kernels}
        return [Cubin(kernel, architecture, kernel.name.encode(), Resources(32, kernel.shared, 0, 0)) for kernel in kernels]

    def _current(self) -> Stream:
        return getattr(self.local, "stream", self.null)

    def _alloc(self, nbytes: int) -> Pointer:
        if nbytes > self.room:
            raise OutOfMemoryError(f"Out of memory allocating {nbytes:,} bytes")
        if getattr(self.local, "capturing", None):
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
        self.events.append(f"alloc {nbytes}")
        return Pointer(Block(self.free.setdefault(nbytes, []), nbytes), device=getattr(self.local, "device", 0))

    def RawModule(self, path: str) -> Any:  # noqa: N802 - CuPy's name
        """A module with the one function whose name the file holds."""
        name = pathlib.Path(path).read_text()

        def get_function(asked: str) -> Function:
            assert asked == name
            return Function(self, self.known[name])

        return types.SimpleNamespace(get_function=get_function)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A fresh array on the fake device."""
        return Array(self, self._alloc(max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)), shape, np.dtype(dtype))

    def array(self, values: np.ndarray) -> Array:
        """An array with these values; they are there only once the current stream gets to it."""
        made = self.empty(values.shape, values.dtype)
        kept, to = np.ascontiguousarray(values).copy(), made.data.ptr
        self._current().add("fill", lambda: move(to, kept.ctypes.data, kept.nbytes))
        return made

    def asarray(self, value: Any) -> Array:
        """The array itself, or that which some other library's object says that it is."""
        return value if isinstance(value, Array) else value.array

    def from_dlpack(self, value: Any) -> Array:
        """As `asarray`, by the other protocol."""
        return value.__dlpack__()

    def ascontiguousarray(self, array: Array) -> Array:
        """The array itself where it is contiguous."""
        return array if array.flags.c_contiguous else self.array(array.get())


class Function:
    """A kernel of a module."""

    max_dynamic_shared_size_bytes = STATIC_SHARED

    def __init__(self, cupy: FakeCupy, kernel: Kernel) -> None:
        self.cupy, self.kernel = cupy, kernel
        (self.library,) = kernel_libraries([kernel])

    def __call__(self, grid: Any, block: Any, pointers: Any, *, shared_mem: int) -> None:
        kernel = self.kernel
        assert (grid, block, shared_mem) == (kernel.grid, kernel.block, kernel.shared) and all(type(p) is np.uint64 for p in pointers)
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise CUDARuntimeError("cudaErrorInvalidValue")
        given = [int(p) for p in pointers]
        self.cupy.cuda.get_current_stream().add(kernel.name, lambda: launch(self.library, kernel, given), is_kernel=True)


class Stream:
    """As cupy.cuda.Stream."""

    def __init__(self, cupy: FakeCupy, non_blocking: bool = False) -> None:
        self.cupy, self.non_blocking = cupy, non_blocking
        self.device = getattr(cupy.local, "device", 0)
        self.work: list[Callable[[], None]] = []
        self.captured: list[tuple[str, Callable[[], None]]] | None = None
        self._lock = threading.RLock()

    def add(self, name: str, work: Callable[[], None], is_kernel: bool = False) -> None:
        if self.captured is not None:
            if not is_kernel:
                raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {name}")
            self.captured.append((name, work))
            return
        if name:
            self.cupy.events.append(name)
        self.work.append(work)

    def __enter__(self) -> None:
        self._before, self.cupy.local.stream = self.cupy.cuda.get_current_stream(), self

    def __exit__(self, *_: object) -> None:
        self.cupy.local.stream = self._before

    def begin_capture(self, mode: int) -> None:
        assert self.captured is None and mode == 2
        self.captured = []
        self.cupy.local.capturing = self

    def end_capture(self) -> Any:
        names, captured = zip(*(self.captured or ()), strict=True)
        self.captured = self.cupy.local.capturing = None
        self.cupy.events.append(f"graph {', '.join(names)}")

        def replay(stream: Stream) -> None:
            for i, work in enumerate(captured):
                stream.add("" if i else "replay", work)

        return types.SimpleNamespace(upload=lambda _: None, launch=replay)

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        self.work.append(lambda: event.reach())
        event.stream = self
        return event

    def wait_event(self, event: Event) -> None:
        self.work.append(event.synchronize)

    def synchronize(self) -> None:
        if self.captured is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
        with self._lock:
            while self.work:
                self.work.pop(0)()


class Event:
    """As cupy.cuda.Event."""

    stream: Stream | None = None
    seconds = 0.0

    def reach(self) -> None:
        import time

        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        assert self.stream is not None, "nobody recorded it"
        self.stream.synchronize()
