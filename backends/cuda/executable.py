"""A graph as the cuda backend runs it: the steps of a plan over one arena, replayed as one."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine.backend import DeviceArray
from ...engine.graph import Graph, Node
from ..common.location import FIRST_INPUT
from .device import Device, Launch, Memory, Stream
from .kernel import Machine
from .plan import ALIGNMENT as ALIGNMENT
from .plan import Plan

Given = np.ndarray | DeviceArray


@dc.dataclass(frozen=True)
class Context:
    """What one run needs of the device: memory, by the bases of locations, a stream, and all launches as one."""

    memories: tuple[Memory, ...]
    stream: Stream
    launches: tuple[Launch, ...]
    replay: Callable[[], None]
    given: tuple[np.ndarray, ...]
    """Memory of the host that the device reads inputs from."""
    answers: tuple[np.ndarray, ...]
    """Memory of the host that the device writes outputs to."""


class CudaExecutable:
    """A compiled graph. Callers that run at once each get a context of their own.

    With `gives_up`, the weights of its graph, which then nobody else may have, go as soon as the device has them.
    """

    def __init__(self, graph: Graph, machine: Machine, device: Device, gives_up: bool = False) -> None:
        self.machine, self.device = machine, device
        self.plan = Plan(graph, machine)
        self.graph, self.steps = self.plan.graph, self.plan.steps
        kernels = list(dict.fromkeys(step.kernel for step in self.steps))
        with device.current():
            self._loaded = dict(zip(kernels, device.load(kernels), strict=True))
            self._known = self.plan.constants.upload(device)
        if gives_up:
            self.plan.give_up()
        self._contexts: list[Context] = []

    # running

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """See engine.backend.Executable."""
        results = [np.empty(kind.shape, kind.dtype) for kind, _ in self.plan.outputs] if out is None else list(out)
        self._run(inputs, results)
        return results

    def run_on_device(self, inputs: Sequence[Given], out: Sequence[Given] | None = None) -> list[Given]:
        """See engine.backend.OnDevice."""
        with self.device.current():
            results: list[Given] = [self.device.empty(kind) for kind, _ in self.plan.outputs] if out is None else list(out)
            self._run(inputs, results)
        return results

    def _run(self, inputs: Sequence[Given], results: Sequence[Given]) -> None:
        with self.device.current():
            context = self._take()
            held = self._upload(context, inputs)
            context.replay()
            for result, answer, (_, at) in zip(results, context.answers, self.plan.outputs, strict=True):
                memory = context.memories[at.base]
                if isinstance(result, DeviceArray):
                    context.stream.copy_out(self.device.array(result, written=True), memory, at.offset)
                else:
                    context.stream.download(answer, memory, at.offset)
            context.stream.synchronise()
            held.clear()
        for result, answer in zip(results, context.answers, strict=True):
            if not isinstance(result, DeviceArray):
                result[...] = answer.view(result.dtype).reshape(result.shape)
        self._contexts.append(context)

    def _take(self) -> Context:
        try:
            return self._contexts.pop()
        except IndexError:
            return self._context()

    def _context(self) -> Context:
        device, plan = self.device, self.plan
        stream = device.stream()
        scratch = device.allocate(plan.zeros + plan.scratch, "scratch memory")
        stream.zero(scratch, 0, plan.zeros)
        named = [(f"input {n.name}", n.type.nbytes) for n in self.graph.inputs]
        named += [(f"output {name}", o.type.nbytes) for o, name in zip(self.graph.outputs, self.graph.output_names, strict=True)]
        arena = device.allocate(plan.storage.arena_size, "the arena")
        memories = (arena, self._known, scratch, *(device.allocate(nbytes, name) for name, nbytes in named))
        launches = tuple(
            Launch(self._loaded[step.kernel], tuple(memories[at.base].address + at.offset for at in step.places)) for step in self.steps
        )
        staged = [device.host(nbytes) for _, nbytes in named]
        count = len(self.graph.inputs)
        replay = stream.capture(launches)
        return Context(memories, stream, launches, replay, tuple(staged[:count]), tuple(staged[count:]))

    def _upload(self, context: Context, inputs: Sequence[Given]) -> list[Any]:
        """Arrays on the device that must stay until they are copied, which is not yet."""
        held = list[Any]()
        for memory, staged, given in zip(context.memories[FIRST_INPUT:], context.given, inputs, strict=False):
            if isinstance(given, DeviceArray):
                held.append(self.device.array(given))
                context.stream.copy_in(memory, 0, held[-1])
            else:
                np.copyto(staged.view(given.dtype).reshape(given.shape), given)
                context.stream.upload(memory, 0, staged)
        return held

    # looking

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """See engine.backend.Executable."""
        with self.device.current():
            context = self._take()
            self._upload(context, inputs)
            samples = [[context.stream.seconds(launch) for launch in context.launches] for _ in range(repeats)]
        self._contexts.append(context)
        return list(zip((step.label for step in self.steps), np.ravel(np.median(samples, axis=0)).tolist(), strict=True))

    def profile_alone(self, inputs: Sequence[np.ndarray], kinds: tuple[type[Node], ...], repeats: int = 10) -> list[float]:
        """See engine.backend.Itemized. Other steps run once in their turn, so that every step finds its operands in memory."""
        times = list[float]()
        with self.device.current():
            context = self._take()
            self._upload(context, inputs)
            for step, launch in zip(self.steps, context.launches, strict=True):
                samples = [context.stream.seconds(launch) for _ in range(1 + repeats * isinstance(step.node, kinds))]
                times.append(float(np.median(samples[1:])) if samples[1:] else 0.0)
        self._contexts.append(context)
        return times

    def items(self) -> list[tuple[Node, str]]:
        """For each step of `profile`, in the same order: the node that it computes, and the family of its kernel."""
        return [(step.node, step.kernel.family) for step in self.steps]

    def describe(self) -> str:
        """The plan as text: steps and memory."""
        lines, plan = [], self.plan
        for i, step in enumerate(self.steps):
            kernel = step.kernel
            size = f"{'x'.join(map(str, kernel.grid))} blocks of {kernel.threads} threads, {kernel.shared} B shared"
            lines.append(f"{i:4} {step.label} : {', '.join(map(str, step.node.types))}; {size}")
        mib = 1 / 2**20
        return "\n".join(
            [
                *lines,
                f"{len(self.steps)} steps, {len(self._loaded)} kernels; {self.device.name}, {self.machine.precision}",
                f"arena {plan.storage.arena_size * mib:.2f} MiB (largest live set {plan.storage.live_bound * mib:.2f}), "
                f"constants {plan.constants.nbytes * mib:.2f} MiB, scratch {(plan.zeros + plan.scratch) * mib:.2f} MiB",
            ]
        )
