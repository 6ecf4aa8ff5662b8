"""Small ONNX models for tests, and the comparison of what onnxruntime and we say about them."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from operator_oracles import assert_close

import tilewright
from tilewright.engine.session import Session

Make = Callable[[np.random.Generator], np.ndarray]


@dc.dataclass(frozen=True)
class Given:
    """An operand of a model in the making: how its numbers are made, and whether it is a weight."""

    make: Make
    is_weight: bool = False


def real(*shape: int, dtype: Any = np.float32) -> Given:
    """Normal random numbers, given by the caller."""
    return Given(lambda rng: rng.standard_normal(shape).astype(dtype))


def positive(*shape: int, dtype: Any = np.float32) -> Given:
    """Random numbers between 0.1 and 2.1."""
    return Given(lambda rng: (rng.random(shape) * 2 + 0.1).astype(dtype))


def whole(low: int, high: int, *shape: int, dtype: Any = np.int64) -> Given:
    """Random integers, `high` left out."""
    return Given(lambda rng: rng.integers(low, high, shape).astype(dtype))


def flags(*shape: int) -> Given:
    """Random truth values."""
    return Given(lambda rng: rng.random(shape) < 0.5)


def weight(value: Any, dtype: Any = None) -> Given:
    """An initialiser: a Given's numbers, or these very ones (whole numbers become int64, others float32)."""
    if isinstance(value, Given):
        return dc.replace(value, is_weight=True)
    array = np.asarray(value, dtype)
    array = array if dtype is not None or array.dtype.kind == "b" else array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
    return Given(lambda rng: array, is_weight=True)


def node_model(
    rng: np.random.Generator, op: str, operands: Sequence[Given | None], opset: int, outputs: int = 1, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node and numbers for its inputs; an operand that is None is left out."""
    names = ["" if given is None else f"x{i}" for i, given in enumerate(operands)]
    arrays = {name: given.make(rng) for name, given in zip(names, operands, strict=True) if given is not None}
    weights = {name for name, given in zip(names, operands, strict=True) if given is not None and given.is_weight}
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], name="the_node", **attributes)
    inputs = [declare(name, array) for name, array in arrays.items() if name not in weights]
    initializers = [numpy_helper.from_array(arrays[name], name) for name in sorted(weights)]
    graph = helper.make_graph([node], "one_node", inputs, [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)], initializers)
    return model_of(graph, opset), {name: array for name, array in arrays.items() if name not in weights}


def declare(name: str, array: np.ndarray, shape: Sequence[Any] | None = None) -> onnx.ValueInfoProto:
    """The declaration of an input of the array's type, by default with its shape."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape if shape is not None else array.shape)


def model_of(graph: onnx.GraphProto, opset: int = 17, **others: Any) -> onnx.ModelProto:
    """A model around a graph; opset domains other than ONNX's by keyword `opsets`."""
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in others.pop("opsets", {}).items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **others)


def parsed(text: str, weights: dict[str, np.ndarray] | None = None, opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX's text form `main (float[2,3] x) => (float[2,3] y) { y = Relu (x) }`, with initialisers added."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in (weights or {}).items())
    return model


def compiled(model: Any, **options: Any) -> Session:
    """A session on the reference backend, without any pass."""
    return tilewright.compile(model, backend="reference", passes=[], **options)


def onnxruntime_outputs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What onnxruntime's CPU kernels say, node by node."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], map(np.asarray, session.run(None, feeds)), strict=True))


def check_against_onnxruntime(model: onnx.ModelProto, feeds: dict[str, np.ndarray], tolerance: float = 2e-6) -> Session:
    """Our outputs are onnxruntime's: names, types, shapes, and numbers to the tolerance."""
    session = compiled(model)
    ours, theirs = session.run(feeds), onnxruntime_outputs(model, feeds)
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (expected.dtype, expected.shape), name
        assert_close(ours[name], expected, tolerance)
    return session
