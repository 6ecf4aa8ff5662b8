"""How the cpu backend measures a candidate: one layer as a program of its own, on random data and on the threads of the session."""

from __future__ import annotations

import dataclasses as dc
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...engine.debug import report
from ...engine.graph import Constant, Graph, Input, Node
from ...engine.ops import Conv, ConvTranspose
from ...engine.ops.layout import Reorder
from ...engine.profiling import moved_bytes
from ...engine.progress import progress
from ..common.choice_store import ChoiceStore
from ..common.choices import Kept, Schedules
from ..common.tuner import Layer, Run, Tuner, likeness
from . import codegen
from .executable import NativeExecutable
from .kernel import Machine
from .weights import Weights

FLOPS_PER_SECOND, BYTES_PER_SECOND = 1e11, 2e10
"""What a machine roughly reaches; only to share the budget among layers."""
SAMPLE_SECONDS, MOST_REPEATS = 5e-4, 16
"""A short layer is repeated for about so long."""
CACHE_BYTES = 32 << 20
"""A network with more constants than that finds none of them in a cache when it comes to a layer."""


def store_for(machine: Machine) -> ChoiceStore:
    """The kept choices of this machine's target, and of this very source: other kernels have other speeds."""
    return ChoiceStore(f"{machine.target.key}\n{codegen.source_stamp()}")


def tuned(graph: Graph, machine: Machine, seconds: float) -> NativeExecutable:
    """The graph, its layouts assigned, compiled with the choices that were kept, and with those found in `seconds` where some are open."""
    schedules = Kept(store_for(machine).read())
    executable = NativeExecutable(graph, dc.replace(machine, schedules=schedules))
    if not schedules.open:
        give_up_weights(executable)
        return executable
    is_cold = executable.known.nbytes > CACHE_BYTES
    del executable
    found = measured(graph, machine, seconds, is_cold)
    return NativeExecutable(graph, dc.replace(machine, schedules=found), gives_up=True)


def give_up_weights(executable: NativeExecutable) -> None:
    """What `gives_up` does, afterwards: while questions could be open the weights were still wanted."""
    nodes = list(executable.graph)
    weights = Weights(nodes, executable.graph.outputs, executable.storage)
    for node in nodes:
        weights.give_up(node)


def measured(graph: Graph, machine: Machine, seconds: float, is_cold: bool) -> Schedules:
    """What the tuner finds out about the graph's layers."""
    tuner = Tuner(store_for(machine), seconds)
    before = len(tuner.answers)
    ballast = np.ones(2 * CACHE_BYTES // 8 if is_cold else 0)
    layers = [layer(node, count, machine, ballast) for node, count in distinct_nodes(graph)]
    with progress(len(layers)) as bar:
        found = tuner.tune(layers, lambda name: bar(f"measuring candidates for {name}"))
    report(f"measured {len(tuner.answers) - before} choices of {len(layers)} different layers")
    return found


def distinct_nodes(graph: Graph) -> list[tuple[Conv | ConvTranspose, int]]:
    """Nodes whose lowering may have something to ask: one of all that are alike, and how many they are."""
    alike = dict[Any, list[Conv | ConvTranspose]]()
    for node in graph:
        if isinstance(node, Conv | ConvTranspose) and isinstance(node.weight, Constant) and isinstance(node.bias, Constant | None):
            alike.setdefault(likeness(node), []).append(node)
    return [(nodes[0], len(nodes)) for nodes in alike.values()]


def layer(node: Conv | ConvTranspose, count: int, machine: Machine, ballast: np.ndarray) -> Layer:
    """A node of which the network has `count`."""
    bench = Bench(single_image(node), machine, ballast)
    seconds = node.flops() / FLOPS_PER_SECOND + moved_bytes(node) / BYTES_PER_SECOND
    return Layer(", ".join(node.origin[:2]) or node.opname, count * seconds, bench.run)


def single_image(node: Conv | ConvTranspose) -> Graph:
    """The node alone, for one image whatever the network's batch: the choice must not depend on the batch.

    The first operand is brought into its layout by a step of its own, which leaves it where a layer finds what the one before has
    computed, and has all threads awake.
    """
    inputs, changed = list[Input](), dict[Node, Node]()
    for operand in dict.fromkeys(node.operands):
        kind = operand.type
        has_images = operand in (node.x, *node.extras) and kind.rank == node.type.rank
        if isinstance(operand, Constant):
            changed[operand] = operand.replace(data=operand.data[:1]) if has_images else operand
            continue
        shape, layout = (1, *kind.shape[1:]) if has_images else kind.shape, None if operand is node.x else kind.layout
        inputs.append(Input(name=f"x{len(inputs)}", shape=shape, dtype=kind.dtype, layout=layout))
        changed[operand] = inputs[-1] if layout == kind.layout else Reorder(inputs[-1], layout=kind.layout)
    return Graph(tuple(inputs), (node.map_operands(changed.__getitem__),), ("y",))


class Bench:
    """A graph of one layer and random data for it."""

    def __init__(self, graph: Graph, machine: Machine, ballast: np.ndarray) -> None:
        self.graph, self.machine = graph, machine
        self._ballast = ballast
        """Where it is not empty, it is read before each run, so that weights come from memory as they do in a large network."""

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """Every input, and room for the output, as they lie in memory."""
        rng = np.random.default_rng(0)
        types = [node.type for node in (*self.graph.inputs, self.graph.outputs[0])]
        return [rng.random(kind.physical_shape, np.float32).astype(kind.dtype, copy=False) for kind in types]

    def run(self, schedules: Schedules) -> Run:
        """See common.tuner.Layer."""
        timed = _Timed(NativeExecutable(self.graph, dc.replace(self.machine, schedules=schedules)), self.arrays)
        repeats = 1 if self._ballast.size else int(np.clip(SAMPLE_SECONDS / max(timed.once(), 1e-9), 1, MOST_REPEATS))

        def sample() -> float:
            self._ballast.sum()
            return float(np.median([timed.once() for _ in range(repeats)]))

        return sample


class _Timed:
    """A program with the memory that it works on."""

    def __init__(self, executable: NativeExecutable, arrays: Sequence[np.ndarray]) -> None:
        self._executable, self._arrays = executable, arrays
        self._context = executable.runner.take_context()
        arena, scratch = self._context
        self._bases = [arena.address, executable.known.address, scratch.address, *(array.ctypes.data for array in arrays)]
        (output,) = executable.graph.outputs
        native = [step.node for step in executable.steps if step.call]
        self._steps = [i for i, node in enumerate(native) if node is output]

    def once(self) -> float:
        """Do everything; the seconds of the steps that compute the output."""
        times = self._executable.program.time_steps(self._bases)
        return sum(times[i] for i in self._steps)
