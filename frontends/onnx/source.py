"""An ONNX model as a Source: its signature now, its graph once input shapes are known."""

from __future__ import annotations

import importlib
import pathlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...engine.errors import CompilerBug, ModelError
from ...engine.graph import Constant, Graph, Input, Node
from ...engine.source import InputSpec, Shapes, Source
from .importer import Importer, Names, Scope, Unknown
from .load import load_proto
from .parse import Model, parse_model
from .problems import missing, report

for _module in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
    if _module.name.startswith("ops_"):  # each puts its converters into the table of convert.py
        importlib.import_module(f"{__package__}.{_module.name}")


def onnx(model: Any) -> Source:
    """The Source of a path, the bytes or the `onnx.ModelProto` of a model in ONNX, opset 7 or newer.

    Initialisers that are listed as inputs are weights, not inputs. Declared result shapes are not read. Raises ModelError
    for a file that is missing or damaged, UnsupportedError with all operators for which there is no converter.
    """
    with load_proto(model) as (proto, files):
        parsed = parse_model(proto, files)
    if problems := missing(parsed):
        raise report(problems)
    return OnnxSource(parsed)


class OnnxSource:
    """A parsed model. Its weights are the same nodes in every graph it makes."""

    def __init__(self, model: Model) -> None:
        self.name, self.inputs, self.output_names = model.name, model.inputs, model.body.outputs
        self._model: Model | None = model

    def release(self) -> None:
        """Let the weights go; no graph can be made any more."""
        self._model = None

    def graph(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Graph:
        """The graph for these input shapes. Raises NeedsValues, ModelError or UnsupportedError, as in engine.source."""
        model = self._model
        if model is None:
            raise CompilerBug(f"the weights of {self.name} have been released")
        inputs = tuple(Input(name=s.name, shape=_fitting(s, shapes), dtype=s.dtype) for s in self.inputs)
        given = {name: Constant(np.asarray(array), origin=(name,)) for name, array in values.items()}
        names: Names = {**{node.name: node for node in inputs}, **model.body.constants, **given}
        importer = Importer(model.functions)
        importer.run(model.body.operations, names, Scope(model.opsets))
        if importer.problems:
            raise report(importer.problems)
        return Graph(inputs, tuple(_output(names, name) for name in self.output_names), self.output_names, self.name)


def _fitting(spec: InputSpec, shapes: Shapes) -> tuple[int, ...]:
    shape = tuple(shapes[spec.name])
    if len(shape) != len(spec.shape) or any(isinstance(d, int) and d != n for d, n in zip(spec.shape, shape, strict=True)):
        raise ModelError(f"input {spec} cannot have the shape {shape}")
    return shape


def _output(names: Names, name: str) -> Node:
    node = names.get(name)
    if node is None or isinstance(node, Unknown):
        raise ModelError(f"output {name!r} is produced by nothing in the model")
    return node
