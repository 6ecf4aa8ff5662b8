"""What writing an ONNX graph needs: unique names, nodes, constants. It knows no operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx

from ...engine.errors import UnsupportedError
from ...engine.graph import Node
from .tensors import DTYPES, code_of


class Writer:
    """ONNX nodes and initialisers in the making. A value is known by its name; "" is an operand left out."""

    def __init__(self, opset: int, reserved: Iterable[str]) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[tuple[Node, int], str] = {}
        """The name of each result that has been written."""
        self._used = set(reserved)
        self._counts = Counter[str]()
        self._read: set[str] = set()
        self._makers: dict[str, tuple[onnx.NodeProto, int]] = {}

    def name(self, node: Node | None) -> str:
        """The name of an operand."""
        return "" if node is None else self.names[node, 0]

    def emit(self, op: str, *inputs: str, results: int = 1, **attributes: Any) -> str:
        """Add a node and return the name of its first result; attributes that are None are left out."""
        outputs = [self.fresh(op.lower()) for _ in range(results)]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        given = {name: value for name, value in attributes.items() if value is not None}
        node = onnx.helper.make_node(op, inputs, outputs, name=outputs[0], **given)
        self.nodes.append(node)
        self._read.update(inputs)
        self._makers.update({name: (node, i) for i, name in enumerate(outputs)})
        return outputs[0]

    def results(self, first: str) -> tuple[str, ...]:
        """The names of all results of the node whose first result this is."""
        return tuple(self._makers[first][0].output)

    def constant(self, data: Any, dtype: Any = None, label: str = "constant") -> str:
        """The name of a new initialiser. Raises UnsupportedError for a dtype that ONNX does not have."""
        array = np.array(data, dtype, order="C")
        if array.dtype not in DTYPES.values():
            raise UnsupportedError(f"ONNX has no elements of type {array.dtype}")
        name = self.fresh(label)
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return name

    def integers(self, values: Iterable[int]) -> str:
        """The name of a new int64 vector."""
        return self.constant(list(values), np.int64)

    def fresh(self, label: str) -> str:
        """A name that nothing has yet, like `label`."""
        name = label
        while name in self._used:
            self._counts[label] += 1
            name = f"{label}_{self._counts[label] + 1}"
        self._used.add(name)
        return name

    def is_unread(self, name: str) -> bool:
        """Whether it is the result of a node and nothing reads it yet."""
        return name in self._makers and name not in self._read

    def rename(self, old: str, new: str) -> str:
        """Give an unread result another name, which the caller keeps unique, and return that."""
        node, position = self._makers.pop(old)
        self._makers[new] = (node, position)
        node.output[position] = new
        if position == 0:
            node.name = new
        return new

    def value_info(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
        """The declaration of an input or output."""
        return onnx.helper.make_tensor_value_info(name, code_of(dtype), shape)
