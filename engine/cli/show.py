"""Show a model's graph before and after the passes, what it costs, and how a backend runs it."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

from ..compiler import compile, load_source, optimize, resolve_passes
from ..errors import ModelError
from ..graph import Constant, Graph, Input, Node
from ..profiling import moved_bytes
from ..rewrite import Pass, Report
from ..source import NeedsValues, Source, specialize
from . import console
from .arguments import add_compilation, add_inputs, add_model, make_backend, shapes
from .inputs import gather, require_shapes, wants_inputs
from .model import model_of
from .opening import add_verification, opened


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright show`."""
    add_model(parser)
    parser.add_argument("--stop-after", metavar="PASS", help="run the passes up to this one")
    parser.add_argument("--explain", action="store_true", help="print what every pass did, and why rules declined where they looked")
    add_verification(parser)
    add_compilation(parser)
    add_inputs(parser)


def main(arguments: argparse.Namespace) -> int:
    """0 when everything could be shown."""
    if session := opened(arguments):
        console.heading("the plan of a compiled model")
        console.print_text(session.plan)
        if arguments.explain:
            console.print_text(session.explain())
        return 0
    backend = make_backend(arguments, arguments.threads)  # before anything is printed: where there is none, that is all there is to say
    graph = imported(load_source(model_of(arguments)), arguments)
    chain = chosen_passes(arguments)
    report = Report()
    optimized = optimize(graph, chain, report)
    for title, stage in (("imported", graph), (f"after {len(chain)} pass{'' if len(chain) == 1 else 'es'}", optimized)):
        console.heading(f"{title}: {_counts(stage)}")
        console.print_text(str(stage))
    console.heading("costs after the passes")
    console.table(["operator", "nodes", "flops", "bytes read and written", "parameters"], costs(optimized))
    if arguments.explain:
        console.heading("what the passes did and declined")
        console.print_text(str(report))
    console.heading(f"plan of the {arguments.backend} backend")
    console.print_text(compile(optimized, backend=backend, passes=[]).plan)
    return 0


def imported(source: Source, arguments: argparse.Namespace) -> Graph:
    """The graph before any pass, for the shapes or the data that the command line gives."""
    if wants_inputs(arguments):
        return specialize(source, gather(source, arguments))
    try:
        return source.graph(require_shapes(source, shapes(arguments)), {})
    except NeedsValues as question:
        raise ModelError(f"{question}; give their data, see --input") from None


def chosen_passes(arguments: argparse.Namespace) -> Sequence[Pass]:
    """--passes, cut after --stop-after."""
    chain = resolve_passes(arguments.passes)
    if arguments.stop_after is None:
        return chain
    names = [item.__name__ for item in chain]
    if arguments.stop_after not in names:
        raise ModelError(f"--stop-after: expected one of {', '.join(names)}, got {arguments.stop_after!r}")
    return chain[: names.index(arguments.stop_after) + 1]


def costs(graph: Graph) -> list[list[str]]:
    """One row an operator and their sum: nodes, flops, bytes read and written, parameters (a shared weight counts once)."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    counted: set[Node] = set()
    for node in graph:
        if isinstance(node, Input | Constant):
            continue
        weights = {o for o in node.operands if isinstance(o, Constant)} - counted
        counted |= weights
        moved = moved_bytes(node)
        for key in (node.opname, "total"):
            for i, amount in enumerate((1, node.flops(), moved, sum(w.type.size for w in weights))):
                totals[key][i] += amount
    total = totals.pop("total", [0, 0, 0, 0])
    ordered = sorted(totals.items(), key=lambda item: (-item[1][1], -item[1][2], item[0]))
    return [[name, *_cost_cells(*amounts)] for name, amounts in [*ordered, ("total", total)]]


def _cost_cells(nodes: int, flops: int, moved: int, parameters: int) -> list[str]:
    return [str(nodes), console.quantity(flops, "FLOP"), console.quantity(moved, "B"), f"{parameters:,}"]


def _counts(graph: Graph) -> str:
    nodes = sum(not isinstance(n, Input | Constant) for n in graph)
    return f"{nodes} nodes, {console.quantity(graph.flops(), 'FLOP')}"
