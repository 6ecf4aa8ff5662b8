"""A graph as the cpu backend runs it: steps of native kernels in one program, interrupted where a node falls back to its NumPy meaning."""

from __future__ import annotations

import dataclasses as dc
import itertools
import time
from collections.abc import Sequence

import numpy as np

from ...engine.backend import Stored
from ...engine.evaluate import evaluate_node
from ...engine.graph import Constant, Graph, Input, Node, Result
from ...engine.ops.layout import to_physical
from ..common.location import CONSTANTS, SCRATCH, Location
from ..common.storage import Storage, result_offset
from . import codegen
from .constants import Constants
from .kernel import Address, Call, Machine, NoKernel, Scratch, Table, lower
from .program import Program, ProgramStep
from .running import Frame, Run, Runner, logical
from .weights import Weights


@dc.dataclass(frozen=True)
class Step:
    """One line of the plan: a kernel call, or a node that falls back (call is None) and why."""

    node: Node
    call: Call | None
    reason: str = ""
    args: tuple[int, ...] = ()
    """What the kernel is called with: every argument of the call resolved."""
    places: tuple[tuple[int, int], ...] = ()
    """Which of `args` are offsets in the constants, and the place of the constant from which each counts."""

    @property
    def engine(self) -> str:
        """ "vector", "numba" or "numpy"."""
        return self.call.kernel.engine if self.call else "numpy"

    @property
    def family(self) -> str:
        """Which kind of kernel it is."""
        return self.call.kernel.symbol.partition("_")[0] if self.call else "numpy"

    @property
    def grain(self) -> int:
        """Units to hand out at a time."""
        return min(self.call.grain, max(1, self.call.units)) if self.call else 1

    @property
    def label(self) -> str:
        """How a step is named in tables: operator, kernel, names in the user's model."""
        origin = ", ".join(self.node.origin[:3]) + (", ..." if len(self.node.origin) > 3 else "")
        return f"{self.node.opname} [{self.family}] {origin}".rstrip()


class NativeExecutable:
    """A compiled graph. With `gives_up`, the data of its large Constants goes as soon as it is packed."""

    def __init__(self, graph: Graph, machine: Machine, gives_up: bool = False) -> None:
        self.graph, self.machine, self._gives_up = graph, machine, gives_up
        self.storage = Storage(graph)
        self.known = Constants()
        self.scratch_size = 0
        self.steps = self._steps()
        self.segments = self._segments()
        copied = tuple((i, graph.outputs[i].type, self._location(graph.outputs[i])) for i in self.storage.copied_outputs())
        frame = Frame(tuple(o.type for o in graph.outputs), copied, self.storage.arena_size, self.scratch_size)
        self.program = self._program()
        self.runner = Runner(frame, self.program, self.known)

    def _steps(self) -> list[Step]:
        """The steps in the order of the nodes. They are made in the order of their weights' size, so that the largest never meet."""
        nodes = [n for n in self.graph if not isinstance(n, Input | Constant | Result) and not self.storage.is_view(n)]
        weights = Weights(nodes, self.graph.outputs, self.storage)
        made: dict[Node, list[Step]] = {}
        for node in sorted(nodes, key=weights.size, reverse=True):
            made[node] = self._lowered(node)
            self.known.forget_tables()
            if self._gives_up:
                weights.give_up(node)
        return [step for node in nodes for step in made[node]]

    def _lowered(self, node: Node) -> list[Step]:
        try:
            calls = [call for call in lower(node, self.machine) if not self._is_done(node, call)]
        except NoKernel as reason:
            for operand in node.operands:
                self._location(operand)
            return [Step(node, None, str(reason))]
        self.scratch_size = max([self.scratch_size, *map(self._scratch_size, calls)])
        return [Step(node, dc.replace(call, arguments={}), "", *self._args(call)) for call in calls]

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

    def _is_done(self, node: Node, call: Call) -> bool:
        """Whether the call copies an operand of a Concat that was computed in its place."""
        source = call.arguments.get("source")
        place = source.place if isinstance(source, Address) else source
        return isinstance(place, Node) and self.storage.inside.get(place, (None,))[0] is node

    def _scratch_size(self, call: Call) -> int:
        places = [v.place if isinstance(v, Address) else v for v in call.arguments.values()]
        pieces = {place for place in places if isinstance(place, Scratch)}
        return sum(piece.nbytes * (1 if piece.shared else self.machine.threads) for piece in pieces)

    def _args(self, call: Call) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """See Step.args and Step.places."""
        args, places = list[int](), list[tuple[int, int]]()
        for name in call.kernel.signature:
            value = call.arguments[name.rstrip("*")]
            if isinstance(value, int | np.integer):
                args.append(int(value))
                continue
            inner, offset = (value.place, value.offset) if isinstance(value, Address) else (value, 0)
            at = self._resolve(inner)
            if at.base == CONSTANTS:
                places.append((len(args) + 1, at.offset))
            args += [at.base, at.offset + offset]
        return tuple(args), tuple(places)

    def _resolve(self, place: Node | Table | Scratch) -> Location:
        if isinstance(place, Scratch):
            return Location(SCRATCH, 0)
        return Location(CONSTANTS, self.known.add(place)) if isinstance(place, Table) else self._location(place)

    def _location(self, node: Node) -> Location:
        """Where a value is; the Constant that it is or lies in is stored on first sight."""
        root = self.storage.root(node)[0]
        if isinstance(root, Constant) and root not in self.storage.constants:
            self.storage.constants[root] = self.known.add(Table(to_physical(root.data, root.layout)))
        return self.storage[node]

    def _program(self) -> Program:
        calls = [(step.call, step) for step in self.steps if step.call]
        addresses = codegen.load([call.kernel for call, _ in calls], self.machine.target)
        steps = [ProgramStep(addresses[call.kernel.symbol], step.args, call.units, step.grain) for call, step in calls]
        return Program(steps, self.machine.threads)

    # running

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """See engine.backend.Executable."""
        with Run(self.runner, inputs, out) as run:
            for segment in self.segments:
                self._do(run, segment)
            return run.finish()

    def _do(self, run: Run, segment: range | Node) -> None:
        if isinstance(segment, range):
            run.steps(segment.start, segment.stop)
        else:
            self._fall_back(run, segment)

    def _fall_back(self, run: Run, node: Node) -> None:
        """Compute a node by its NumPy meaning."""
        values = {o: logical(run.physical(o.type, self.storage[o]), o.type) for o in node.operands}
        results, at = evaluate_node(node, values), self.storage[node]
        for index, result in enumerate(results if len(node.types) > 1 else (results,)):
            kind, place = node.types[index], Location(at.base, at.offset + result_offset(node, index))
            run.physical(kind, place)[...] = to_physical(np.asarray(result), kind.layout)

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """See engine.backend.Executable."""
        times = np.median([self._timed(inputs) for _ in range(repeats + 2)][2:], axis=0)
        return list(zip((step.label for step in self.steps), times.tolist(), strict=True))

    def _timed(self, inputs: Sequence[np.ndarray]) -> list[float]:
        times = []
        with Run(self.runner, inputs, None) as run:
            for segment in self.segments:
                if isinstance(segment, range):
                    times += self.program.time_steps(run.bases, segment.start, segment.stop)
                else:
                    start = time.perf_counter()
                    self._do(run, segment)
                    times.append(time.perf_counter() - start)
        return times

    def items(self) -> list[tuple[Node, str]]:
        """See engine.backend.Itemized."""
        return [(step.node, step.family) for step in self.steps]

    def profile_alone(self, inputs: Sequence[np.ndarray], kinds: tuple[type[Node], ...], repeats: int = 10) -> list[float]:
        """See engine.backend.Itemized. Other steps run once in their turn, so that every step finds its operands in memory."""
        times, native = list[float](), [step.node for step in self.steps if step.call]
        with Run(self.runner, inputs, None) as run:
            for segment in self.segments:
                if isinstance(segment, range):
                    times += [self._time_alone(run, i, repeats if isinstance(native[i], kinds) else 0) for i in segment]
                else:
                    self._do(run, segment)
                    times.append(0.0)
        return times

    def _time_alone(self, run: Run, index: int, repeats: int) -> float:
        run.steps(index, index + 1)
        samples = [self.program.time_steps(run.bases, index, index + 1)[0] for _ in range(repeats)]
        return float(np.median(samples)) if samples else 0.0

    def stored(self) -> Stored:
        """See engine.backend.Storable."""
        from .storing import store

        return store(self)

    # telling

    def describe(self) -> str:
        """The plan as text: steps, memory, and what falls back and why."""
        lines = [f"{i:4} {s.engine:6} {s.label} : {', '.join(map(str, s.node.types))}" for i, s in enumerate(self.steps)]
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
        return [f"falls back to NumPy: {s.label}: {s.reason}" for s in self.steps if s.call is None]
