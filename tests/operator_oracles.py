"""What other implementations say about one operator, and the comparison of ours with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Graph, Input, Node, Result

Arrays = Sequence[np.ndarray | None]
Build = Callable[..., Node]


def one_node_model(op_type: str, arrays: Arrays, outputs: int, opset: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    """An ONNX model of one node; operands that are None are left out, outputs get no declared type."""
    names = ["" if a is None else f"i{k}" for k, a in enumerate(arrays)]
    results = [f"o{k}" for k in range(outputs)]
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, arrays, strict=True)
        if a is not None
    ]
    declared = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in results]
    for value in declared:
        value.ClearField("type")
    graph = helper.make_graph([helper.make_node(op_type, names, results, **attributes)], op_type, inputs, declared)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def onnxruntime_results(op_type: str, arrays: Arrays, outputs: int = 1, opset: int = 21, **attributes: Any) -> list[np.ndarray]:
    """The results of onnxruntime's CPU kernels, computed node by node."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    model = one_node_model(op_type, arrays, outputs, opset, attributes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(r) for r in session.run(None, {f"i{k}": a for k, a in enumerate(arrays) if a is not None})]


def onnx_results(op_type: str, arrays: Arrays, outputs: int = 1, opset: int = 21, **attributes: Any) -> list[np.ndarray]:
    """The results of the ONNX package's own NumPy implementation."""
    model = one_node_model(op_type, arrays, outputs, opset, attributes)
    given = {f"i{k}": a for k, a in enumerate(arrays) if a is not None}
    return [np.asarray(r) for r in ReferenceEvaluator(model).run(None, given)]


def graph_of(build: Build, arrays: Arrays) -> Graph:
    """The graph of `build(*operands)`, every array that is not None an input, every result of the node an output."""
    inputs = [None if a is None else Input(name=f"i{k}", shape=a.shape, dtype=a.dtype) for k, a in enumerate(arrays)]
    node = build(*inputs)
    outputs = (node,) if len(node.types) == 1 else tuple(Result(node, index=k) for k in range(len(node.types)))
    return Graph(tuple(i for i in inputs if i is not None), outputs, tuple(f"o{k}" for k in range(len(outputs))))


def evaluate_op(build: Build, arrays: Arrays) -> list[np.ndarray]:
    """Our results in the dtypes of the arrays."""
    return evaluate(graph_of(build, arrays), [a for a in arrays if a is not None])


def check_op(build: Build, arrays: Arrays, expected: Sequence[np.ndarray], tolerance: float = 2e-6) -> None:
    """Our results equal the expected ones: types exactly, numbers to the tolerance, both as given and in float64."""
    graph, given = graph_of(build, arrays), [a for a in arrays if a is not None]
    narrow, wide = evaluate(graph, given), evaluate(widen(graph), given)
    assert len(narrow) == len(expected)
    for node, own, exact, other in zip(graph.outputs, narrow, wide, expected, strict=True):
        assert (own.dtype, own.shape) == (node.type.dtype, node.type.shape) == (other.dtype, other.shape)
        assert exact.dtype == (np.float64 if other.dtype.kind == "f" else other.dtype)
        assert_close(own, other, tolerance)
        assert_close(exact, other, tolerance)


def assert_close(own: np.ndarray, other: np.ndarray, tolerance: float) -> None:
    """Equal integers; real numbers within `tolerance` of the largest finite magnitude that is expected."""
    if other.dtype.kind != "f":
        np.testing.assert_array_equal(own, other)
        return
    finite = np.abs(other[np.isfinite(other)], dtype=np.float64)
    np.testing.assert_allclose(own, other, rtol=tolerance, atol=tolerance * finite.max(initial=1.0))


def randn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal random numbers in float32."""
    return rng.standard_normal(shape).astype(np.float32)
