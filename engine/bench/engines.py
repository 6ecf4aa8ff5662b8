"""The engines that read ONNX themselves: each a function `Task -> Runner`, ours by name, yours by entry point or as MODULE:FUNCTION."""

from __future__ import annotations

import dataclasses as dc
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import plugins
from ..compiler import compile
from ..errors import ModelError

OURS = "tilewright"

Runner = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]
"""Runs the model once: arrays by input name → the outputs in the model's order."""


@dc.dataclass(frozen=True)
class Task:
    """What an engine shall make ready."""

    path: str
    """An ONNX file."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of all inputs."""
    dimensions: Mapping[str, int]
    """The size of every dimension that the model leaves open and names."""
    threads: int
    accuracy: str = "fast"
    """Tilewright's; what others compute in is the model's own precision."""
    tune: bool = False
    """Of Tilewright: before it is timed."""


Engine = Callable[[Task], Runner]


def tilewright(task: Task) -> Runner:
    """The cpu backend of this package."""
    session = compile(task.path, threads=task.threads, shapes=dict(task.shapes), accuracy=task.accuracy, tune=task.tune)
    return lambda inputs: list(session.run(inputs).values())


def onnxruntime(task: Task) -> Runner:
    """Its CPU kernels with all graph optimisations."""
    package = _package("onnxruntime")
    options = package.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = package.GraphOptimizationLevel.ORT_ENABLE_ALL
    for name, size in task.dimensions.items():
        options.add_free_dimension_override_by_name(name, size)
    session = package.InferenceSession(task.path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def openvino(task: Task) -> Runner:
    """Its CPU plug-in for latency, in float32: left to itself it computes in bfloat16 where the processor can."""
    core = _package("openvino").Core()
    model = core.read_model(task.path)
    if model.is_dynamic():
        model.reshape({name: list(shape) for name, shape in task.shapes.items()})
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": task.threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", hints)
    request, count = compiled.create_infer_request(), len(compiled.outputs)

    def run(inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        request.infer(inputs, share_inputs=True, share_outputs=True)
        return [request.get_output_tensor(i).data for i in range(count)]

    return run


BUILT_IN: dict[str, Engine] = {engine.__name__: engine for engine in (tilewright, onnxruntime, openvino)}


def available() -> list[str]:
    """Every plain name that `find` knows."""
    return sorted({*BUILT_IN, *(point.name for point in plugins.entry_points("engines"))})


def check(names: Sequence[str]) -> None:
    """ModelError for names that nobody offers; imports none of the engines."""
    if unknown := [name for name in names if ":" not in name and name not in available()]:
        raise ModelError(f"no {', '.join(map(repr, unknown))} among the engines: {', '.join(available())}, or MODULE:FUNCTION")


def find(name: str) -> Engine:
    """The engine of that name: an entry point `tilewright.engines`, one of ours, or MODULE:FUNCTION of a module that can be imported."""
    check([name])
    module, colon, function = name.partition(":")
    if colon:
        return getattr(importlib.import_module(module), function)
    return next((point.load() for point in plugins.entry_points("engines") if point.name == name), None) or BUILT_IN[name]


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise plugins.missing_package(error.name or name, f"the engine {name}") from error
