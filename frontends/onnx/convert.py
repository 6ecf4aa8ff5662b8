"""What a converter sees, and the table of converters.

A converter is a function from a Call to the IR nodes of its results. To support another ONNX operator, write one in an
`ops_*.py` file of this folder: `@converter("Relu")` puts it into the table. Differences between opsets end in it.
"""

from __future__ import annotations

import dataclasses as dc
import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import onnx

from ...engine.errors import ModelError, UnsupportedError
from ...engine.graph import Node
from .parse import Operation

Results = Node | tuple[Node | None, ...]
"""One node for each result, None for one that nobody asked for; a single node where there is only one."""


class Evaluator(Protocol):
    """What a Call may ask about the model around it."""

    def value(self, node: Node) -> np.ndarray:
        """The numeric value of a node. Raises NeedsValues where it depends on inputs."""
        ...

    def known(self, node: Node) -> np.ndarray | None:
        """The same, or None where it depends on inputs."""
        ...


@dc.dataclass(frozen=True, eq=False)
class Call:
    """One operator of the model applied to operands that are converted already."""

    operation: Operation
    operands: tuple[Node | None, ...]
    opset: int
    evaluator: Evaluator

    @property
    def op(self) -> str:
        return self.operation.op

    def __len__(self) -> int:
        return len(self.operands)

    def __getitem__(self, position: int) -> Node:
        """The operand at this position; ModelError when the model leaves it out."""
        node = self.get(position)
        if node is None:
            raise ModelError(f"expected at least {position + 1} inputs, input {position} is missing")
        return node

    def get(self, position: int) -> Node | None:
        """The operand at this position, or None when the model leaves it out."""
        return self.operands[position] if position < len(self.operands) else None

    def wants(self, position: int) -> bool:
        """Whether the model gives the result at this position a name."""
        return position < len(self.operation.outputs) and bool(self.operation.outputs[position])

    def value(self, position: int) -> np.ndarray:
        """The number behind an operand that must be known to fix shapes. Raises NeedsValues where it depends on inputs."""
        return self.evaluator.value(self[position])

    def scalar(self, position: int) -> Any:
        """The one number that the operand at this position holds."""
        value = self.value(position)
        if value.size != 1:
            raise ModelError(f"expected one number as input {position}, got {self[position].type}")
        return value.item()

    def known(self, position: int) -> np.ndarray | None:
        """The number behind an operand if it is the same in every run, else None."""
        node = self.get(position)
        return None if node is None else self.evaluator.known(node)

    def attribute(self, name: str) -> Any:
        """The attribute as given, or ONNX's default for this opset, or None."""
        value = self.operation.attributes.get(name)
        if value is None:
            return default_attribute(self.op, self.operation.domain, self.opset, name)
        if isinstance(value, UnsupportedError):
            raise value
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """An attribute that is one integer; ModelError when it is neither given nor defaulted."""
        return self._typed(name, default, int)

    def number(self, name: str, default: float | None = None) -> float:
        """An attribute that is one real number."""
        return float(self._typed(name, default, int | float))

    def text(self, name: str, default: str | None = None) -> str:
        """An attribute that is a word."""
        return self._typed(name, default, str)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that is a list of integers, or None."""
        return self._list(name, int)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """An attribute that is a list of real numbers, or None."""
        return self._list(name, int | float)

    def words(self, name: str) -> tuple[str, ...] | None:
        """An attribute that is a list of words, or None."""
        return self._list(name, str)

    def integers_or_input(self, name: str, position: int) -> tuple[int, ...] | None:
        """A list of integers that older opsets have as an attribute and newer ones as an input; None: neither is there."""
        if self.get(position) is None:
            return self.integers(name)
        return tuple(int(v) for v in self.value(position).reshape(-1))

    def _list(self, name: str, kind: Any) -> Any:
        value = self.attribute(name)
        if value is not None and not (isinstance(value, tuple) and all(isinstance(v, kind) for v in value)):
            raise ModelError(f"expected attribute {name} to be a list of {getattr(kind, '__name__', kind)}, got {value!r}")
        return value

    def _typed(self, name: str, default: Any, kind: Any) -> Any:
        value = self.attribute(name)
        value = default if value is None else value
        if not isinstance(value, kind):
            raise ModelError(f"expected attribute {name} to be of type {getattr(kind, '__name__', kind)}, got {value!r}")
        return value

    def refuse(self, attribute: str) -> UnsupportedError:
        """The error for an attribute value that no code here handles: `raise call.refuse("mode")`."""
        return UnsupportedError(f"{attribute}={self.attribute(attribute)!r}")


Converter = Callable[[Call], Results]
_CONVERTERS: dict[tuple[str, str], Converter] = {}


def converter(*names: str, domain: str = "") -> Callable[[Converter], Converter]:
    """Decorator that puts a converter into the table, under one or several operator names."""

    def register(function: Converter) -> Converter:
        _CONVERTERS.update({(domain, name): function for name in names})
        return function

    return register


def find_converter(op: str, domain: str) -> Converter | None:
    """The converter of an operator, or None."""
    return _CONVERTERS.get((domain, op))


@functools.cache
def schema_of(op: str, domain: str, opset: int) -> onnx.defs.OpSchema | None:
    """What ONNX says about an operator in this opset; None for one that it does not know."""
    try:
        return onnx.defs.get_schema(op, opset, domain)
    except (onnx.defs.SchemaError, TypeError):  # the latter for an opset that is no 32-bit number
        return None


@functools.cache
def default_attribute(op: str, domain: str, opset: int, name: str) -> Any:
    """The value that ONNX gives an attribute which the model leaves out, or None."""
    schema = schema_of(op, domain, opset)
    declared = schema.attributes.get(name) if schema else None
    if declared is None or not declared.default_value.name:
        return None
    value = onnx.helper.get_attribute_value(declared.default_value)
    return value.decode() if isinstance(value, bytes) else tuple(value) if not isinstance(value, int | float) else value


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from the front. Raises ModelError outside -rank ... rank-1."""
    if not -rank <= axis < rank:
        raise ModelError(f"expected an axis from {-rank} to {rank - 1}, got {axis}")
    return axis % rank
