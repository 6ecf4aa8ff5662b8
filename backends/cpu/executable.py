"""A graph as the cpu backend runs it: steps of native kernels in one program, interrupted where a node falls back to its NumPy meaning."""

from __future__ import annotations

import dataclasses as dc
import hashlib
import itertools
import threading
import time
from collections.abc import Sequence

import numpy as np

from ...engine.evaluate import evaluate_node
from ...engine.graph import Constant, Graph, Input, Node, Result
from ...engine.ops.layout import from_physical, to_physical
from . import codegen
from .arena import Arena
from .kernel import Address, Call, Machine, NoKernel, Scratch, Table, lower, result_offset
from .program import Program, ProgramStep
from .storage import CONSTANTS, FIRST_INPUT, SCRATCH, Location, Storage

ALIGNMENT = 64


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


class NativeExecutable:
    """A compiled graph. Callers that run at once each get an arena of their own."""

    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.graph, self.machine = graph, machine
        self.storage = Storage(graph)
        self.steps = self._steps()
        self.constants = Constants()
        self._place_constants()
        self.scratch_size = max((self._scratch_size(s.call) for s in self.steps if s.call), default=0)
        self.program = self._program()
        self._forget_originals()
        self._contexts: list[tuple[Arena, Arena]] = []
        self._lock = threading.Lock()

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

    def _forget_originals(self) -> None:
        """Packed weights and tables have been copied into the constants, and every address is in the program."""
        self.constants.forget()
        self.steps = [dc.replace(s, call=dc.replace(s.call, arguments={})) if s.call else s for s in self.steps]

    def _is_done(self, node: Node, call: Call) -> bool:
        """Whether the call copies an operand of a Concat that was computed in its place."""
        source = call.arguments.get("source")
        place = source.place if isinstance(source, Address) else source
        return isinstance(place, Node) and self.storage.inside.get(place, (None,))[0] is node

    def _place_constants(self) -> None:
        for step in self.steps:
            values = step.call.arguments.values() if step.call else step.node.operands
            for value in values:
                place = value.place if isinstance(value, Address) else value
                if isinstance(place, Node):
                    place = self.storage.root(place)[0]
                if isinstance(place, Constant):
                    self.storage.constants[place] = self.constants.add(to_physical(place.data, place.layout))
                elif isinstance(place, Table):
                    self.constants.add(place.data)
        self.constants.freeze()

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
            for is_native, group in itertools.groupby(enumerate(self.steps), lambda item: item[1].call is not None):
                members = list(group)
                if is_native:
                    first = self._native_before(members[0][0])
                    self.program.run_range(run.bases, first, first + len(members))
                else:
                    for _, step in members:
                        run.fall_back(step.node)
            return run.finish()

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        """See engine.backend.Executable."""
        times = np.median([self._timed(inputs) for _ in range(repeats + 2)][2:], axis=0)
        return list(zip(map(self.label, self.steps), times.tolist(), strict=True))

    def _timed(self, inputs: Sequence[np.ndarray]) -> list[float]:
        times = []
        with _Run(self, inputs, None) as run:
            if all(step.call for step in self.steps):
                return self.program.time_steps(run.bases)
            for position, step in enumerate(self.steps):
                start = time.perf_counter()
                first = self._native_before(position)
                self.program.run_range(run.bases, first, first + 1) if step.call else run.fall_back(step.node)
                times.append(time.perf_counter() - start)
        return times

    def _native_before(self, position: int) -> int:
        return sum(step.call is not None for step in self.steps[:position])

    def take_context(self) -> tuple[Arena, Arena]:
        """An arena and scratch memory that no other run is using."""
        with self._lock:
            if self._contexts:
                return self._contexts.pop()
        return Arena(max(ALIGNMENT, self.storage.arena_size)), Arena(max(ALIGNMENT, self.scratch_size))

    def give_back(self, context: tuple[Arena, Arena]) -> None:
        """The run is over."""
        with self._lock:
            self._contexts.append(context)

    # telling

    def label(self, step: Step) -> str:
        """How a step is named in tables: operator, kernel, names in the user's model."""
        kernel = step.call.kernel.symbol.partition("_")[0] if step.call else "numpy"
        origin = ", ".join(step.node.origin[:3]) + (", ..." if len(step.node.origin) > 3 else "")
        return f"{step.node.opname} [{kernel}] {origin}".rstrip()

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
            f"constants {self.constants.size * mib:.2f} MiB, scratch {self.scratch_size * mib:.2f} MiB"
        )
        return "\n".join([*lines, *self.fallbacks()])

    def fallbacks(self) -> list[str]:
        """One line for each node without a kernel, and why."""
        return [f"falls back to NumPy: {self.label(s)}: {s.reason}" for s in self.steps if s.call is None]


class Constants:
    """Constant data of a plan in one block of memory; equal bytes are stored once."""

    def __init__(self) -> None:
        self._offsets: dict[tuple[int, bytes], int] = {}
        self._known: dict[int, tuple[np.ndarray, int]] = {}
        """By identity, with the array, which keeps its identity from being used again."""
        self.size = 0
        self.arena: Arena | None = None

    def add(self, data: np.ndarray) -> int:
        """The offset of the data, which must be C-contiguous; it is stored on first sight."""
        if id(data) not in self._known:
            key = data.nbytes, hashlib.blake2b(data.reshape(-1).view(np.uint8).data).digest()
            if key not in self._offsets:
                self._offsets[key] = self.size
                self.size += -(-data.nbytes // ALIGNMENT) * ALIGNMENT
            self._known[id(data)] = data, self._offsets[key]
        return self._known[id(data)][1]

    def freeze(self) -> None:
        """Copy everything into memory that kernels can read."""
        self.arena = Arena(max(ALIGNMENT, self.size))
        for data, offset in self._known.values():
            self.arena.view(offset, data.dtype, data.shape)[...] = data

    def forget(self) -> None:
        """Drop the originals; all offsets are known."""
        self._known.clear()


class _Run:
    """One execution: its memory, the addresses of everything, and values of nodes as arrays where Python needs them."""

    def __init__(self, executable: NativeExecutable, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None) -> None:
        self.executable, self.graph = executable, executable.graph
        self.inputs = [np.ascontiguousarray(a) for a in inputs]
        self.out = list(out) if out is not None else [np.empty(o.type.shape, o.type.dtype) for o in self.graph.outputs]

    def __enter__(self) -> _Run:
        self.context = self.executable.take_context()
        arena, scratch = self.context
        constants = self.executable.constants.arena
        assert constants is not None
        arrays = [*self.inputs, *self.out]
        self.bases = [arena.address, constants.address, scratch.address, *(a.ctypes.data for a in arrays)]
        return self

    def __exit__(self, *_: object) -> None:
        self.executable.give_back(self.context)

    def value(self, node: Node, index: int = 0) -> np.ndarray:
        """The logical array of a value in memory; a view where its layout is plain."""
        kind = node.types[index]
        if isinstance(node, Constant):
            return node.data
        at = self.executable.storage[node]
        offset = at.offset + result_offset(node, index)
        physical = self._array(at.base, offset, kind.dtype, kind.physical_shape)
        return from_physical(physical, kind.shape, kind.layout)

    def _array(self, base: int, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        if base < FIRST_INPUT:
            return self.context[0].view(offset, dtype, shape)
        array = [*self.inputs, *self.out][base - FIRST_INPUT]
        flat = array.reshape(-1).view(np.uint8)[offset : offset + int(np.prod(shape)) * dtype.itemsize]
        return flat.view(dtype).reshape(shape)

    def fall_back(self, node: Node) -> None:
        """Compute a node by its NumPy meaning."""
        operands = {o: self.value(o) if len(o.types) == 1 else tuple(self.value(o, i) for i in range(len(o.types))) for o in node.operands}
        results = evaluate_node(node, operands)
        for index, result in enumerate(results if len(node.types) > 1 else (results,)):
            kind = node.types[index]
            at = self.executable.storage[node]
            target = self._array(at.base, at.offset + result_offset(node, index), kind.dtype, kind.physical_shape)
            target[...] = to_physical(np.asarray(result), kind.layout)

    def finish(self) -> list[np.ndarray]:
        """The outputs; those that lie elsewhere are copied."""
        for i in self.executable.storage.copied_outputs():
            self.out[i][...] = self.value(self.graph.outputs[i])
        return self.out
