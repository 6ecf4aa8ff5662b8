"""The cpu backend: vector kernels generated as LLVM IR, a Numba long tail, one native call per inference."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from ...engine.backend import Executable, Options
from ...engine.debug import report
from ...engine.errors import ModelError
from ...engine.graph import Graph

VECTOR_KERNELS = (
    "winograd",
    "convolution",
    "phases_together",
    "gemm",
    "pointwise",
    "planes",
    "pooling",
    "reduce",
    "reduce_lanes",
    "softmax",
    "lanes",
    "move",
    "resize",
    "recurrent",
    "arg_reduce",
    "lrn",
)
NUMBA_KERNELS: tuple[str, ...] = ("gather", "generic", "generic_pool", "topk", "cumsum")


class cpu:  # noqa: N801 - a plug-in is found by its name
    """Compiles graphs for this machine's processor. target: "native", "avx512", "avx2" or "neon"."""

    name = "cpu"

    def __init__(self, options: Options | None = None) -> None:
        from .kernel import Machine
        from .pool import default_threads
        from .target import resolve

        options = options or Options()
        if options.precision not in (None, "float32"):
            raise ModelError(f"precision={options.precision!r}: the cpu backend computes in the model's own precision (None) or 'float32'")
        for module in (*VECTOR_KERNELS, *NUMBA_KERNELS):
            importlib.import_module(f".{module}", __name__)
        self.machine = Machine(resolve(options.target), options.threads or default_threads(), options.accuracy)
        self._tune = options.tune

    @property
    def threads(self) -> int:
        """See engine.backend.Measurable."""
        return self.machine.threads

    def peak(self) -> float:
        """See engine.backend.Measurable."""
        return self._ceiling.measure()

    @functools.cached_property
    def _ceiling(self) -> Any:
        from .peak import Peak

        return Peak(self.machine)

    def compile(self, graph: Graph) -> Executable:
        """Lower, lay out, plan and generate."""
        import numpy as np

        from ..common.nest_concats import nest_concats
        from .epilogue import split_epilogues
        from .executable import NativeExecutable
        from .half import compute_half_in_single
        from .layout import assign_layouts
        from .phases_together import join_phases
        from .picture_resize import read_pictures
        from .tuning import tuned

        lanes = self.machine.target.lanes(np.dtype(np.float32))
        graph = read_pictures(nest_concats(split_epilogues(compute_half_in_single(graph), lanes)))
        graph = assign_layouts(join_phases(graph, lanes), lanes)  # nothing here holds the weights of the graph before any more
        executable = tuned(graph, self.machine, self._tune) if self._tune else NativeExecutable(graph, self.machine, gives_up=True)
        for line in executable.fallbacks():
            report(line)
        return executable
