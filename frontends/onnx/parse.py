"""ModelProto → plain data that converters read: operations in order, weights as Constants, functions. Made once for each model."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto

from ...engine.errors import ModelError, UnsupportedError
from ...engine.graph import Constant
from ...engine.source import InputSpec
from .load import DEFAULT_DOMAINS
from .tensors import NOWHERE, Files, dtype_of, read_tensor


@dc.dataclass(frozen=True)
class Reference:
    """An attribute inside a function that takes the value of the caller's attribute `name`."""

    name: str


@dc.dataclass(frozen=True, eq=False)
class Operation:
    """One node of the model; an attribute is a number, str, array, Body, a tuple of these, or the UnsupportedError that reading it gave."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    @property
    def label(self) -> str:
        """The node's name, or that of its first output."""
        return self.name or next(filter(None, self.outputs), self.op)

    @property
    def bodies(self) -> list[Body]:
        """The subgraphs that it runs."""
        return [value for value in self.attributes.values() if isinstance(value, Body)]

    def reads(self) -> Iterator[str]:
        """The names of the values it depends on, those that its subgraphs capture among them."""
        yield from filter(None, self.inputs)
        for body in self.bodies:
            yield from body.captures


@dc.dataclass(frozen=True, eq=False)
class Body:
    """A graph or subgraph: only the operations its outputs depend on, producers first."""

    operations: tuple[Operation, ...]
    constants: dict[str, Constant]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def captures(self) -> set[str]:
        """The names it reads and does not make itself."""
        made = {*self.constants, *self.inputs, *(name for o in self.operations for name in o.outputs)}
        return {*self.outputs, *(name for o in self.operations for name in o.reads())} - made


@dc.dataclass(frozen=True, eq=False)
class Function:
    """A function of the model, or the definition that ONNX gives of an operator in terms of others."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: dict[str, Any]
    operations: tuple[Operation, ...]
    opsets: dict[str, int]


@dc.dataclass(frozen=True, eq=False)
class Model:
    """What a Source needs of a model."""

    name: str
    inputs: tuple[InputSpec, ...]
    body: Body
    functions: dict[tuple[str, str], Function]
    opsets: dict[str, int]


def parse_model(proto: onnx.ModelProto, files: Files) -> Model:
    """Raises ModelError where the model contradicts itself, UnsupportedError for inputs or weights of types we do not have."""
    body = parse_body(proto.graph, files)
    if duplicates := {name for name in body.outputs if body.outputs.count(name) > 1}:
        raise ModelError(f"two outputs of the model are named {', '.join(sorted(duplicates))}")
    weights = {_word(t.name) for t in proto.graph.initializer}
    inputs = tuple(_input_spec(value) for value in proto.graph.input if _word(value.name) not in weights)
    functions = {(_domain(f.domain), f.name): parse_function(f, files) for f in proto.functions}
    return Model(_word(proto.graph.name) or "main", inputs, body, functions, _opsets(proto.opset_import))


def parse_body(graph: onnx.GraphProto, files: Files) -> Body:
    """A graph or subgraph; weights that nothing reads are not loaded."""
    outputs = _words(value.name for value in graph.output)
    operations = _ordered([_operation(node, files) for node in graph.node], outputs)
    wanted = {*outputs, *(name for o in operations for name in o.reads())}
    for sparse in graph.sparse_initializer:
        if sparse.values.name in wanted:
            raise UnsupportedError(f"the initializer {sparse.values.name!r} is sparse; store it as a dense tensor")
    stored = {_word(t.name): t for t in graph.initializer}
    constants = {name: Constant(read_tensor(t, files), origin=(name,)) for name, t in stored.items() if name in wanted}
    # Weights may also be Constant operations; made here, they too are the same nodes for every shape.
    weights = {o: o.attributes["value"] for o in operations if o.op == "Constant" and isinstance(o.attributes.get("value"), np.ndarray)}
    constants |= {o.outputs[0]: Constant(data, origin=(o.label,)) for o, data in weights.items()}
    operations = tuple(o for o in operations if o not in weights)
    return Body(operations, constants, _words(value.name for value in graph.input), outputs)


def parse_function(proto: onnx.FunctionProto, files: Files = NOWHERE) -> Function:
    """A function; attributes it declares without a default are simply absent when the caller gives none."""
    outputs = _words(proto.output)
    operations = _ordered([_operation(node, files) for node in proto.node], outputs)
    defaults = {_word(a.name): _attribute(a, files) for a in proto.attribute_proto}
    return Function(_words(proto.input), outputs, defaults, operations, _opsets(proto.opset_import))


def _opsets(imports: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {_domain(o.domain): o.version for o in imports}


def _domain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else _word(domain)


def _word(name: str | bytes) -> str:
    """A name that can be printed on one line; what protobuf cannot decode in a damaged file it gives as bytes."""
    name = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def _words(names: Iterable[str | bytes]) -> tuple[str, ...]:
    return tuple(map(_word, names))


def _operation(node: onnx.NodeProto, files: Files) -> Operation:
    attributes = {_word(a.name): _attribute(a, files) for a in node.attribute}
    op, domain, name = _word(node.op_type), _domain(node.domain), _word(node.name)
    return Operation(op, domain, name, _words(node.input), _words(node.output), attributes)


def _attribute(attribute: onnx.AttributeProto, files: Files) -> Any:
    if attribute.ref_attr_name:
        return Reference(_word(attribute.ref_attr_name))
    try:
        return _attribute_value(attribute, files)
    except UnsupportedError as error:  # told when a converter asks for it, with the other problems of the model
        return error


def _attribute_value(attribute: onnx.AttributeProto, files: Files) -> Any:
    match attribute.type:
        case AttributeProto.TENSOR:
            return read_tensor(attribute.t, files, attribute.name)
        case AttributeProto.GRAPH:
            return parse_body(attribute.g, files)
        case AttributeProto.STRING:
            return attribute.s.decode("utf-8", "replace")
        case AttributeProto.STRINGS:
            return tuple(s.decode("utf-8", "replace") for s in attribute.strings)
        case AttributeProto.FLOAT | AttributeProto.INT | AttributeProto.FLOATS | AttributeProto.INTS:
            value = onnx.helper.get_attribute_value(attribute)
            return value if isinstance(value, int | float) else tuple(value)
    kinds = AttributeProto.AttributeType
    kind = kinds.Name(attribute.type) if attribute.type in kinds.values() else str(attribute.type)
    raise UnsupportedError(f"attribute {attribute.name!r} of kind {kind.lower()}")


def _input_spec(value: onnx.ValueInfoProto) -> InputSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedError(f"input {value.name!r} is a {kind or 'value without a type'}; only tensors are supported")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise UnsupportedError(f"input {value.name!r} declares no rank; give it a shape in the model, its dimensions may stay open")
    shape = tuple(_dimension(d) for d in tensor.shape.dim)
    return InputSpec(_word(value.name), dtype_of(tensor.elem_type, f"input {value.name!r}"), shape)


def _dimension(dimension: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """An extent, a symbol, or None; exporters also write -1 for an open dimension."""
    if dimension.HasField("dim_value"):
        return dimension.dim_value if dimension.dim_value >= 0 else None
    return _word(dimension.dim_param) or None


def _ordered(operations: list[Operation], outputs: Sequence[str]) -> tuple[Operation, ...]:
    """The operations that the outputs depend on, each after those that it reads."""
    makers: dict[str, Operation] = {}
    for operation in operations:
        for name in filter(None, operation.outputs):
            if name in makers:
                raise ModelError(f"nodes {makers[name].label!r} and {operation.label!r} both produce {name!r}")
            makers[name] = operation
    order: list[Operation] = []
    done: dict[Operation, bool] = {}
    stack = [(makers[name], False) for name in reversed(outputs) if name in makers]
    while stack:
        operation, ready = stack.pop()
        if ready:
            done[operation] = True
            order.append(operation)
        elif operation not in done:
            done[operation] = False
            stack.append((operation, True))
            needed = [makers[name] for name in operation.reads() if name in makers]
            if cycle := next((n for n in needed if done.get(n) is False), None):
                raise ModelError(f"node {operation.label!r} depends on itself through {cycle.label!r}")
            stack.extend((n, False) for n in reversed(needed) if n not in done)
    return tuple(order)
