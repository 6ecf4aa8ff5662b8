"""The cuda backend: CUDA C++ kernels generated as text, compiled to machine code by NVRTC, run through CuPy or in the emulator."""

from __future__ import annotations

import importlib
from typing import Any

from ...engine.backend import Executable, Options
from ...engine.errors import ModelError
from ...engine.graph import Graph

KERNELS: tuple[str, ...] = (
    "pointwise",
    "conv_depthwise",
    "gemv",
    "conv_stem",
    "convolution",
    "conv_direct",
    "gemm",
    "pool",
    "move",
    "pad",
    "reduce",
    "softmax",
    "arg_reduce",
    "norm",
    "resize",
    "gather",
    "top_k",
    "cumsum",
    "recurrent",
)
"""Modules that register lowerings; the first named is asked first."""
PRECISIONS = {None: "fp32", "float32": "fp32", **{name: name for name in ("fp32", "tf32x3", "tf32", "fp16", "bf16")}}


class cuda:  # noqa: N801 - a plug-in is found by its name
    """Compiles graphs for this machine's GPU. precision: None or "fp32", "tf32x3", "tf32", "fp16", "bf16"."""

    name = "cuda"

    def __init__(self, options: Options | None = None) -> None:
        from .kernel import Machine

        options = options or Options()
        if options.precision not in PRECISIONS:
            raise ModelError(f"precision={options.precision!r}: the {self.name} backend computes in {', '.join(filter(None, PRECISIONS))}")
        for module in KERNELS:
            importlib.import_module(f".{module}", __name__)
        self.device = self.make_device(options.target)
        self.machine = Machine(self.device.architecture, PRECISIONS[options.precision], options.accuracy)
        self._tune = options.tune
        if not self.device.architecture.supports(self.machine.precision):
            raise ModelError(
                f"precision={options.precision!r}: {self.device.architecture.name} has no such products; expected 'fp32' or 'fp16'"
            )

    def make_device(self, target: str | None) -> Any:
        """Where the kernels run. Raises MachineError where there is no such thing."""
        from .cupy_device import CupyDevice

        if target is not None:
            raise ModelError(f"target={target!r}: the cuda backend compiles for the GPU that it finds")
        return CupyDevice()

    def compile(self, graph: Graph) -> Executable:
        """Lay out, lower, plan and generate. Raises UnsupportedError with every node that has no kernel."""
        import dataclasses as dc

        from .executable import CudaExecutable
        from .layout import assign_layouts
        from .tuning import shipped_schedules, tuned

        graph = assign_layouts(graph)
        if self._tune:
            return tuned(graph, self.machine, self.device, self._tune)
        return CudaExecutable(graph, dc.replace(self.machine, schedules=shipped_schedules(self.device)), self.device)
