"""Which physical layout every value gets, and the Reorder nodes between those that disagree: what is the same for every backend."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable

from ...engine.graph import Constant, Graph, Node
from ...engine.ops import Reorder
from ...engine.tensor import Blocked

Layout = Blocked | None


@dc.dataclass(frozen=True)
class Answer:
    """The layouts in which a node takes its operands, in order, and the one of its result."""

    operands: tuple[Layout, ...]
    result: Layout


def assign(graph: Graph, answer: Callable[[Node, tuple[Layout, ...]], Answer]) -> Graph:
    """The graph with the layout of every node decided, operands before users, and Reorder nodes where a user wants another one.

    `answer` is given a node as it was and the layouts that its operands have now. The graph's Constants are its own, so that
    their data can be given up.
    """
    placed: dict[Node, Node] = {}
    versions: dict[tuple[Node, Layout], Node] = {}

    def version(old: Node, layout: Layout) -> Node:
        new = placed[old]
        if len(new.types) != 1 or new.type.layout == layout:
            return new
        if (old, layout) not in versions:
            versions[old, layout] = (
                new.replace(layout=layout) if isinstance(new, Constant) else Reorder(new, layout=layout, origin=new.origin)
            )
        return versions[old, layout]

    for input_node in graph.inputs:
        placed[input_node] = input_node
    for old in graph:
        if old in placed:
            continue
        if isinstance(old, Constant):
            placed[old] = old.replace()
            continue
        decided = answer(old, tuple(placed[o].types[0].layout for o in old.operands))
        wanted = iter(decided.operands)
        node = _map_in_order(old, lambda o, wanted=wanted: version(o, next(wanted)))
        placed[old] = node.replace(layout=decided.result) if decided.result else node
    return graph.with_outputs([version(o, None) for o in graph.outputs])


def _map_in_order(node: Node, change: Callable[[Node], Node]) -> Node:
    changes = {}
    for name in node.operand_names:
        value = getattr(node, name)
        if value is not None:
            changes[name] = tuple(map(change, value)) if isinstance(value, tuple) else change(value)
    return node.replace(**changes) if changes else node


def aligned_layout(operand: Node, result: Node, layout: Blocked) -> Layout:
    """What a broadcast operand of a result in this layout has: the same where it has the whole blocked axis, else none."""
    axis = layout.axis - (result.type.rank - operand.type.rank)
    return Blocked(axis, layout.block) if axis >= 0 and operand.type.shape[axis] == result.type.shape[layout.axis] else None
