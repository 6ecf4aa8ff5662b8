"""A graph as the cpu backend runs it: steps of native kernels in one program, interrupted where a node falls back to its NumPy meaning."""

from __future__ import annotations

import dataclasses as dc
import itertools
import time
from collections.abc import Sequence

import numpy as np

from ...engine.evaluate import evaluate_node
from ...engine.graph import Constant, Graph, Input, Node, Result
from ...engine.ops.layout import from_physical, to_physical
from ..common.storage import CONSTANTS, FIRST_INPUT, SCRATCH, Location, Storage, result_offset
from . import codegen
from .arena import Arena
from .constants import Constants
from .kernel import Address, Argument, Call, Machine, NoKernel, Scratch, Table, lower
from .program import Program, ProgramStep


@dc.dataclass(frozen=True)
class Step:
    """One line of the plan: a kernel call, or a node that falls back (call is None) and why."""

    node: Node
    call: Call | None
    reason: str = ""

    @property
    def engine(self) -> str:
        """ "vector", "numba" or "numpy"."""
        return self.call.kernel.engine if self.call else "numpy"

    @property
    def family(self) -> str:
        """Which kind of kernel it is."""
        return self.call.kernel.symbol.partition("_")[0] if self.call else "numpy"


class NativeExecutable:
    """A compiled graph. Callers that run at once each get an arena of their own."""

    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.graph, self.machine = graph, machine
        self.storage = Storage(graph)
        self.steps = self._steps()
        self.constants = Constants()
        self.known = self._place_constants()
        self.scratch_size = max((self._scratch_size(s.call) for s in self.steps if s.call), default=0)
        self.program = self._program()
        self.segments = self._segments()
        self._forget_originals()
        self._contexts: list[tuple[Arena, Arena]] = []

    def _steps(self) -> list[Step]:
        steps = []
        for node in self.graph:
            if isinstance(node, Input | Constant | Result) or self.storage.is_view(node):
                continue
            try:
                steps += [Step(node, call) for call in lower(node, self.machine) if not self._is_done(node, call)]
            except NoKernel as reason:
                steps.append(Step(node, None, str(reason)))
        return steps

    def _segments(self) -> list[range | Node]:
        """What a run goes through: ranges of the program's steps, and nodes that fall back."""
        segments: list[range | Node] = []
        first = 0
        for is_native, group in itertools.groupby(self.steps, lambda step: step.call is not None):
            members = list(group)
            if is_native:
                segments.append(range(first, first + len(members)))
                first += len(members)
            else:
                segments += [step.node for step in members]
        return segments

    def _forget_originals(self) -> None:
        """Packed weights and tables have been copied, and every address is in the program."""
        del self.constants
        self.steps = [dc.replace(s, call=dc.replace(s.call, arguments={})) if s.call else s for s in self.steps]

    def _is_done(self, node: Node, call: Call) -> bool:
        """Whether the call copies an operand of a Concat that was computed in its place."""
        source = call.arguments.get("source")
        place = source.place if isinstance(source, Address) else source
        return isinstance(place, Node) and self.storage.inside.get(place, (None,))[0] is node

    def _place_constants(self) -> Arena:
        for step in self.steps:
            for value in step.call.arguments.values() if step.call else step.node.operands:
                self._place_constant(value)
        for node in self.graph.outputs:
            self._place_constant(node)
        return self.constants.copied()

    def _place_constant(self, value: Argument) -> None:
        """Store what an argument reads if it is known: a table, or a Constant with which it shares memory."""
        place = value.place if isinstance(value, Address) else value
        if isinstance(place, Node):
            place = self.storage.root(place)[0]
        if isinstance(place, Constant):
            self.storage.constants[place] = self.constants.add(to_physical(place.data, place.layout))
        elif isinstance(place, Table):
            self.constants.add(place.data)

    def _scratch_size(self, call: Call) -> int:
        places = [v.place if isinstance(v, Address) else v for v in call.arguments.values()]
        pieces = {place for place in places if isinstance(place, Scratch)}
        return sum(piece.nbytes * (1 if piece.shared else self.machine.threads) for piece in pieces)

    def _program(self) -> Program:
        calls = [s.call for s in self.steps if s.call]
        addresses = codegen.load([c.kernel for c in calls], self.machine.target)
        steps = [ProgramStep(addresses[c.kernel.symbol], self._args(c), c.units, min(c.grain, max(1, c.units))) for c in calls]
        return Program(steps, self.machine.threads)

    def _args(self, call: Call) -> list[int]:
        args: list[int] = []
        for name in call.kernel.signature:
            value = call.arguments[name.rstrip("*")]
            args += [int(value)] if isinstance(value, int | np.integer) else self._resolve(value)
        return args

    def _resolve(self, value: Node | Table | Scratch | Address) -> list[int]:
        place, offset = (value.place, value.offset) if isinstance(value, Address) else (value, 0)
        if isinstance(place, Scratch):
            return [SCRATCH, offset]
        at = Location(CONSTANTS, self.constants.add(place.data)) if isinstance(place, Table) else self.storage[place]
        return [at.base, at.offset + offset]

    # running

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """See engine.backend.Executable."""
        with _Run(self, inputs, out) as run:
            for segment in self.segments:
                run.do(segment)
            return run.finish()

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """See engine.backend.Executable."""
        times = np.median([self._timed(inputs) for _ in range(repeats + 2)][2:], axis=0)
        return list(zip(map(self.label, self.steps), times.tolist(), strict=True))

    def _timed(self, inputs: Sequence[np.ndarray]) -> list[float]:
        times = []
        with _Run(self, inputs, None) as run:
            for segment in self.segments:
                if isinstance(segment, range):
                    times += self.program.time_steps(run.bases, segment.start, segment.stop)
                else:
                    start = time.perf_counter()
                    run.do(segment)
                    times.append(time.perf_counter() - start)
        return times

    def items(self) -> list[tuple[Node, str]]:
        """See engine.backend.Itemized."""
        return [(step.node, step.family) for step in self.steps]

    def profile_alone(self, inputs: Sequence[np.ndarray], kinds: tuple[type[Node], ...], repeats: int = 10) -> list[float]:
        """See engine.backend.Itemized. Other steps run once in their turn, so that every step finds its operands in memory."""
        times, native = list[float](), [step.node for step in self.steps if step.call]
        with _Run(self, inputs, None) as run:
            for segment in self.segments:
                if isinstance(segment, range):
                    times += [self._time_alone(run, i, repeats if isinstance(native[i], kinds) else 0) for i in segment]
                else:
                    run.do(segment)
                    times.append(0.0)
        return times

    def _time_alone(self, run: _Run, index: int, repeats: int) -> float:
        run.do(range(index, index + 1))
        samples = [self.program.time_steps(run.bases, index, index + 1)[0] for _ in range(repeats)]
        return float(np.median(samples)) if samples else 0.0

    def take_context(self) -> tuple[Arena, Arena]:
        """An arena and scratch memory that no other run is using; without a lock, which a fork could leave taken forever."""
        try:
            return self._contexts.pop()
        except IndexError:
            return Arena(self.storage.arena_size), Arena(self.scratch_size)

    def give_back(self, context: tuple[Arena, Arena]) -> None:
        """The run is over."""
        self._contexts.append(context)

    # telling

    def label(self, step: Step) -> str:
        """How a step is named in tables: operator, kernel, names in the user's model."""
        origin = ", ".join(step.node.origin[:3]) + (", ..." if len(step.node.origin) > 3 else "")
        return f"{step.node.opname} [{step.family}] {origin}".rstrip()

    def describe(self) -> str:
        """The plan as text: steps, memory, and what falls back and why."""
        lines = [f"{i:4} {s.engine:6} {self.label(s)} : {', '.join(map(str, s.node.types))}" for i, s in enumerate(self.steps)]
        mib = 1 / 2**20
        counts = {e: sum(s.engine == e for s in self.steps) for e in ("vector", "numba", "numpy")}
        lines.append(
            ", ".join(f"{n} {e} steps" for e, n in counts.items()) + f"; {self.machine.threads} threads; {self.machine.target.name}"
        )
        lines.append(
            f"arena {self.storage.arena_size * mib:.2f} MiB (largest live set {self.storage.live_bound * mib:.2f}), "
            f"constants {self.known.nbytes * mib:.2f} MiB, scratch {self.scratch_size * mib:.2f} MiB"
        )
        return "\n".join([*lines, *self.fallbacks()])

    def fallbacks(self) -> list[str]:
        """One line for each node without a kernel, and why."""
        return [f"falls back to NumPy: {self.label(s)}: {s.reason}" for s in self.steps if s.call is None]


class _Run:
    """One execution: its memory, the addresses of everything, and values of nodes as arrays where Python needs them."""

    def __init__(self, executable: NativeExecutable, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None) -> None:
        self.executable, self.graph = executable, executable.graph
        self.inputs = [np.ascontiguousarray(a) for a in inputs]
        self.out = list(out) if out is not None else [np.empty(o.type.shape, o.type.dtype) for o in self.graph.outputs]

    def __enter__(self) -> _Run:
        self.context = self.executable.take_context()
        arena, scratch = self.context
        places = arena.address, self.executable.known.address, scratch.address
        self.bases = [*places, *(a.ctypes.data for a in (*self.inputs, *self.out))]
        return self

    def __exit__(self, *_: object) -> None:
        self.executable.give_back(self.context)

    def value(self, node: Node) -> np.ndarray:
        """The logical array of a value in memory; a view where its layout is plain."""
        return from_physical(self._physical(node), node.type.shape, node.type.layout)

    def _physical(self, node: Node, index: int = 0) -> np.ndarray:
        kind, at = node.types[index], self.executable.storage[node]
        offset = at.offset + result_offset(node, index)
        if at.base < FIRST_INPUT:
            arena = self.executable.known if at.base == CONSTANTS else self.context[0]
            return arena.view(offset, kind.dtype, kind.physical_shape)
        array = [*self.inputs, *self.out][at.base - FIRST_INPUT]
        return array.reshape(-1).view(np.uint8)[offset : offset + kind.nbytes].view(kind.dtype).reshape(kind.physical_shape)

    def do(self, segment: range | Node) -> None:
        """Some steps of the program, or a node by its NumPy meaning."""
        if isinstance(segment, range):
            self.executable.program.run_range(self.bases, segment.start, segment.stop)
        else:
            self._fall_back(segment)

    def _fall_back(self, node: Node) -> None:
        """Compute a node by its NumPy meaning."""
        results = evaluate_node(node, {operand: self.value(operand) for operand in node.operands})
        for index, result in enumerate(results if len(node.types) > 1 else (results,)):
            self._physical(node, index)[...] = to_physical(np.asarray(result), node.types[index].layout)

    def finish(self) -> list[np.ndarray]:
        """The outputs; those that lie elsewhere are copied."""
        for i in self.executable.storage.copied_outputs():
            self.out[i][...] = self.value(self.graph.outputs[i])
        return self.out
