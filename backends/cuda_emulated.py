"""The cuda backend on a GPU that is not there: the same graph, plan, host code and kernels, in the emulator. Slow; for tests."""

from __future__ import annotations

from typing import Any

from .cuda import cuda


class cuda_emulated(cuda):  # noqa: N801 - a plug-in is found by its name
    """target: the architecture to imitate, "sm_90" by default. Needs the compiler g++."""

    name = "cuda-emulated"

    def make_device(self, target: str | None) -> Any:
        """See cuda."""
        from .cuda.architecture import architecture
        from .cuda.device import EmulatedDevice
        from .cuda.emulator.build import compiler

        device = EmulatedDevice(architecture(target or "sm_90").name)
        compiler()  # whoever has none is told before a model is read
        return device
