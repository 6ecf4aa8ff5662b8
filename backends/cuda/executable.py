"""A graph as the cuda backend runs it: the steps of a plan over one arena, replayed as one."""

from __future__ import annotations

import contextlib
import dataclasses as dc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...engine.backend import DeviceArray
from ...engine.debug import dump_each
from ...engine.errors import MachineError
from ...engine.graph import Graph, Node
from ..common.location import FIRST_INPUT
from .device import Device, Launch, Memory, Stream
from .kernel import Machine
from .plan import ALIGNMENT as ALIGNMENT
from .plan import Plan, described

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
        dump_each(((kernel.name, kernel.source()) for kernel in kernels), level=4)
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
        with self.device.current():  # whoever refuses an array does it before anything runs
            given = [self.device.array(x) if isinstance(x, DeviceArray) else x for x in inputs]
            wanted = [self.device.array(y, written=True) if isinstance(y, DeviceArray) else y for y in results]
        with self._lent() as context:
            self._upload(context, given)
            context.replay()
            for result, answer, (_, at) in zip(wanted, context.answers, self.plan.outputs, strict=True):
                memory = context.memories[at.base]
                if isinstance(result, np.ndarray):
                    context.stream.download(answer, memory, at.offset)
                else:
                    context.stream.copy_out(result, memory, at.offset)
            context.stream.synchronise()
            for result, answer in zip(wanted, context.answers, strict=True):
                if isinstance(result, np.ndarray):
                    result[...] = answer.view(result.dtype).reshape(result.shape)

    @contextlib.contextmanager
    def _lent(self) -> Iterator[Context]:
        """A context for one caller. After an error it is gone, once nothing of it runs any more: others may get its memory."""
        with self.device.current():
            context = self._take()
            try:
                yield context
            except BaseException:
                with contextlib.suppress(MachineError):
                    context.stream.synchronise()
                raise
        self._contexts.append(context)

    def _take(self) -> Context:
        try:
            return self._contexts.pop()
        except IndexError:
            return self._context()

    def _context(self) -> Context:
        device, plan = self.device, self.plan
        scratch = device.allocate(plan.zeros + plan.scratch, "scratch memory")
        named = [(f"input {n.name}", n.type.nbytes) for n in self.graph.inputs]
        named += [(f"output {name}", o.type.nbytes) for o, name in zip(self.graph.outputs, self.graph.output_names, strict=True)]
        arena = device.allocate(plan.storage.arena_size, "the arena")
        memories = (arena, self._known, scratch, *(device.allocate(nbytes, name) for name, nbytes in named))
        launches = tuple(
            Launch(self._loaded[step.kernel], tuple(memories[at.base].address + at.offset for at in step.places)) for step in self.steps
        )
        staged = [device.host(nbytes) for _, nbytes in named]
        count, stream = len(self.graph.inputs), device.stream()
        replay = stream.capture(launches)
        stream.zero(scratch, 0, plan.zeros)
        return Context(memories, stream, launches, replay, tuple(staged[:count]), tuple(staged[count:]))

    @staticmethod
    def _upload(context: Context, inputs: Sequence[Any]) -> None:
        """Arrays of NumPy, or those of the device, which must stay until the stream has copied them."""
        for memory, staged, given in zip(context.memories[FIRST_INPUT:], context.given, inputs, strict=False):
            if isinstance(given, np.ndarray):
                np.copyto(staged.view(given.dtype).reshape(given.shape), given)
                context.stream.upload(memory, 0, staged)
            else:
                context.stream.copy_in(memory, 0, given)

    # looking

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """See engine.backend.Executable."""
        with self._lent() as context:
            self._upload(context, inputs)
            times = [float(np.median(context.stream.seconds(launch, repeats))) for launch in context.launches]
        return list(zip((step.label for step in self.steps), times, strict=True))

    def profile_alone(self, inputs: Sequence[np.ndarray], kinds: tuple[type[Node], ...], repeats: int = 10) -> list[float]:
        """See engine.backend.Itemized. Other steps run once in their turn, so that every step finds its operands in memory."""
        times = list[float]()
        with self._lent() as context:
            self._upload(context, inputs)
            for step, launch in zip(self.steps, context.launches, strict=True):
                context.stream.launch([launch])
                times.append(float(np.median(context.stream.seconds(launch, repeats))) if isinstance(step.node, kinds) else 0.0)
        return times

    def items(self) -> list[tuple[Node, str]]:
        """For each step of `profile`, in the same order: the node that it computes, and the family of its kernel."""
        return [(step.node, step.kernel.family) for step in self.steps]

    def describe(self) -> str:
        """The plan as text: steps and memory."""
        plan, mib = self.plan, 1 / 2**20
        text = described([(step.node, step.kernel) for step in self.steps], plan.storage, f"{self.device.name}, {self.machine.precision}")
        return f"{text}, constants {plan.constants.nbytes * mib:.2f} MiB, scratch {(plan.zeros + plan.scratch) * mib:.2f} MiB"
