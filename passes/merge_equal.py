"""f(x), ..., f(x)  =>  one f(x) with all their readers, for any operator; constants are equal when dtype, shape and bytes are"""

from __future__ import annotations

import dataclasses as dc
from typing import Any

from ..engine.graph import Constant, Graph, Input, Node
from ..engine.rewrite import merged_origin


def merge_equal(graph: Graph) -> Graph:
    leaders: dict[Any, Node] = {}
    leader_of: dict[Node, Node] = {}
    for node in graph:
        leader_of[node] = leaders.setdefault(_key(node, leader_of), node)
    if len(leaders) == len(leader_of):
        return graph
    return _merged(graph, leader_of)


def _key(node: Node, leader_of: dict[Node, Node]) -> Any:
    """Equal for nodes that compute the same. Attributes go by their text, which tells 1 from 1.0 and 0.0 from -0.0."""
    if isinstance(node, Input):
        return node
    if isinstance(node, Constant):
        return _Value(node)
    operands = tuple(_leaders(getattr(node, name), leader_of) for name in node.operand_names)
    return type(node), node.layout, operands, tuple(repr(getattr(node, f.name)) for f in node.attributes)


class _Value:
    """A constant as a key: hashed by a few of its elements, equal by all bytes."""

    def __init__(self, constant: Constant) -> None:
        self.type, self.data = constant.type, constant.data

    def __hash__(self) -> int:
        return hash((self.type, self.data.flat[:: max(1, self.data.size // 16)].tobytes()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and self.type == other.type and self.data.tobytes() == other.data.tobytes()


def _leaders(operand: Any, leader_of: dict[Node, Node]) -> Any:
    if isinstance(operand, tuple):
        return tuple(leader_of[o] for o in operand)
    return None if operand is None else leader_of[operand]


def _merged(graph: Graph, leader_of: dict[Node, Node]) -> Graph:
    origins: dict[Node, list[Node]] = {}
    for node, leader in leader_of.items():
        origins.setdefault(leader, []).append(node)
    new: dict[Node, Node] = {}
    for node, leader in leader_of.items():
        if node is leader:
            made = node.map_operands(new.__getitem__)
            origin = merged_origin(*origins[node])
            new[node] = made if origin == made.origin else made.replace(origin=origin)
        else:
            new[node] = new[leader]
    return dc.replace(graph, outputs=tuple(new[o] for o in graph.outputs))
