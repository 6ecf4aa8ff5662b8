"""A graph → the machine code of its kernels for architectures that need not be here, and what each of them uses."""

from __future__ import annotations

import dataclasses as dc
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...engine.backend import MachineCode
from ...engine.debug import dump, dump_each
from ...engine.graph import Graph
from ..common.nest_concats import nest_concats
from .architecture import ARCHITECTURES, architecture
from .cubin import Cubin, compile_kernels
from .kernel import Kernel, Machine
from .layout import assign_layouts
from .nvrtc import nvrtc
from .plan import arranged, described

COLUMNS = ("architecture", "kernel", "steps", "threads", "registers", "shared", "spilled", "exceeds")


def architectures_of(names: Sequence[str], precision: str) -> list[str]:
    """The names, each once; with "all" among them every architecture that the compiler knows and that has the precision."""
    if "all" not in names:
        return [architecture(name).name for name in dict.fromkeys(names)]
    return [a.name for a in ARCHITECTURES.values() if a.name in nvrtc().architectures and a.supports(precision)]


def compile_for(graph: Graph, machines: Sequence[Machine]) -> MachineCode:
    """The code of all kernels of the graph. Raises MachineError without NVRTC, UnsupportedError for nodes without a kernel."""
    files, report, rows = dict[str, bytes](), dict[str, Any](), list[list[str]]()
    graph = assign_layouts(nest_concats(graph))
    for machine in machines:
        name = machine.architecture.name
        storage, calls = arranged(graph, machine)
        dump(described([(node, call.kernel) for node, call in calls], storage, f"{name}, {machine.precision}"), f"plan_{name}", level=3)
        uses = Counter(call.kernel for _, call in calls)
        dump_each(((kernel.name, kernel.source()) for kernel in uses), level=4)
        cubins = compile_kernels(list(uses), machine.architecture)
        files |= {f"{name}/{cubin.kernel.name}.cubin": cubin.code for cubin in cubins}
        report[name] = {cubin.kernel.name: _described(cubin, uses) for cubin in cubins}
        rows += [_row(cubin, uses) for cubin in cubins]
    about = {"model": graph.name, "precision": machines[0].precision, "nvrtc": nvrtc().version, "architectures": report}
    return MachineCode(files, about, COLUMNS, rows)


def _described(cubin: Cubin, uses: Counter[Kernel]) -> dict[str, Any]:
    kernel = cubin.kernel
    own = {"steps": uses[kernel], "grid": kernel.grid, "block": kernel.block, "exceeds": cubin.excess()}
    return {"family": kernel.family, **own, **dc.asdict(cubin.resources)}


def _row(cubin: Cubin, uses: Counter[Kernel]) -> list[str]:
    kernel, used = cubin.kernel, cubin.resources
    numbers = (uses[kernel], kernel.threads, used.registers, used.shared, used.spills)
    return [cubin.architecture.name, kernel.name, *map(str, numbers), cubin.excess() or "-"]
