"""A graph as the cuda backend runs it: steps of kernels over one arena, replayed as one."""

from __future__ import annotations

import dataclasses as dc
import time
from collections.abc import Callable, Sequence

import numpy as np

from ...engine.errors import UnsupportedError
from ...engine.graph import Constant, Graph, Input, Node, Result
from ...engine.ops.layout import from_physical, to_physical
from ...engine.tensor import TensorType
from ..common.location import CONSTANTS, FIRST_INPUT, SCRATCH, Location
from ..common.storage import Storage
from .constants import Constants
from .device import Device, Launch, Memory, Stream
from .kernel import Address, Argument, Call, Machine, NoKernel, Scratch, Table, lower

ALIGNMENT = 16
"""Every value starts at a multiple of it, so that kernels move 16 bytes at a time."""
ROOM = 256
"""Pieces of scratch memory start at multiples of it."""


@dc.dataclass(frozen=True)
class Step:
    """One line of the plan: a kernel call, and where each of its pointers leads."""

    node: Node
    call: Call
    places: tuple[Location, ...]

    @property
    def label(self) -> str:
        """How a step is named in tables: operator, kernel, names in the user's model."""
        origin = ", ".join(self.node.origin[:3]) + (", ..." if len(self.node.origin) > 3 else "")
        return f"{self.node.opname} [{self.call.kernel.family}] {origin}".rstrip()


@dc.dataclass(frozen=True)
class Context:
    """What one run needs of the device: memory, by the bases of locations, a stream, and all launches as one."""

    memories: tuple[Memory, ...]
    stream: Stream
    launches: tuple[Launch, ...]
    replay: Callable[[], None]


class CudaExecutable:
    """A compiled graph. Callers that run at once each get a context of their own."""

    def __init__(self, graph: Graph, machine: Machine, device: Device) -> None:
        self.graph, self.machine, self.device = graph, machine, device
        self.storage = Storage(graph, ALIGNMENT)
        self.constants = Constants()
        self.zeros, self.scratch = 0, 0
        self.steps = self._steps()
        self.outputs = tuple((o.type, self._location(o)) for o in graph.outputs)
        kernels = list(dict.fromkeys(step.call.kernel for step in self.steps))
        self._loaded = dict(zip(kernels, device.load(kernels), strict=True))
        self._known = self.constants.upload(device)
        self._contexts: list[Context] = []

    def _steps(self) -> list[Step]:
        nodes = [n for n in self.graph if not isinstance(n, Input | Constant | Result) and not self.storage.is_view(n)]
        calls, missing = list[tuple[Node, Call]](), list[str]()
        for node in nodes:
            try:
                calls += [(node, call) for call in lower(node, self.machine) if not self._is_done(node, call)]
            except NoKernel as reason:
                named = f" ({', '.join(node.origin)})" if node.origin else ""
                missing.append(f"{node.opname}{named} : {', '.join(map(str, node.types))}: {reason}")
        if missing:
            raise UnsupportedError(_no_kernels(missing))
        self.zeros = max((_room(call, zero=True) for _, call in calls), default=0)
        self.scratch = max((_room(call, zero=False) for _, call in calls), default=0)
        return [Step(node, call, self._places(call)) for node, call in calls]

    def _is_done(self, node: Node, call: Call) -> bool:
        """Whether the call copies an operand of a Concat that was computed in its place."""
        source = call.arguments.get("source")
        place = source.place if isinstance(source, Address) else source
        return isinstance(place, Node) and self.storage.inside.get(place, (None,))[0] is node

    def _places(self, call: Call) -> tuple[Location, ...]:
        pieces = _scratch_places(call, self.zeros)
        return tuple(self._resolve(call.arguments[p.name], pieces) for p in call.kernel.parameters)

    def _resolve(self, argument: Argument, pieces: dict[Scratch, int]) -> Location:
        place, offset = (argument.place, argument.offset) if isinstance(argument, Address) else (argument, 0)
        if isinstance(place, Scratch):
            return Location(SCRATCH, pieces[place] + offset)
        at = Location(CONSTANTS, self.constants.add(place)) if isinstance(place, Table) else self._location(place)
        return Location(at.base, at.offset + offset)

    def _location(self, node: Node) -> Location:
        """Where a value is; the Constant that it is or lies in is stored on first sight."""
        root = self.storage.root(node)[0]
        if isinstance(root, Constant) and root not in self.storage.constants:
            self.storage.constants[root] = self.constants.add(Table(to_physical(root.data, root.layout)))
        return self.storage[node]

    # running

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """See engine.backend.Executable."""
        context = self._take()
        self._upload(context, inputs)
        context.replay()
        results = [self._download(context, kind, at) for kind, at in self.outputs]
        context.stream.synchronise()
        self._contexts.append(context)
        logical = [from_physical(a, kind.shape, kind.layout) for a, (kind, _) in zip(results, self.outputs, strict=True)]
        if out is None:
            return logical
        for target, result in zip(out, logical, strict=True):
            target[...] = result
        return list(out)

    def _take(self) -> Context:
        try:
            return self._contexts.pop()
        except IndexError:
            return self._context()

    def _context(self) -> Context:
        allocate, stream = self.device.allocate, self.device.stream()
        scratch = allocate(self.zeros + self.scratch, "scratch memory")
        stream.zero(scratch, 0, self.zeros)
        given = [allocate(n.type.nbytes, f"input {n.name}") for n in self.graph.inputs]
        results = [allocate(o.type.nbytes, f"output {name}") for o, name in zip(self.graph.outputs, self.graph.output_names, strict=True)]
        arena = allocate(self.storage.arena_size, "the arena")
        memories = (arena, self._known, scratch, *given, *results)
        launches = tuple(
            Launch(self._loaded[step.call.kernel], tuple(memories[at.base].address + at.offset for at in step.places))
            for step in self.steps
        )
        return Context(memories, stream, launches, stream.capture(launches))

    def _upload(self, context: Context, inputs: Sequence[np.ndarray]) -> None:
        for memory, array in zip(context.memories[FIRST_INPUT:], inputs, strict=False):
            context.stream.upload(memory, 0, np.ascontiguousarray(array))

    def _download(self, context: Context, kind: TensorType, at: Location) -> np.ndarray:
        array = np.empty(kind.physical_shape, kind.dtype)
        context.stream.download(array, context.memories[at.base], at.offset)
        return array

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """See engine.backend.Executable."""
        context = self._take()
        self._upload(context, inputs)
        times = np.median([[self._timed(context, launch) for launch in context.launches] for _ in range(repeats)], axis=0)
        self._contexts.append(context)
        return list(zip((step.label for step in self.steps), np.ravel(times).tolist(), strict=True))

    def profile_alone(self, inputs: Sequence[np.ndarray], kinds: tuple[type[Node], ...], repeats: int = 10) -> list[float]:
        """See engine.backend.Itemized. Other steps run once in their turn, so that every step finds its operands in memory."""
        context, times = self._take(), list[float]()
        self._upload(context, inputs)
        for step, launch in zip(self.steps, context.launches, strict=True):
            samples = [self._timed(context, launch) for _ in range(1 + repeats * isinstance(step.node, kinds))]
            times.append(float(np.median(samples[1:])) if samples[1:] else 0.0)
        self._contexts.append(context)
        return times

    def _timed(self, context: Context, launch: Launch) -> float:
        start = time.perf_counter()
        context.stream.launch([launch])
        context.stream.synchronise()
        return time.perf_counter() - start

    def items(self) -> list[tuple[Node, str]]:
        """For each step of `profile`, in the same order: the node that it computes, and the family of its kernel."""
        return [(step.node, step.call.kernel.family) for step in self.steps]

    def describe(self) -> str:
        """The plan as text: steps and memory."""
        lines = []
        for i, step in enumerate(self.steps):
            kernel = step.call.kernel
            size = f"{'x'.join(map(str, kernel.grid))} blocks of {kernel.threads} threads, {kernel.shared} B shared"
            lines.append(f"{i:4} {step.label} : {', '.join(map(str, step.node.types))}; {size}")
        mib = 1 / 2**20
        return "\n".join(
            [
                *lines,
                f"{len(self.steps)} steps, {len(self._loaded)} kernels; {self.device.name}, {self.machine.precision}",
                f"arena {self.storage.arena_size * mib:.2f} MiB (largest live set {self.storage.live_bound * mib:.2f}), "
                f"constants {self.constants.nbytes * mib:.2f} MiB, scratch {(self.zeros + self.scratch) * mib:.2f} MiB",
            ]
        )


def _scratch_pieces(call: Call, zero: bool) -> list[Scratch]:
    places = [v.place if isinstance(v, Address) else v for v in call.arguments.values()]
    return list(dict.fromkeys(p for p in places if isinstance(p, Scratch) and p.zero == zero))


def _room(call: Call, zero: bool) -> int:
    return sum(-(-piece.nbytes // ROOM) * ROOM for piece in _scratch_pieces(call, zero))


def _scratch_places(call: Call, zeros: int) -> dict[Scratch, int]:
    """Where each piece of a call starts: those of zeros lie in front of the others, which start after `zeros` bytes."""
    found: dict[Scratch, int] = {}
    for zero, position in ((True, 0), (False, zeros)):
        for piece in _scratch_pieces(call, zero):
            found[piece] = position
            position += -(-piece.nbytes // ROOM) * ROOM
    return found


def _no_kernels(missing: Sequence[str]) -> str:
    lines = "\n".join(f"  {line}" for line in missing)
    how = "backend='cpu' runs them; CONTRIBUTING.md says how a kernel is added in backends/cuda"
    return f"the cuda backend has no kernel yet for\n{lines}\n{how}"
