"""The IR: a Graph is the set of Nodes reachable from its outputs; a Node is one operator applied to Nodes."""

from __future__ import annotations

import dataclasses as dc
import functools
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np

from .errors import CompilerBug, ModelError
from .tensor import Blocked, TensorType

_Class = TypeVar("_Class", bound=type)


def per_axis(*, default: Any) -> Any:
    """An attribute with one entry for each spatial axis of operand `x`; left out, every entry is `default`."""
    return dc.field(default=(), metadata={"per_axis": default})


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(dc.field, per_axis))
def op(cls: _Class) -> _Class:
    """Class decorator of operators: fields typed Node become operands, the others (after `KW_ONLY`) attributes."""
    made = dc.dataclass(frozen=True, eq=False, repr=False)(cls)
    hints = typing.get_type_hints(made)
    own = [f for f in dc.fields(made) if f.name not in ("types", "origin", "layout")]
    made.operand_names = tuple(f.name for f in own if _is_operand(hints[f.name]))
    made.attributes = tuple(f for f in own if f.name not in made.operand_names)
    return made


def _is_operand(hint: Any) -> bool:
    parts = typing.get_args(hint) or (hint,)
    return any(isinstance(part, type) and issubclass(part, Node) for part in parts)


@dc.dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One operator applied to Nodes. Immutable; compared by identity; typed on construction, so that an ill-typed graph cannot exist.

    Raises ModelError on construction when the operands do not fit the operator.
    """

    types: tuple[TensorType, ...] = dc.field(init=False, kw_only=True)
    origin: tuple[str, ...] = dc.field(default=(), kw_only=True)
    """The names this node had in the user's model; a fused node keeps all of them."""
    layout: Blocked | None = dc.field(default=None, kw_only=True)
    """The physical order of the result; only a backend's own lowering asks for another than plain."""

    operand_names: ClassVar[tuple[str, ...]] = ()
    attributes: ClassVar[tuple[dc.Field[Any], ...]] = ()

    def __post_init__(self) -> None:
        try:
            for field in self.attributes:
                if "per_axis" in field.metadata and getattr(self, field.name) == ():
                    spatial = self.operands[0].type.rank - 2
                    object.__setattr__(self, field.name, (field.metadata["per_axis"],) * spatial)
            inferred = self.infer()
        except (ModelError, ValueError, IndexError) as error:
            raise ModelError(f"{self.label}: {error}") from error
        types = inferred if isinstance(inferred, tuple) else (inferred,)
        object.__setattr__(self, "types", types if self.layout is None else tuple(dc.replace(t, layout=self.layout) for t in types))

    @property
    def opname(self) -> str:
        """The operator's name as it is printed: snake case of the class name."""
        return _snake_case(type(self).__name__)

    @property
    def label(self) -> str:
        """What messages call it: `relu(f32[1,4]) (from 'head.relu1')`."""
        where = f" (from {', '.join(map(repr, self.origin))})" if self.origin else ""
        return f"{self.opname}({', '.join(', '.join(map(str, o.types)) for o in self.operands)}){where}"

    @property
    def type(self) -> TensorType:
        """The type of the only result; a node with several is read through Result."""
        if len(self.types) != 1:
            raise CompilerBug(f"{self.opname} has {len(self.types)} results; read them through Result")
        return self.types[0]

    @property
    def operands(self) -> tuple[Node, ...]:
        """All operands that are there, in field order, variadic ones flattened."""
        found: list[Node] = []
        for name in self.operand_names:
            value = getattr(self, name)
            found.extend(value if isinstance(value, tuple) else () if value is None else (value,))
        return tuple(found)

    def replace(self, **changes: Any) -> Self:
        """The same operator with some fields changed; its types are inferred anew."""
        return dc.replace(self, **changes)

    def map_operands(self, change: Callable[[Node], Node]) -> Self:
        """The same operator over `change(operand)`; the very same node where nothing changed."""
        changes: dict[str, Any] = {}
        for name in self.operand_names:
            old = getattr(self, name)
            new = None if old is None else tuple(map(change, old)) if isinstance(old, tuple) else change(old)
            if new is not old and new != old:
                changes[name] = new
        return self.replace(**changes) if changes else self

    def infer(self) -> TensorType | tuple[TensorType, ...]:
        """The type rule: the types of the results, or ModelError."""
        raise NotImplementedError(f"{type(self).__name__}.infer")

    def reference(self, *operands: Any, **_: Any) -> Any:
        """The NumPy meaning: one argument a field (an array, None, or a tuple of arrays), one array a result.

        It computes in the dtype of its operands, so that the same code judges in float64.
        """
        raise NotImplementedError(f"{type(self).__name__}.reference")

    def flops(self) -> int:
        """Arithmetic operations of one execution (a multiply-add counts two); 0 for data movement."""
        return 0

    def multiply_adds(self) -> int:
        """Products that one execution of a convolution or matrix product sums; 0 for everything else."""
        return 0

    def __repr__(self) -> str:
        return f"<{self.opname} {', '.join(map(str, self.types))}>"


@functools.cache
def _snake_case(name: str) -> str:
    previous = " " + name
    return "".join(("_" if c.isupper() and p.islower() else "") + c.lower() for c, p in zip(name, previous, strict=False))


@op
class Input(Node):
    """A value that the caller gives."""

    _: dc.KW_ONLY
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype = np.dtype(np.float32)

    def infer(self) -> TensorType:
        return TensorType(np.dtype(self.dtype), self.shape)


@op
class Constant(Node):
    """A value known at compile time; the array is never written to."""

    data: np.ndarray

    def infer(self) -> TensorType:
        return TensorType(self.data.dtype, self.data.shape)

    def reference(self) -> np.ndarray:
        return self.data

    def give_up(self) -> None:
        """Let go of the array; from here on only its type is known."""
        self.__dict__.pop("data", None)

    def __getattr__(self, name: str) -> Any:
        if name == "data":
            raise ModelError(f"the data of {self!r} was given up when it was packed; `tilewright.load` gives a graph with its weights")
        raise AttributeError(name)


@op
class Result(Node):
    """result(node, i): the i-th result of a node that has several."""

    node: Node
    _: dc.KW_ONLY
    index: int

    def infer(self) -> TensorType:
        return self.node.types[self.index]


class Uses(Counter[Node]):
    """How many operands and graph outputs read each node; reads through Result count for the node behind it too."""


@dc.dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A network: what the caller gives, what it gets back, and every node between the two."""

    inputs: tuple[Input, ...]
    outputs: tuple[Node, ...]
    output_names: tuple[str, ...]
    name: str = "main"

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every reachable node, operands before users."""
        return tuple(reachable(self.outputs))

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def uses(self) -> Uses:
        """A fresh count of the readers of each node."""
        counts = Uses(self.outputs)
        for node in self.nodes:
            counts.update(node.operands)
        return counts

    def find(self, kind: type[Node]) -> list[Node]:
        """All nodes of one operator: `graph.find(Conv)`."""
        return [node for node in self.nodes if isinstance(node, kind)]

    def flops(self) -> int:
        """Arithmetic operations of one run."""
        return sum(node.flops() for node in self.nodes)

    def multiply_adds(self) -> int:
        """What papers count: the products that the convolutions and matrix products of one run sum, and nothing else."""
        return sum(node.multiply_adds() for node in self.nodes)

    def with_outputs(self, outputs: Sequence[Node]) -> Graph:
        """The same signature over other output nodes."""
        return dc.replace(self, outputs=tuple(outputs))

    def __str__(self) -> str:
        from .printer import print_graph

        return print_graph(self)

    __repr__ = __str__

    def __reduce__(self) -> tuple[Any, ...]:
        """Flat, because the default protocol recurses once a node and overflows the stack on deep networks."""
        from .flat import flatten

        return flatten(self)


def reachable(roots: Sequence[Node]) -> Iterator[Node]:
    """Every node that the roots depend on and the roots themselves, operands before users, without recursion."""
    seen: set[Node] = set()
    stack = [(node, False) for node in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if node in seen:
            continue
        if ready:
            seen.add(node)
            yield node
        else:
            stack.append((node, True))
            stack.extend((o, False) for o in reversed(node.operands) if o not in seen)
