"""Model: a network as a Python function; and the Source that traces it for the shapes that are asked for."""

from __future__ import annotations

import dataclasses as dc
import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...engine.errors import ModelError
from ...engine.graph import Graph, Input
from ...engine.source import InputSpec, Shapes, check_inputs
from .initial import generator_of
from .trace import Parameter, Trace, current, running
from .value import Value


@dc.dataclass(frozen=True, eq=False)
class Model:
    """A network before its shapes and weights are fixed. Immutable: the `with_...` methods make another one."""

    function: Callable[..., Any]
    inputs: tuple[InputSpec, ...]
    weights: Mapping[str, np.ndarray] = dc.field(default_factory=dict)
    """Arrays that replace the initial ones, by parameter name."""
    seed: int = 0
    """Decides the initial arrays."""

    @property
    def name(self) -> str:
        return self.function.__name__

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.function.__doc__)  # help(model) and the list of models show the function's

    def with_weights(self, weights: Mapping[str, np.ndarray]) -> Model:
        """The same model with these arrays, by parameter name; parameters not named keep what they have.

        Raises ModelError for a name that no parameter has and for an array of another shape than its parameter.
        """
        changed = dc.replace(self, weights={**self.weights, **weights})
        changed.declarations()
        return changed

    def with_seed(self, seed: int) -> Model:
        """The same model with other random initial arrays."""
        return dc.replace(self, seed=seed)

    def with_inputs(self, **shapes: tuple[Any, ...]) -> Model:
        """The same model with other declared shapes: `resnet18.with_inputs(image=("batch=8", 3, 64, 64))`."""
        known = {spec.name: spec for spec in self.inputs}
        if unknown := shapes.keys() - known.keys():
            raise ModelError(f"model {self.name} has no input {', '.join(sorted(unknown))}; it takes {', '.join(map(str, self.inputs))}")
        return dc.replace(self, inputs=tuple((known | {n: _declared(n, s) for n, s in shapes.items()}).values()))

    def declarations(self) -> dict[str, Parameter]:
        """Every parameter by name, at the typical input shapes; no array is made."""
        return _trace(self, _typical(self), _stand_in)[1].parameters

    def parameters(self) -> dict[str, np.ndarray]:
        """The array of every parameter by name, at the typical input shapes."""
        return _trace(self, _typical(self), self.initial)[1].arrays

    def initial(self, parameter: Parameter) -> np.ndarray:
        """The array that a parameter starts with; it depends on its name and shape, this model's seed, and nothing else."""
        return parameter.initial(generator_of(self.seed, parameter.name), parameter.shape).astype(parameter.dtype)

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned, as papers count them: without the running statistics of batch norms."""
        return sum(math.prod(p.shape) for p in self.declarations().values() if not p.statistic)

    @property
    def multiply_adds(self) -> int:
        """Products that convolutions and matrix products sum in one run, at the typical input shapes."""
        return _trace(self, _typical(self), _stand_in)[0].multiply_adds()

    @property
    def source(self) -> str:
        """Where the network comes from: the first parenthesis of its file's docstring; empty if its first paragraph has none."""
        heading = (inspect.getdoc(inspect.getmodule(self.function)) or "").partition("\n\n")[0]
        found = re.search(r"\(([^()]*)\)", " ".join(heading.split()))
        return found[1] if found else ""

    def __call__(self, *values: Value) -> Any:
        """The layers of this model as part of the model that is being traced, under its present scope."""
        trace = current(f"{self.name}()")
        trace.give(self.weights)
        return self.function(*values)

    def __repr__(self) -> str:
        return f"<model {self.name}({', '.join(map(str, self.inputs))})>"


def model(**inputs: tuple[Any, ...]) -> Callable[[Callable[..., Any]], Model]:
    """Decorator: the function that describes a network becomes a Model. It is given a Value an input, in the order written here.

    Each input is its shape: an integer is fixed; "batch=1" is open, called batch, and 1 unless somebody says otherwise. The
    dtype may come first, float32 is assumed: `@model(image=("batch=1", 3, 224, 224), mask=(np.bool_, 224, 224))`.
    The function returns a Value (named "output"), a tuple of them ("output_0", ...) or a dict by output name.
    """
    specs = tuple(_declared(name, shape) for name, shape in inputs.items())
    return lambda function: Model(function, specs)


def _declared(name: str, declared: tuple[Any, ...]) -> InputSpec:
    dtype, shape = np.dtype(np.float32), list(declared) if isinstance(declared, tuple) else [declared]
    if shape and isinstance(shape[0], type | np.dtype):
        dtype = np.dtype(shape.pop(0))
    sizes, typical = [], []
    for extent in shape:
        symbol, _, size = extent.partition("=") if isinstance(extent, str) else ("", "", str(extent))
        if not size.isdecimal() or (isinstance(extent, str) and not symbol.isidentifier()):
            raise ModelError(f'input {name}: expected sizes like 3 or "batch=1", got {extent!r}')
        sizes.append(symbol or int(size))
        typical.append(int(size))
    return InputSpec(name, dtype, tuple(sizes), tuple(typical))


class DslSource:
    """A Model as a Source. It makes every initial array once, however many shapes the model is traced for."""

    def __init__(self, declared: Model) -> None:
        self.name, self.inputs = declared.name, declared.inputs
        self.output_names = _trace(declared, _typical(declared), _stand_in)[0].output_names
        self._model = declared
        self._arrays: dict[tuple[str, tuple[int, ...], np.dtype], np.ndarray] = {}

    def graph(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Graph:
        """The graph for these input shapes. Raises ModelError for shapes that the inputs or the layers do not allow."""
        check_inputs(self.inputs, {s.name: np.broadcast_to(np.zeros((), s.dtype), shapes[s.name]) for s in self.inputs})
        return _trace(self._model, shapes, self._array)[0]

    def _array(self, parameter: Parameter) -> np.ndarray:
        key = parameter.name, parameter.shape, parameter.dtype
        if key not in self._arrays:
            self._arrays[key] = self._model.initial(parameter)
        return self._arrays[key]


def dsl(declared: Any) -> DslSource:
    """The frontend: a function decorated with `@model(...)` as a Source. ModelError for anything else and for a faulty model."""
    if not isinstance(declared, Model):
        raise ModelError(f"expected a path, bytes, a ModelProto, a Graph or a function decorated with @model(...), got {declared!r}")
    return DslSource(declared)


def _typical(declared: Model) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.typical for spec in declared.inputs if spec.typical is not None}


def _stand_in(parameter: Parameter) -> np.ndarray:
    """An array of the right type that takes no memory, for a trace that only wants to know names and shapes."""
    return np.broadcast_to(np.zeros((), parameter.dtype), parameter.shape)


def _trace(declared: Model, shapes: Shapes, data: Callable[[Parameter], np.ndarray]) -> tuple[Graph, Trace]:
    """Run the model function once. Raises ModelError where layers or weights do not fit."""
    trace = Trace(declared.name, data)
    inputs = tuple(Input(name=s.name, shape=tuple(shapes[s.name]), dtype=s.dtype, origin=(s.name,)) for s in declared.inputs)
    token = running.set(trace)
    try:
        outputs = _named(declared, declared(*map(Value, inputs)))
    finally:
        running.reset(token)
    trace.check_given()
    return Graph(inputs, tuple(o.node for o in outputs.values()), tuple(outputs), declared.name), trace


def _named(declared: Model, returned: Any) -> dict[str, Value]:
    outputs = {"output": returned} if isinstance(returned, Value) else returned
    if isinstance(outputs, tuple | list):
        outputs = {f"output_{i}": value for i, value in enumerate(outputs)}
    if not isinstance(outputs, dict) or not outputs or not all(isinstance(v, Value) for v in outputs.values()):
        raise ModelError(f"model {declared.name}: expected a value, a tuple or a dict of values to be returned, got {returned!r}")
    return outputs
