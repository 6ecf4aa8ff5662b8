"""Operators that ONNX itself defines in terms of others: their definition stands in where there is no converter."""

from __future__ import annotations

import dataclasses as dc
from typing import Any

import numpy as np
import onnx

from ...engine.graph import Node
from .convert import Call, default_attribute, schema_of
from .parse import Function, parse_function
from .tensors import code_of


def has_definition(op: str, domain: str, opset: int) -> bool:
    """Whether ONNX defines the operator by others."""
    schema: Any = schema_of(op, domain, opset)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def definition_of(call: Call) -> Function | None:
    """ONNX's definition of the operator of a call, or None. Some depend on the attributes and operand types of the call.

    Where subgraphs are among these, the definition is not asked for, since a Call does not keep them in ONNX's form.
    """
    schema: Any = schema_of(call.op, call.operation.domain, call.opset)
    if schema is None or call.operation.bodies:
        return None
    if schema.has_function:
        text = schema.get_function_with_opset_version(_newest(schema.function_opset_versions, call.opset))
    elif schema.has_context_dependent_function:
        opset = _newest(schema.context_dependent_function_opset_versions, call.opset)
        types = [_type_of(node) for node in call.operands]
        text = schema.get_context_dependent_function_with_opset_version(opset, _proto_of(call).SerializeToString(), types)
    else:
        return None
    function = parse_function(onnx.FunctionProto.FromString(text))
    defaults = {name: default_attribute(call.op, call.operation.domain, call.opset, name) for name in schema.attributes}
    return dc.replace(function, defaults=defaults)


def _newest(versions: list[int], opset: int) -> int:
    return max((v for v in versions if v <= opset), default=min(versions))


def _type_of(node: Node | None) -> bytes:
    if node is None:
        return onnx.TypeProto().SerializeToString()
    return onnx.helper.make_tensor_type_proto(code_of(node.type.dtype), node.type.shape).SerializeToString()


def _proto_of(call: Call) -> onnx.NodeProto:
    plain = {name: _plain(value) for name, value in call.operation.attributes.items()}
    return onnx.helper.make_node(call.op, call.operation.inputs, call.operation.outputs, domain=call.operation.domain, **plain)


def _plain(value: Any) -> Any:
    return onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
