"""Versions of what is installed, and what a GPU reaches: copies, multiply-adds in registers, PyTorch's matrix products."""

from __future__ import annotations

import dataclasses as dc
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_peers import use_tf32
from gpu_steps import DEVICE, Task

from tilewright.backends.cuda.device import Launch
from tilewright.backends.cuda.kernel import Extent, Kernel, Parameter

PACKAGES = ("numpy", "onnx", "llvmlite", "numba", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc", "torch", "pytest")
CHAINS, UNROLLED = 16, 64


@dc.dataclass(frozen=True)
class MultiplyAdds(Kernel):
    """Independent chains of multiply-adds in registers."""

    blocks: int
    rounds: int

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("y", np.dtype(np.float32), written=True),)

    @property
    def grid(self) -> Extent:
        return self.blocks, 1, 1

    @property
    def block(self) -> Extent:
        return 256, 1, 1

    @property
    def operations(self) -> int:
        """Of all threads."""
        return 2 * CHAINS * UNROLLED * self.rounds * self.threads * self.blocks

    def body(self) -> str:
        return f"""
          float sums[{CHAINS}], factor = 0.999f + threadIdx.x * 1e-9f;
          for (int i = 0; i < {CHAINS}; i++) sums[i] = threadIdx.x + i;
          for (int round = 0; round < {self.rounds}; round++)
            #pragma unroll
            for (int step = 0; step < {UNROLLED}; step++)
              #pragma unroll
              for (int i = 0; i < {CHAINS}; i++) sums[i] = sums[i] * factor + 0.5f;
          float total = 0;
          for (int i = 0; i < {CHAINS}; i++) total += sums[i];
          y[blockIdx.x * 256 + threadIdx.x] = total;"""


def versions(task: Task) -> None:
    """The step."""
    task.add("version", name="python", value=platform.python_version())
    for package in PACKAGES:
        try:
            task.add("version", name=package, value=importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            task.skip(f"{package} is not installed")
    device = task.attempt(DEVICE, task.find_device)
    if device is None:
        return
    task.add("version", name="device", value=device.name)
    small = task.quick or task.device != "cuda"
    extent = (2, 1) if small else (16 * device.architecture.multiprocessors, 400)
    task.attempt("multiply-adds", lambda: _ceiling(task, "fp32", *multiply_adds(device, *extent)))
    if task.device == "cuda":
        task.attempt("copy", lambda: _ceiling(task, "copy", *copies(device, 2**26 if small else 2**31)))
        products(task, 1024 if small else 8192)


def _ceiling(task: Task, name: str, amount: float, seconds: float) -> None:
    print(f"{name}: {amount / seconds / 1e12:.3f} T/s")
    task.add("ceiling", name=name, value=amount / seconds)


def multiply_adds(device: Any, blocks: int, rounds: int) -> tuple[float, float]:
    """Operations and seconds of one launch."""
    kernel = MultiplyAdds(blocks, rounds)
    with device.current():
        (loaded,), stream = device.load([kernel]), device.stream()
        memory = device.allocate(4 * kernel.threads * blocks, "sums")
        once = stream.capture([Launch(loaded, (memory.address,))])
        return kernel.operations, timed(once, stream.synchronise)


def copies(device: Any, nbytes: int) -> tuple[float, float]:
    """Bytes read and written, and seconds of a copy on the device."""
    with device.current():
        stream, memories = device.stream(), [device.allocate(nbytes, name) for name in ("from", "to")]
        source, target = (memory.pointer for memory in memories)
        return 2.0 * nbytes, timed(lambda: target.copy_from_device_async(source, nbytes, stream.stream), stream.synchronise)


def products(task: Task, extent: int) -> None:
    """Matrix products by PyTorch, in TF32 and float16."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        task.skip("matrix products by PyTorch: torch is not installed")
        return
    use_tf32(torch, True)
    for name, dtype in (("tf32", torch.float32), ("fp16", torch.float16)):
        a, b = (torch.randn(extent, extent, device="cuda", dtype=dtype) for _ in range(2))
        task.attempt(name, lambda a=a, b=b, name=name: _ceiling(task, name, 2.0 * extent**3, timed(lambda: a @ b, torch.cuda.synchronize)))


def timed(once: Callable[[], Any], synchronise: Callable[[], Any], rounds: int = 10) -> float:
    """Median seconds, after two that do not count."""
    samples = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        once()
        synchronise()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples[2:])
