"""How the cuda backend measures a candidate: one node as a program of its own, replayed on random data; and the table that ships."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import functools
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...engine.debug import report
from ...engine.errors import CompilerBug
from ...engine.graph import Constant, Graph, Input, Node, Result
from ...engine.ops import Reorder
from ...engine.profiling import moved_bytes
from ...engine.progress import progress
from ...engine.tensor import TensorType
from ..common.choice_store import ChoiceStore
from ..common.choices import RULE, Kept, Schedules
from ..common.location import FIRST_INPUT
from ..common.tuner import Layer, Run, Tuner, likeness
from .device import Device
from .executable import CudaExecutable
from .kernel import Kernel, Machine, NoKernel, lower
from .plan import arranged

Clock = Callable[[], float]
TABLE = Path(__file__).with_name("tuned.json")
"""Answers that ship, by device and question. There are none until somebody with a GPU has run benchmarks/gpu.py."""
FLOPS_PER_SECOND, BYTES_PER_SECOND = 3e13, 2e12
"""What a GPU roughly reaches; only to share the budget among nodes."""
PREPARING, AT_ONCE = 0.5, 4 * (os.cpu_count() or 1)
"""The part of the budget after which no more kernels are compiled ahead, and how many are at a time."""
SAMPLE_SECONDS, MOST_REPEATS = 5e-4, 20
"""A short node is captured so often that one replay takes about so long."""


@functools.cache
def shipped() -> Mapping[str, Mapping[str, str]]:
    """The table: device, question, answer."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def shipped_schedules(device: Device) -> Schedules:
    """What a plain `compile` uses: it is part of the source, so results do not depend on what was measured here."""
    known = shipped().get(device.name)
    return Kept(known) if known else RULE


@functools.cache
def source_stamp() -> str:
    """Changes with the source of anything that decides what kernels there are."""
    root, stamp = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(f for folder in ("cuda", "common") for kind in ("*.py", "*.cuh") for f in (root / folder).rglob(kind)):
        stamp.update(file.read_bytes())
    return stamp.hexdigest()


def store_for(device: Device) -> ChoiceStore:
    """The kept choices of this device, and of this very source: other kernels have other speeds."""
    return ChoiceStore(f"cuda {device.name}\n{source_stamp()}")


def tuned(graph: Graph, machine: Machine, device: Device, seconds: float, clock: Clock = time.perf_counter) -> CudaExecutable:
    """The graph, its layouts assigned, compiled with the choices that were kept, and with those found in `seconds` where some are open."""
    return CudaExecutable(graph, dc.replace(machine, schedules=measured(graph, machine, device, seconds, clock)), device)


def measured(graph: Graph, machine: Machine, device: Device, seconds: float, clock: Clock = time.perf_counter) -> Schedules:
    """What the tuner finds out about the graph's nodes. What ships counts as kept, unless another answer was kept here."""
    store = store_for(device)
    store.add(shipped().get(device.name, {}))
    tuner = Tuner(store, seconds, clock)
    before, end = len(tuner.answers), clock() + PREPARING * seconds
    asking = sorted(asking_nodes(graph, machine, tuner.answers), key=lambda pair: -pair[1] * rough_seconds(pair[0]))
    prepare(device, (kernel for node, _ in asking for kernel in candidates_of(node, machine, tuner.answers)), lambda: clock() < end)
    layers = [layer(node, count, machine, device, clock) for node, count in asking]
    with progress(len(layers)) as bar:
        found = tuner.tune(layers, lambda name: bar(f"measuring candidates for {name}"))
    report(f"measured {len(tuner.answers) - before} choices of {len(layers)} different layers")
    return found


def asking_nodes(graph: Graph, machine: Machine, answers: Mapping[str, str]) -> list[tuple[Node, int]]:
    """Nodes whose lowering asks what nobody has answered: one of all that are alike, and how many they are."""
    alike: dict[object, list[Node]] = {}
    for node in graph:
        if not isinstance(node, Input | Constant | Result):
            alike.setdefault(likeness(node), []).append(node)
    return [(nodes[0], len(nodes)) for nodes in alike.values() if open_questions(nodes[0], machine, answers)]


def open_questions(node: Node, machine: Machine, answers: Mapping[str, str]) -> int:
    """How many questions are left; none where the node has no kernel or is no step, which compiling tells."""
    schedules = Kept(answers)
    try:
        lower(node, dc.replace(machine, schedules=schedules))
    except NoKernel:
        return 0
    return len(schedules.open)


def prepare(device: Device, kernels: Iterator[Kernel], has_time: Callable[[], bool]) -> None:
    """Compile kernels on all processors before any is measured: one after the other they would take most of the time."""
    while has_time() and (some := list(dict.fromkeys(itertools.islice(kernels, AT_ONCE)))):
        with contextlib.suppress(CompilerBug):  # whoever loads the kernel hears of it
            device.prepare(some)


def candidates_of(node: Node, machine: Machine, answers: Mapping[str, str]) -> Iterator[Kernel]:
    """Kernels of the program in which the node is measured, and those of the node with each candidate."""
    known = Kept(answers)
    graph, alone = single(node)
    yield from (call.kernel for _, call in arranged(graph, dc.replace(machine, schedules=known))[1])
    for question in known.open.values():
        for candidate in question.candidates:
            yield from (call.kernel for call in lower(alone, dc.replace(machine, schedules=known.having(question, candidate))))


def rough_seconds(node: Node) -> float:
    """How long a GPU might take."""
    return node.flops() / FLOPS_PER_SECOND + moved_bytes(node) / BYTES_PER_SECOND


def layer(node: Node, count: int, machine: Machine, device: Device, clock: Clock) -> Layer:
    """A node of which the network has `count`."""

    def build(schedules: Schedules) -> Run:
        graph, alone = single(node)
        return Timed(CudaExecutable(graph, dc.replace(machine, schedules=schedules), device), alone, clock).once

    return Layer(", ".join(node.origin[:2]) or node.opname, count * rough_seconds(node), build)


def single(node: Node) -> tuple[Graph, Node]:
    """A graph around the node, and the node in it.

    Its constants are its own, because a plan gives them up. What else the node reads becomes inputs, which like its result are
    plain at the border and brought into their layouts by steps that are not timed.
    """
    inputs, changed = list[Input](), dict[Node, Node]()
    for operand in dict.fromkeys(node.operands):
        if isinstance(operand, Constant):
            changed[operand] = operand.replace(data=operand.data)
            continue
        kind = operand.type
        inputs.append(Input(name=f"x{len(inputs)}", shape=kind.shape, dtype=kind.dtype))
        changed[operand] = Reorder(inputs[-1], layout=kind.layout) if kind.layout else inputs[-1]
    alone = node.map_operands(changed.__getitem__)
    results = (alone,) if len(node.types) == 1 else tuple(Result(alone, index=i) for i in range(len(node.types)))
    plain = tuple(Reorder(r, layout=None) if r.type.layout else r for r in results)
    return Graph(tuple(inputs), plain, tuple(f"y{i}" for i in range(len(plain)))), alone


class Timed:
    """The steps of one node in a program with memory of its own, captured so often that one replay can be timed."""

    def __init__(self, executable: CudaExecutable, node: Node, clock: Clock) -> None:
        self._clock, self._device = clock, executable.device
        with self._device.current():
            self._context = context = executable._take()
            self._fill([node.type for node in executable.graph.inputs])
            context.replay()
            own = tuple(launch for step, launch in zip(executable.steps, context.launches, strict=True) if step.node is node)
            self._replay, self._repeats = context.stream.capture(own), 1
        self.once()
        repeats = int(np.clip(SAMPLE_SECONDS / max(self.once(), 1e-9), 1, MOST_REPEATS))
        if repeats > 1:
            with self._device.current():
                self._replay, self._repeats = context.stream.capture(own * repeats), repeats

    def _fill(self, kinds: Sequence[TensorType]) -> None:
        rng = np.random.default_rng(0)
        for memory, kind in zip(self._context.memories[FIRST_INPUT:], kinds, strict=False):
            self._context.stream.upload(memory, 0, rng.random(kind.shape, np.float32).astype(kind.dtype, copy=False))
            self._context.stream.synchronise()  # until then the array must stay

    def once(self) -> float:
        """Seconds of the steps, done once."""
        with self._device.current():
            start = self._clock()
            self._replay()
            self._context.stream.synchronise()
            return (self._clock() - start) / self._repeats
