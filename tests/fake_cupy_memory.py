"""Memory and arrays of the CuPy of the tests (fake_cupy.py)."""

from __future__ import annotations

import ctypes
import types
from typing import Any

import numpy as np

from tilewright.backends.cuda.emulator.memory import GuardedMemory


class Block:
    """Memory of a pool. It goes back with the last pointer to it, not when the device has done with it."""

    def __init__(self, free: list[GuardedMemory], nbytes: int) -> None:
        self.memory, self._free = free.pop() if free else GuardedMemory(nbytes), free

    def __del__(self) -> None:
        self._free.append(self.memory)


class Pointer:
    """As cupy.cuda.MemoryPointer. What a stream has to do with it does not keep it."""

    def __init__(self, block: Block, offset: int = 0, device: int = 0) -> None:
        self.block, self.offset, self.device = block, offset, device

    @property
    def ptr(self) -> int:
        return self.block.memory.address + self.offset

    def __add__(self, offset: int) -> Pointer:
        return Pointer(self.block, self.offset + offset, self.device)

    def bytes(self, nbytes: int) -> np.ndarray:
        return self.block.memory.bytes[self.offset : self.offset + nbytes]

    def copy_from_host_async(self, address: int, nbytes: int, stream: Any) -> None:
        stream.add("upload", lambda to=self.ptr: move(to, address, nbytes))

    def copy_to_host_async(self, address: int, nbytes: int, stream: Any) -> None:
        stream.add("download", lambda at=self.ptr: move(address, at, nbytes))

    def copy_from_device_async(self, source: Pointer, nbytes: int, stream: Any) -> None:
        stream.add("copy", lambda to=self.ptr, at=source.ptr: move(to, at, nbytes))

    def memset_async(self, value: int, nbytes: int, stream: Any) -> None:
        stream.add("memset", lambda to=self.ptr: _fill(to, value, nbytes))


def move(to: int, start: int, nbytes: int) -> None:
    """Copy bytes between addresses."""
    ctypes.memmove(to, start, nbytes)


def _fill(to: int, value: int, nbytes: int) -> None:
    ctypes.memset(to, value, nbytes)


class Array:
    """As cupy.ndarray."""

    def __init__(self, cupy: Any, data: Pointer, shape: tuple[int, ...], dtype: np.dtype, contiguous: bool = True) -> None:
        self.cupy, self.data, self.shape, self.dtype = cupy, data, tuple(shape), dtype
        self.flags, self.strides = types.SimpleNamespace(c_contiguous=contiguous), "those given"
        self.device = cupy.cuda.Device()

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3}

    def get(self) -> np.ndarray:
        """The values, once the current stream has done its work."""
        self.cupy.cuda.get_current_stream().synchronize()
        return self.data.bytes(self.nbytes).view(self.dtype).reshape(self.shape).copy()


class OnlyDlpack:
    """An array of a library that speaks nothing but DLPack."""

    def __init__(self, array: Array) -> None:
        self._array, self.shape, self.dtype = array, array.shape, f"library.{array.dtype}"

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: Any = None) -> Array:
        return self._array


class BothProtocols(OnlyDlpack):
    """An array of a library that, as PyTorch, says with DLPack alone which stream still fills it."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self._array.__cuda_array_interface__, "version": 2}
