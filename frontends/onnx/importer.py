"""Converts the operations of a model one after the other, evaluating what fixes shapes and collecting what is unsupported."""

from __future__ import annotations

import dataclasses as dc
from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from ...engine.errors import ModelError, UnsupportedError
from ...engine.evaluate import evaluate_node
from ...engine.graph import Input, Node, reachable
from ...engine.source import NeedsValues
from .convert import Call, find_converter
from .functions import definition_of
from .parse import Body, Function, Operation, Reference
from .problems import REASONS, Problem

MAX_DEPTH = 64
SETTING_SIZE = 64


class Unknown:
    """Stands for a result that could not be converted; what depends on it is passed over in silence."""


Value = Node | Unknown | None
"""What a name stands for; None: an optional input of a function that its caller left out."""
Names = MutableMapping[str, Value]


@dc.dataclass(frozen=True)
class Scope:
    """Where operations stand: the opsets they are written in, the attributes of their function, what comes before their names."""

    opsets: Mapping[str, int]
    attributes: Mapping[str, Any] = dc.field(default_factory=dict)
    prefix: str = ""
    depth: int = 0

    def inside(self, operation: Operation, **changes: Any) -> Scope:
        """The scope of what an operation stands for."""
        if self.depth == MAX_DEPTH:
            raise ModelError(f"functions call each other more than {MAX_DEPTH} deep; does one call itself?")
        return dc.replace(self, prefix=f"{self.prefix}{operation.label}/", depth=self.depth + 1, **changes)


class Importer:
    """One conversion of a model, for one set of input shapes and values."""

    def __init__(self, functions: Mapping[tuple[str, str], Function]) -> None:
        self.functions = functions
        self.problems: list[Problem] = []
        self._values: dict[Node, Any] = {}

    def value(self, node: Node) -> np.ndarray:
        """The numeric value of a node. Raises NeedsValues naming the inputs it depends on."""
        if node not in self._values:
            order = list(reachable((node,)))
            if inputs := frozenset(n.name for n in order if isinstance(n, Input)):
                raise NeedsValues(inputs)
            for step in order:
                if step not in self._values:
                    self._values[step] = _evaluated(step, self._values)
        return self._values[node]

    def known(self, node: Node) -> np.ndarray | None:
        """The numeric value of a node, or None where it depends on inputs."""
        try:
            return self.value(node)
        except NeedsValues:
            return None

    def run(self, operations: Iterable[Operation], names: Names, scope: Scope) -> None:
        """Convert operations, reading the values under `names` and adding theirs."""
        for operation in operations:
            try:
                results = self._results(operation, names, scope)
            except UnsupportedError as error:
                self.problems.append(Problem(operation.op, operation.domain, scope.prefix + operation.label, str(error)))
                results = [Unknown()] * len(operation.outputs)
            except ModelError as error:
                raise ModelError(f"node {operation.label!r} ({operation.op}): {error}") from error
            names.update({name: node for name, node in zip(operation.outputs, results, strict=False) if name and node is not None})

    def _results(self, operation: Operation, names: Names, scope: Scope) -> Sequence[Value]:
        given = [_lookup(names, name) if name else None for name in operation.inputs]
        captured = [_lookup(names, name) for body in operation.bodies for name in body.captures]
        operands = tuple(node for node in given if not isinstance(node, Unknown))
        if len(operands) < len(given) or any(isinstance(node, Unknown) for node in captured):
            return [Unknown()] * len(operation.outputs)
        attributes = {name: scope.attributes.get(v.name) if isinstance(v, Reference) else v for name, v in operation.attributes.items()}
        operation = dc.replace(operation, attributes={name: v for name, v in attributes.items() if v is not None})
        if function := self.functions.get((operation.domain, operation.op)):
            return self._expand(function, operation, operands, scope)
        if (opset := scope.opsets.get(operation.domain)) is None and not operation.domain:
            raise ModelError("the model does not say which opset of ai.onnx it is written in")
        return self._convert(Call(operation, operands, opset or 1, self), names, scope)

    def _convert(self, call: Call, names: Names, scope: Scope) -> Sequence[Value]:
        operation = call.operation
        if (operation.domain, operation.op) == ("", "If"):
            return self._branch(call, names, scope)
        if convert := find_converter(operation.op, operation.domain):
            results = convert(call)
            results = (results,) if isinstance(results, Node) else results
            done: dict[Node, Node] = {}
            return [node and _named(node, (scope.prefix + operation.label,), done) for node in results]
        reason = "" if operation.domain else REASONS.get(operation.op, "")
        if not reason and (function := definition_of(call)):
            return self._expand(function, operation, call.operands, scope)
        raise UnsupportedError(reason)

    def _expand(self, function: Function, operation: Operation, operands: Sequence[Node | None], scope: Scope) -> Sequence[Value]:
        """The body of a function with the operands in place of its inputs."""
        if len(operands) > len(function.inputs):
            raise ModelError(f"expected at most {len(function.inputs)} inputs, got {len(operands)}")
        names: Names = {**dict.fromkeys(function.inputs), **dict(zip(function.inputs, operands, strict=False))}
        opsets = {**scope.opsets, **function.opsets}
        inside = scope.inside(operation, opsets=opsets, attributes={**function.defaults, **operation.attributes})
        self.run(function.operations, names, inside)
        wanted = zip(function.outputs, operation.outputs, strict=False)
        return [_lookup(names, name) if asked else None for name, asked in wanted]

    def _branch(self, call: Call, names: Names, scope: Scope) -> Sequence[Value]:
        """If, with the branch that its condition chooses put in its place."""
        body = call.attribute("then_branch" if self._condition(call).all() else "else_branch")
        if not isinstance(body, Body):
            raise ModelError("expected both branches to be graphs")
        inner: Names = ChainMap(dict[str, Value](body.constants), names)  # type: ignore[arg-type]
        self.run(body.operations, inner, scope.inside(call.operation))
        return [_lookup(inner, name) for name in body.outputs]

    def _condition(self, call: Call) -> np.ndarray:
        """The condition of an If. Inputs of a few whole numbers are settings: there the graph is made anew for each of their values."""
        try:
            return call.value(0)
        except NeedsValues:
            inputs = [n for n in reachable((call[0],)) if isinstance(n, Input)]
            if all(n.type.dtype.kind in "iub" and n.type.size <= SETTING_SIZE for n in inputs):
                raise
        names = ", ".join(n.name for n in inputs)
        raise UnsupportedError(f"its condition depends on the data of input {names}; a branch must be known when the model is compiled")


def _evaluated(node: Node, values: Mapping[Node, Any]) -> Any:
    try:
        with np.errstate(all="ignore"):
            return evaluate_node(node, values)
    except (ValueError, IndexError) as error:
        raise ModelError(f"{node!r} ({', '.join(node.origin)}), which a shape depends on, cannot be computed: {error}") from error


def _lookup(names: Names, name: str) -> Value:
    if name not in names:
        raise ModelError(f"it reads {name!r}, which nothing in the model produces")
    return names[name]


def _named(node: Node, origin: tuple[str, ...], done: dict[Node, Node]) -> Node:
    """The node with `origin` on everything that its converter made; what came before has one already."""
    if node.origin or isinstance(node, Input):
        return node
    if node not in done:
        done[node] = node.map_operands(lambda operand: _named(operand, origin, done)).replace(origin=origin)
    return done[node]
