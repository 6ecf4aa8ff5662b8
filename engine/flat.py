"""Graph ↔ a flat list of records: how graphs are pickled and copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .graph import Graph, Input, Node

Record = tuple[type[Node], dict[str, Any], dict[str, Any]]
"""Operator, operands as numbers of earlier records, attributes."""


def flatten(graph: Graph) -> tuple[Callable[..., Graph], tuple[Any, ...]]:
    """What `Graph.__reduce__` answers: a function and the arguments with which it makes the graph again."""
    order = list(dict.fromkeys((*graph.inputs, *graph.nodes)))
    number = {node: i for i, node in enumerate(order)}
    records = [(type(n), {f: _to_numbers(getattr(n, f), number) for f in n.operand_names}, _attributes(n)) for n in order]
    ends = [number[n] for n in graph.inputs], [number[n] for n in graph.outputs]
    return rebuild, (records, *ends, graph.output_names, graph.name)


def rebuild(records: list[Record], inputs: list[int], outputs: list[int], output_names: tuple[str, ...], name: str) -> Graph:
    """The graph of these records."""
    nodes: list[Node] = []
    for kind, operands, attributes in records:
        nodes.append(kind(**{field: _to_nodes(value, nodes) for field, value in operands.items()}, **attributes))
    given = tuple(node for i in inputs if isinstance(node := nodes[i], Input))
    return Graph(given, tuple(nodes[i] for i in outputs), output_names, name)


def _attributes(node: Node) -> dict[str, Any]:
    return {f.name: getattr(node, f.name) for f in node.attributes} | {"origin": node.origin, "layout": node.layout}


def _to_numbers(value: Any, number: dict[Node, int]) -> Any:
    return None if value is None else tuple(number[v] for v in value) if isinstance(value, tuple) else number[value]


def _to_nodes(value: Any, nodes: list[Node]) -> Any:
    return None if value is None else tuple(nodes[v] for v in value) if isinstance(value, tuple) else nodes[value]
