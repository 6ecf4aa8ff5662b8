"""Runs passes: local rules everywhere until nothing changes, and keeps why a rule looked and declined."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses as dc
import inspect
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .debug import dump
from .errors import CompilerBug
from .graph import Graph, Input, Node, Uses
from .verify import verify, verify_signature

Rule = Callable[[Node, Uses], Node | None]
"""A local rule: the replacement of a node, or None (perhaps after `skip(reason)`)."""
GraphPass = Callable[[Graph], Graph]
Pass = Rule | GraphPass

MAX_SWEEPS = 32


@dc.dataclass(frozen=True)
class Declined:
    """A rule that looked at a node and left it alone, and why."""

    rule: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.node}: {self.reason}"


@dc.dataclass
class Report:
    """What the passes did: rewrites and seconds of each, and the ledger of what they declined."""

    rewrites: dict[str, int] = dc.field(default_factory=dict)
    seconds: dict[str, float] = dc.field(default_factory=dict)
    declined: list[Declined] = dc.field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{name}: {count} rewrites, {self.seconds[name] * 1e3:.1f} ms" for name, count in self.rewrites.items()]
        return "\n".join([*lines, *map(str, dict.fromkeys(self.declined))])


@dc.dataclass
class _Question:
    """What a pass is looking at just now, and where its reasons go."""

    rule: str
    about: Node | Graph
    ledger: list[Declined]


_asking: contextvars.ContextVar[_Question | None] = contextvars.ContextVar("asking", default=None)


def skip(reason: str) -> None:
    """Say why the running rule leaves its node alone, or the running pass a part of its graph: `return skip("conv has 2 users")`."""
    if question := _asking.get():
        about = question.about
        label = f"graph {about.name}" if isinstance(about, Graph) else ", ".join(about.origin) or repr(about)
        question.ledger.append(Declined(question.rule, label, reason))


@contextlib.contextmanager
def _ask_about(graph: Graph, rule: str, report: Report) -> Iterator[_Question]:
    """What `skip` says in the block goes into this report."""
    question = _Question(rule, graph, report.declined)
    token = _asking.set(question)
    try:
        yield question
    finally:
        _asking.reset(token)


def run_passes(graph: Graph, passes: Sequence[Pass], report: Report | None = None) -> Graph:
    """The graph after all passes in order, verified after each that changed it."""
    report = report if report is not None else Report()
    for position, item in enumerate(passes, start=1):
        name, before, start = item.__name__, graph, time.perf_counter()
        graph = _run(graph, item, report)
        report.seconds[name] = report.seconds.get(name, 0.0) + time.perf_counter() - start
        if graph is not before:
            verify_signature(before, verify(graph, after=name), name)
            dump(graph, f"{position:02}_{name}")
    return graph


def _run(graph: Graph, item: Pass, report: Report) -> Graph:
    if len(inspect.signature(item).parameters) == 1:
        with _ask_about(graph, item.__name__, report):
            changed: Graph = item(graph)  # type: ignore[call-arg, assignment]
        report.rewrites[item.__name__] = report.rewrites.get(item.__name__, 0) + (changed is not graph)
        return changed
    return rewrite(graph, item, report)  # type: ignore[arg-type]


def rewrite(graph: Graph, rule: Rule, report: Report | None = None) -> Graph:
    """Apply one local rule everywhere, operands before users, sweep after sweep until a sweep changes nothing."""
    report = report if report is not None else Report()
    report.rewrites.setdefault(rule.__name__, 0)
    for _ in range(MAX_SWEEPS):
        before = len(report.declined)
        swept, count = _Sweep(graph, rule, report).run()
        report.rewrites[rule.__name__] += count
        if not count:
            return graph
        del report.declined[before:]  # said again by the last sweep where it still holds
        graph = swept
    raise CompilerBug(f"pass {rule.__name__} still changes the graph after {MAX_SWEEPS} sweeps; do two of its rewrites undo each other?")


class _Sweep:
    """One bottom-up application of a rule, with the use counts kept exact while nodes come and go.

    `uses` always counts the graph as it stands: readers that the sweep has not reached yet count as readers of what their
    operands have become. `counted` holds the nodes whose own reads are in it.
    """

    def __init__(self, graph: Graph, rule: Rule, report: Report) -> None:
        self.graph, self.rule, self.report = graph, rule, report
        self.uses, self.counted = graph.uses, set(graph.nodes)

    def run(self) -> tuple[Graph, int]:
        new: dict[Node, Node] = {}
        count = 0
        with _ask_about(self.graph, self.rule.__name__, self.report) as question:
            for old in self.graph:
                question.about = node = old.map_operands(new.__getitem__)
                self._rename(old, node)
                made = None if isinstance(node, Input) else self.rule(node, self.uses)
                if made is None or made is node:
                    new[old] = node
                else:
                    new[old] = self._replace(node, made)
                    count += 1
        return self.graph.with_outputs([new[o] for o in self.graph.outputs]), count

    def _rename(self, old: Node, node: Node) -> None:
        """`node` is `old` over what its operands have become: the same reads, by the same readers."""
        if node is not old:
            self.uses[node] = self.uses.pop(old)
            self.counted.add(node)

    def _replace(self, node: Node, made: Node) -> Node:
        """What the readers of `node` read from now on: `made`, under the names of `node` if it is new and has none."""
        if _meaning(made) != _meaning(node):
            raise CompilerBug(f"pass {self.rule.__name__} replaced {node!r} by {made!r}; expected the same dtypes and shapes")
        if made not in self.counted and not made.origin and not isinstance(made, Input):
            made = made.replace(origin=node.origin)
        readers = self.uses[node]
        self._count(made)
        self.uses[made] += readers
        self.uses[node] -= readers
        if self.uses[node] == 0:
            self._forget(node)
        return made

    def _count(self, made: Node) -> None:
        """The new nodes start to read their operands."""
        stack = [made]
        while stack:
            node = stack.pop()
            if node not in self.counted:
                self.counted.add(node)
                self.uses.update(node.operands)
                stack.extend(node.operands)

    def _forget(self, unread: Node) -> None:
        """Nobody reads this node any more: neither does it read its operands."""
        stack = [unread]
        while stack:
            node = stack.pop()
            self.counted.discard(node)
            for operand in node.operands:
                self.uses[operand] -= 1
                if self.uses[operand] == 0:
                    stack.append(operand)


def _meaning(node: Node) -> list[tuple[np.dtype, tuple[int, ...]]]:
    """What a replacement must keep; the physical layout is the backend's business."""
    return [(t.dtype, t.shape) for t in node.types]


def merged_origin(*nodes: Node) -> tuple[str, ...]:
    """The names of all the nodes that a fused node stands for, in order, each once."""
    return tuple(dict.fromkeys(name for node in nodes for name in node.origin))


def only_reader(node: Node, uses: Uses) -> bool:
    """Whether the node has one reader; says so in the ledger when it has more."""
    if uses[node] > 1:
        skip(f"{node.opname} has {uses[node]} readers")
    return uses[node] == 1
