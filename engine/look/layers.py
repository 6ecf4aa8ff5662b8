"""What there is to look at inside a graph: its feature maps by name, and the kernels that meet the picture first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Input, Node
from ..ops import BatchNorm, Conv, Pointwise
from .activation import is_known, known

NEAR = 5
"""How many names are suggested for one that there is not."""


def influenced(graph: Graph, name: str) -> list[Node]:
    """Every node that depends on the input of this name, in execution order."""
    found: dict[Node, None] = {}
    for node in graph:
        if (isinstance(node, Input) and node.name == name) or any(o in found for o in node.operands):
            found[node] = None
    return [node for node in found if not isinstance(node, Input)]


def feature_maps(nodes: Iterable[Node]) -> dict[str, Node]:
    """The values (n, c, h, w) of more than one position by the name of their layer; of several with one name the last."""
    found: dict[str, Node] = {}
    for node in nodes:
        if is_map(node):
            for name in node.origin[:1]:
                found.pop(name, None)
                found[name] = node
    return found


def is_map(node: Node) -> bool:
    """Floating-point numbers at more than one place of a plane."""
    if len(node.types) != 1 or node.type.rank != 4 or node.type.dtype.kind != "f":
        return False
    return node.type.shape[2] * node.type.shape[3] > 1


def chosen_maps(maps: dict[str, Node], nodes: Iterable[Node], names: Sequence[str]) -> dict[str, Node]:
    """Those maps by name. Raises ModelError for a layer that is not there, with near names, and for one without a plane."""
    inside = {name: node for node in nodes for name in node.origin}
    for name in names:
        if name in maps:
            continue
        if name in inside:
            shape = ", ".join(map(str, inside[name].types))
            raise ModelError(f"--layer: the result of {name!r} is {shape}; expected feature maps, floating-point (n, c, h, w)")
        near = list(dict.fromkeys([*difflib.get_close_matches(name, maps, NEAR), *maps]))[:NEAR]
        raise ModelError(f"--layer: no layer named {name!r}; some are {', '.join(map(repr, near))}, and `tilewright show` prints all")
    return {name: maps[name] for name in dict.fromkeys(names)}


def spread_maps(maps: dict[str, Node], graph: Graph, count: int) -> dict[str, Node]:
    """A few maps, evenly over the depth of the network, among those that a layer reads as more than an intermediate result."""
    finished = {o for node in graph if not isinstance(node, Pointwise | BatchNorm) for o in node.operands}
    names = [name for name, node in maps.items() if node in finished] or list(maps)
    places = np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int))
    return {names[i]: maps[names[i]] for i in places}


def last_map(graph: Graph, nodes: Sequence[Node]) -> Node | None:
    """The result of the last convolution over a plane, after its normalisation and activation."""
    convolutions = [node for node in nodes if isinstance(node, Conv) and is_map(node)]
    if not convolutions:
        return None
    node = convolutions[-1]
    while len(readers := [n for n in graph if node in n.operands]) == 1 and isinstance(readers[0], Pointwise | BatchNorm):
        (node,) = readers
    return node


def first_kernels(nodes: Iterable[Node]) -> tuple[str, np.ndarray] | None:
    """The name and the learned weights (k, c, h, w) of the first convolution over a plane; None: there is none."""
    for node in nodes:
        if isinstance(node, Conv) and node.weight.type.rank == 4 and is_known(node.weight):
            return (node.origin or (node.opname,))[0], known(node.weight)
    return None
