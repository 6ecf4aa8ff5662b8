"""A graph as steps: which kernels compute it, and where in memory each of their pointers leads. It needs no GPU."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence

from ...engine.errors import UnsupportedError
from ...engine.graph import Constant, Graph, Input, Node, Result
from ...engine.ops.layout import to_physical
from ..common.location import CONSTANTS, SCRATCH, Location
from ..common.storage import Storage
from .concat_parts import with_parts
from .constants import Constants
from .kernel import Address, Argument, Call, Kernel, Machine, NoKernel, Scratch, Table, lower

ALIGNMENT = 16
"""Every value starts at a multiple of it, so that kernels move 16 bytes at a time."""
ROOM = 256
"""Pieces of scratch memory start at multiples of it."""
LARGE = 1024
"""Bytes of a constant that is not kept for being printed."""


@dc.dataclass(frozen=True)
class Step:
    """One line of the plan: a kernel, and where each of its pointers leads."""

    node: Node
    kernel: Kernel
    places: tuple[Location, ...]

    @property
    def label(self) -> str:
        """How a step is named in tables."""
        return label(self.node, self.kernel)


def label(node: Node, kernel: Kernel) -> str:
    """Operator, kernel, names in the user's model."""
    origin = ", ".join(node.origin[:3]) + (", ..." if len(node.origin) > 3 else "")
    return f"{node.opname} [{kernel.family}] {origin}".rstrip()


def described(steps: Sequence[tuple[Node, Kernel]], storage: Storage, where: str) -> str:
    """Steps and the memory of their values as text; the last line may go on."""
    lines, mib = [], 1 / 2**20
    for i, (node, kernel) in enumerate(steps):
        size = f"{'x'.join(map(str, kernel.grid))} blocks of {kernel.threads} threads, {kernel.shared} B shared"
        lines.append(f"{i:4} {label(node, kernel)} : {', '.join(map(str, node.types))}; {size}")
    lines.append(f"{len(steps)} steps, {len({kernel for _, kernel in steps})} kernels; {where}")
    return "\n".join([*lines, f"arena {storage.arena_size * mib:.2f} MiB (largest live set {storage.live_bound * mib:.2f})"])


class Plan:
    """The steps of a graph, the memory that they need, and the constants that they read."""

    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.storage, calls = arranged(graph, machine)
        self.graph = graph = self.storage.graph
        self.constants = Constants()
        self.zeros = max((_room(call, zero=True) for _, call in calls), default=0)
        self.scratch = max((_room(call, zero=False) for _, call in calls), default=0)
        self.steps = [Step(node, call.kernel, self._places(call)) for node, call in calls]
        self.outputs = tuple((o.type, self._location(o)) for o in graph.outputs)
        assert all(kind.layout is None for kind, _ in self.outputs), "outputs are plain"

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

    def give_up(self) -> None:
        """Let the weights of the graph go, which is the plan's own; their types stay, and small ones, which are printed."""
        for node in self.graph:
            if isinstance(node, Constant) and node.type.nbytes >= LARGE:
                node.give_up()


def arranged(graph: Graph, machine: Machine) -> tuple[Storage, list[tuple[Node, Call]]]:
    """Where every value lives, and the kernel calls that compute them there. Raises UnsupportedError as `lowered` does."""
    graph, parts = with_parts(graph)
    storage = Storage(graph, ALIGNMENT, parts)
    return storage, lowered(storage, machine)


def lowered(storage: Storage, machine: Machine) -> list[tuple[Node, Call]]:
    """The kernel calls of every node, in order. Raises UnsupportedError with all nodes that have none."""
    calls, missing = list[tuple[Node, Call]](), list[str]()
    for node in storage.graph:
        if isinstance(node, Input | Constant | Result) or storage.is_view(node):
            continue
        try:
            calls += [(node, call) for call in lower(node, machine) if not _is_done(node, call, storage)]
        except NoKernel as reason:
            named = f" ({', '.join(node.origin)})" if node.origin else ""
            missing.append(f"{node.opname}{named} : {', '.join(map(str, node.types))}: {reason}")
    if missing:
        raise UnsupportedError(_no_kernels(missing))
    return calls


def _is_done(node: Node, call: Call, storage: Storage) -> bool:
    """Whether the call copies an operand of a Concat that was computed in its place."""
    source = call.arguments.get("source")
    place = source.place if isinstance(source, Address) else source
    return isinstance(place, Node) and storage.inside.get(place, (None,))[0] is node


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
