"""The NumPy meaning of a whole graph: what constants fold to, and the yardstick of every backend."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ModelError
from .expression import Expression, change_dtypes
from .graph import Constant, Graph, Input, Node, Result


def evaluate(graph: Graph, inputs: Sequence[np.ndarray]) -> list[Any]:
    """One array an output. Inputs are converted to the dtypes that the graph declares."""
    values: dict[Node, Any] = {n: np.asarray(a, n.type.dtype) for n, a in zip(graph.inputs, inputs, strict=True)}
    remaining = graph.uses
    for node in graph:
        if node in values:
            continue
        values[node] = evaluate_node(node, values)
        for operand in node.operands:
            remaining[operand] -= 1
            if remaining[operand] == 0 and not isinstance(operand, Input | Constant):
                del values[operand]
    return [values[o] for o in graph.outputs]


def evaluate_node(node: Node, values: Mapping[Node, Any]) -> Any:
    """The value of one node, given those of its operands; every array gets the dtype that the node's type promises.

    Raises ModelError where the numbers of an operand count beyond the end of another.
    """
    if isinstance(node, Result):
        return values[node.node][node.index]
    try:
        results = node.reference(*(_gather(getattr(node, name), values) for name in node.operand_names))
    except IndexError as error:
        raise ModelError(f"{node.label}: {error}") from error
    if len(node.types) == 1:
        return np.asarray(results, node.type.dtype)
    return tuple(np.asarray(r, t.dtype) for r, t in zip(results, node.types, strict=True))


def _gather(operand: Any, values: Mapping[Node, Any]) -> Any:
    if isinstance(operand, tuple):
        return tuple(values[o] for o in operand)
    return None if operand is None else values[operand]


def widen(graph: Graph, narrow: np.dtype | None = None, wide: np.dtype | None = None) -> Graph:
    """The same graph with floating-point dtypes replaced: every one by float64, or only `narrow` by `wide`.

    Inputs, constants and dtype attributes change; all other types follow by inference.
    """
    wide = np.dtype(np.float64) if wide is None else wide

    def change(dtype: np.dtype) -> np.dtype:
        return wide if dtype.kind == "f" and (narrow is None or dtype == narrow) else dtype

    new: dict[Node, Node] = {n: n.replace(dtype=change(n.type.dtype)) for n in graph.inputs}
    for node in graph:
        if node not in new:
            new[node] = _widen_node(node, new, change)
    inputs = tuple(n for i in graph.inputs if isinstance(n := new[i], Input))
    return dc.replace(graph, inputs=inputs, outputs=tuple(new[o] for o in graph.outputs))


def _widen_node(node: Node, new: Mapping[Node, Node], change: Any) -> Node:
    """Operands and attributes change together: a node with only one of the two might be ill-typed."""
    if isinstance(node, Constant):
        dtype = change(node.data.dtype)
        return node if dtype == node.data.dtype else node.replace(data=_converted(node.data, dtype))
    changes: dict[str, Any] = {}
    for name in node.operand_names:
        value = getattr(node, name)
        changes[name] = None if value is None else tuple(new[v] for v in value) if isinstance(value, tuple) else new[value]
    for field in node.attributes:
        value = getattr(node, field.name)
        if isinstance(value, np.dtype):
            changes[field.name] = change(value)
        elif isinstance(value, Expression):
            changes[field.name] = change_dtypes(value, change)
    changes = {name: value for name, value in changes.items() if value != getattr(node, name)}
    return node.replace(**changes) if changes else node


def _converted(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """In a narrower type, what is finite stays finite: a mask of -3e38 must not become a NaN where it meets another."""
    if dtype.itemsize < data.dtype.itemsize:
        largest = np.finfo(dtype).max
        data = np.where(np.isinf(data), data, np.clip(data, -largest, largest))
    return data.astype(dtype)
