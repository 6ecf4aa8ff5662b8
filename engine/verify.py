"""The rules of a legal graph, checked between passes."""

from __future__ import annotations

from .errors import CompilerBug
from .graph import Graph, Input, Node, Result


def verify(graph: Graph, after: str = "construction") -> Graph:
    """The graph itself if it is legal; CompilerBug naming the first broken rule and what ran last otherwise.

    Operands are typed on construction, so what is left to check is the signature and that several-result nodes are read
    through Result only, which types cannot say.
    """
    problems = (problem for node in graph if (problem := _problem(node, graph)))
    if problem := next(problems, None) or _unread_results(graph):
        raise CompilerBug(f"illegal graph after {after}: {problem}\n{graph}")
    if len(graph.output_names) != len(graph.outputs) or len(set(graph.output_names)) != len(graph.output_names):
        raise CompilerBug(f"illegal graph after {after}: {len(graph.outputs)} outputs are named {graph.output_names}")
    names = [n.name for n in graph.inputs]
    if len(set(names)) != len(names):
        raise CompilerBug(f"illegal graph after {after}: inputs are named {names}")
    return graph


def verify_signature(before: Graph, after: Graph, name: str) -> Graph:
    """`after` if a pass kept what the caller sees: inputs, output names, output types; CompilerBug otherwise."""
    kept = before.inputs == after.inputs and before.output_names == after.output_names
    if not kept:
        raise CompilerBug(f"pass {name} changed the signature of the graph\nbefore: {before.inputs} -> {before.output_names}\n{after}")
    for label, old, new in zip(before.output_names, before.outputs, after.outputs, strict=True):
        if old.types != new.types:
            raise CompilerBug(f"pass {name} changed output {label} from {old!r} to {new!r}")
    return after


def _unread_results(graph: Graph) -> str | None:
    several = [name for name, node in zip(graph.output_names, graph.outputs, strict=False) if len(node.types) != 1]
    return f"output {', '.join(several)} is a node with several results without Result" if several else None


def _problem(node: Node, graph: Graph) -> str | None:
    if isinstance(node, Input) and node not in graph.inputs:
        return f"input {node.name} is read but is not in the signature"
    if not isinstance(node, Result) and any(len(o.types) != 1 for o in node.operands):
        return f"{node!r} reads a node with several results without Result"
    inferred = node.infer()
    again = inferred if isinstance(inferred, tuple) else (inferred,)
    same = [(t.dtype, t.shape) for t in node.types] == [(t.dtype, t.shape) for t in again]
    return None if same else f"{node!r} has another type than its rule gives: {', '.join(map(str, again))}"
