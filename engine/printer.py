"""Graph → text: the form of the command line, of debug dumps and of golden tests."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .expression import IDENTITY, Expression, render
from .graph import Constant, Graph, Input, Node, Result
from .tensor import dtype_name


def print_graph(graph: Graph) -> str:
    """One line a node: `%3 = conv(%2, weight=f32[8,4,3,3], pads=1, epilogue=relu($0)) : f32[1,8,9,9]  # names in the model`."""
    names = node_names(graph)
    head = ", ".join(f"{n.name}: {n.type}" for n in graph.inputs)
    body = [f"  {names[n]} = {describe(n, names)}" for n in graph if not isinstance(n, Input | Constant | Result)]
    tail = ", ".join(
        names[o] if names[o] == name else f"{name}={names[o]}" for name, o in zip(graph.output_names, graph.outputs, strict=True)
    )
    return "\n".join([f"graph {graph.name}({head}):", *body, f"  return {tail}"])


def node_names(graph: Graph) -> dict[Node, str]:
    """The name by which each node is printed."""
    fresh, names = itertools.count(), dict[Node, str]()
    for node in (*graph.inputs, *graph):
        match node:
            case Input():
                names[node] = node.name
            case Constant():
                names[node] = _constant_name(node)
            case Result(inner):
                names[node] = f"{names[inner]}.{node.index}"
            case _:
                names[node] = f"%{next(fresh)}"
    return names


def describe(node: Node, names: dict[Node, str]) -> str:
    """A node without its own name: operator, operands, attributes that are not at their default, type, origin."""
    if isinstance(attribute := getattr(node, "expression", None), Expression) and node.operand_names == ("inputs",):
        call = render(attribute, lambda i: names[node.operands[i]])
    else:
        call = f"{node.opname}({', '.join([*_operands(node, names), *_attributes(node)])})"
    origin = f"  # {', '.join(node.origin)}" if node.origin else ""
    return f"{call} : {', '.join(map(str, node.types))}{origin}"


def _constant_name(node: Constant) -> str:
    if node.type.size == 1:
        value = node.data.reshape(-1)[0].item()
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    if node.type.size <= 8 and node.type.rank == 1 and node.type.dtype.kind in "iu":
        return "[" + ",".join(map(str, node.data.tolist())) + "]"
    return str(node.type)


def _operands(node: Node, names: dict[Node, str]) -> list[str]:
    """The first operand bare, the others by name: an optional operand left out must not make the text ambiguous."""
    found = []
    for position, name in enumerate(node.operand_names):
        value = getattr(node, name)
        if value is None or value == ():
            continue
        text = f"[{', '.join(names[v] for v in value)}]" if isinstance(value, tuple) else names[value]
        found.append(text if position == 0 else f"{name}={text}")
    return found


def _attributes(node: Node) -> list[str]:
    found = []
    for field in node.attributes:
        value = getattr(node, field.name)
        default = field.metadata.get("per_axis", field.default)
        if "per_axis" in field.metadata and all(v == default for v in value):
            continue
        if value is not default and (isinstance(value, np.ndarray) or value != default):
            is_extent = "per_axis" in field.metadata or field.name in ("shape", "kernel", "sizes")
            found.append(f"{field.name}={attribute_text(value, is_extent)}")
    return found


def attribute_text(value: Any, is_extent: bool = False) -> str:
    """Pairs ((1, 1), (0, 1)) are 1:1x0:1, an extent (3, 3) is 3x3, other numbers (0, 2, 3, 1) are [0,2,3,1], an array its type."""
    if isinstance(value, tuple) and value and all(isinstance(v, tuple) for v in value):
        return "x".join(":".join(map(str, v)) for v in value)
    if isinstance(value, tuple) and all(isinstance(v, int | float) for v in value):
        return "x".join(map(str, value)) if is_extent and value else f"[{','.join(f'{v:g}' for v in value)}]"
    if isinstance(value, np.ndarray):
        return f"{dtype_name(value.dtype)}[{','.join(map(str, value.shape))}]"
    if isinstance(value, np.dtype):
        return dtype_name(value)
    return "identity" if value == IDENTITY else str(value)
