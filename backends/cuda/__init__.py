"""The cuda backend: CUDA C++ kernels generated as text, compiled to machine code by NVRTC, run through CuPy or in the emulator."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...engine.backend import Executable, MachineCode, Options
from ...engine.errors import ModelError
from ...engine.graph import Graph

if TYPE_CHECKING:
    from .architecture import Architecture
    from .kernel import Machine

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
NAMES = ("fp32", "tf32x3", "tf32", "bf16", "fp16")
PRECISIONS = {**{name: name for name in NAMES}, None: "fp32", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
ERRORS = {"tf32": 2e-3, "fp16": 1e-2, "bf16": 2e-2}
"""See engine.backend.Approximate. It is about three times and more of what was measured on six networks of the zoo."""


class cuda:  # noqa: N801 - a plug-in is found by its name
    """Compiles graphs for this machine's GPU. precision: None or "fp32", "tf32x3", "tf32", "fp16", "bf16"; "float16" is "fp16"."""

    name = "cuda"

    def __init__(self, options: Options | None = None) -> None:
        from .tuning import shipped_schedules

        options = options or Options()
        load_kernels(options)
        self.device = self.make_device(options.target)
        self.machine = machine_for(self.device.architecture, options)
        self.schedules = shipped_schedules(self.device)
        """What answers a lowering that has a choice; with `tune` the tuner does."""
        self._tune = options.tune

    def make_device(self, target: str | None) -> Any:
        """Where the kernels run. Raises MachineError where there is no such thing."""
        from .cupy_device import CupyDevice

        if target is not None:
            raise ModelError(f"target={target!r}: the cuda backend compiles for the GPU that it finds")
        return CupyDevice()

    @property
    def error(self) -> float:
        """See engine.backend.Approximate."""
        return ERRORS.get(self.machine.precision, 0.0)

    def compile(self, graph: Graph) -> Executable:
        """Lay out, lower, plan and generate. Raises UnsupportedError with every node that has no kernel."""
        import dataclasses as dc

        from ..common.nest_concats import nest_concats
        from .executable import CudaExecutable
        from .layout import assign_layouts
        from .tuning import tuned

        graph = in_precision(graph, self.machine.precision)  # nothing here holds the caller's weights any more
        graph = assign_layouts(nest_concats(graph))
        if self._tune:
            return tuned(graph, self.machine, self.device, self._tune)
        return CudaExecutable(graph, dc.replace(self.machine, schedules=self.schedules), self.device, gives_up=True)

    @staticmethod
    def machine_code(graph: Graph, architectures: Sequence[str], options: Options) -> MachineCode:
        """See engine.backend.CrossCompiling. Raises MachineError without NVRTC."""
        from .architecture import ARCHITECTURES, architecture
        from .machine_code import architectures_of, compile_for

        load_kernels(options)
        if unknown := [name for name in architectures if name not in (*ARCHITECTURES, "all")]:
            raise ModelError(f"no architecture {', '.join(map(repr, unknown))}: expected some of {', '.join(ARCHITECTURES)}, or all")
        precision = PRECISIONS[options.precision]
        machines = [machine_for(architecture(name), options) for name in architectures_of(architectures, precision)]
        return compile_for(in_precision(graph, precision), machines)


def load_kernels(options: Options) -> None:
    """Register the lowerings. Raises ModelError for a precision that no architecture has."""
    if options.precision not in PRECISIONS:
        raise ModelError(f"precision={options.precision!r}: the cuda backend computes in {', '.join(NAMES)}")
    for module in KERNELS:
        importlib.import_module(f".{module}", __name__)


def machine_for(architecture: Architecture, options: Options) -> Machine:
    """What lowerings may know. Raises ModelError where the architecture lacks the precision."""
    from .kernel import Machine

    machine = Machine(architecture, PRECISIONS[options.precision], options.accuracy)
    if not architecture.supports(machine.precision):
        raise ModelError(f"precision={options.precision!r}: {architecture.name} has no such products; expected 'fp32' or 'fp16'")
    return machine


def in_precision(graph: Graph, precision: str) -> Graph:
    """For "fp16" the graph that computes in float16 inside; kernels see to the other precisions."""
    import numpy as np

    from ..common.half import compute_in

    return compute_in(graph, np.dtype(np.float16), instead_of=np.dtype(np.float32)) if precision == "fp16" else graph
