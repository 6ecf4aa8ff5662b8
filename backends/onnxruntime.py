"""onnxruntime behind the backend interface: exports the graph and runs it there; a second opinion, not a way to be fast."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import plugins
from ..engine.backend import Options, delivered
from ..engine.errors import ModelError, UnsupportedError
from ..engine.graph import Graph


class onnxruntime:  # noqa: N801 - a plug-in is found by its name
    """Needs the package onnxruntime. It knows `threads`; precision and target are refused."""

    name = "onnxruntime"

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        if self.options.precision or self.options.target or self.options.tune:
            raise ModelError("the onnxruntime backend knows neither precision nor target nor tune")
        try:
            self._package: Any = importlib.import_module("onnxruntime")
        except ModuleNotFoundError as error:
            raise plugins.missing_package("onnxruntime", "the onnxruntime backend") from error

    def compile(self, graph: Graph) -> _Exported:
        return _Exported(graph, self._package, self.options.threads)


class _Exported:
    def __init__(self, graph: Graph, package: Any, threads: int | None) -> None:
        self.graph, self._version = graph, package.__version__
        options = package.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        model = plugins.load("frontends", "onnx.export")(graph).SerializeToString()
        try:
            self._session = package.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a dozen exception classes without a common base
            raise UnsupportedError(f"onnxruntime {self._version} does not take the exported graph: {error}") from error

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        feeds = {node.name: np.asarray(array, order="C") for node, array in zip(self.graph.inputs, inputs, strict=True)}
        return delivered(self._session.run(list(self.graph.output_names), feeds), out)

    def describe(self) -> str:
        return f"the exported graph, run by onnxruntime {self._version}"

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.run(inputs)
            times.append(time.perf_counter() - start)
        return [("the whole graph", float(np.median(times)))]
