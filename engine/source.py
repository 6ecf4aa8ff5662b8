"""Where graphs come from: a Source knows a model's signature and makes its Graph for given input shapes."""

from __future__ import annotations

import dataclasses as dc
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .backend import DeviceArray, device_array
from .errors import ModelError
from .graph import Graph
from .tensor import TensorType, dtype_name

Shapes = Mapping[str, tuple[int, ...]]


@dc.dataclass(frozen=True)
class InputSpec:
    """An input as the model declares it; a str or None is a dimension that each run may choose (a name: the same everywhere)."""

    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...]
    typical: tuple[int, ...] | None = None
    """The sizes to compile for when nobody says which, in a model that leaves some open and knows what is usual."""

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    @property
    def shape_in_advance(self) -> tuple[int, ...] | None:
        """The shape to compile for before the first run: the declared or the typical one; None: it must be asked for."""
        return tuple(d for d in self.shape if isinstance(d, int)) if self.is_static else self.typical

    def __str__(self) -> str:
        return f"{self.name}: {dtype_name(self.dtype)}[{','.join('?' if d is None else str(d) for d in self.shape)}]"


class NeedsValues(Exception):  # noqa: N818 - a question, not an error
    """Raised by Source.graph: shapes depend on the values of these inputs; ask again with them."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(f"shapes depend on the values of {', '.join(sorted(names))}")
        self.names = names


class Source(Protocol):
    """A model before its shapes are fixed."""

    name: str
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]

    def graph(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Graph:
        """The graph for these input shapes, with `values` built in as constants. Raises NeedsValues, ModelError, UnsupportedError."""
        ...


@runtime_checkable
class Releasable(Protocol):
    """A Source that can let its weights go."""

    def release(self) -> None:
        """Nobody asks for a graph any more; the signature stays."""
        ...


class GraphSource:
    """A Graph as a Source: its shapes are fixed."""

    def __init__(self, graph: Graph) -> None:
        self.name, self.output_names = graph.name, graph.output_names
        self.inputs = tuple(InputSpec(n.name, n.type.dtype, n.type.shape) for n in graph.inputs)
        self._graph = graph

    def graph(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Graph:
        """The graph itself; ModelError for other shapes than its own."""
        return self._graph


def check_input(spec: InputSpec, array: np.ndarray) -> None:
    """ModelError unless the array has the dtype and a shape that the model declares; names the likely mistake."""
    given = f"{dtype_name(array.dtype)}[{','.join(map(str, array.shape))}]"
    if array.dtype != spec.dtype:
        raise ModelError(f"input {spec.name}: expected dtype {spec.dtype}, got {array.dtype}; convert it with array.astype('{spec.dtype}')")
    if array.ndim != len(spec.shape):
        raise ModelError(f"input {spec}: expected rank {len(spec.shape)}, got {given}{_rank_hint(spec, array)}")
    if any(isinstance(d, int) and d != n for d, n in zip(spec.shape, array.shape, strict=True)):
        raise ModelError(f"input {spec}: got {given}{_order_hint(spec, array)}")


def _rank_hint(spec: InputSpec, array: np.ndarray) -> str:
    if array.ndim == len(spec.shape) - 1:
        return "; is the batch dimension missing? array[None] adds it"
    return ""


def _order_hint(spec: InputSpec, array: np.ndarray) -> str:
    """An image in the other channel order is the most common mistake; say so."""
    for order, name in (((0, 3, 1, 2), "NHWC"), ((0, 2, 3, 1), "NCHW")):
        if array.ndim == 4:
            turned = [array.shape[i] for i in order]
            if all(not isinstance(d, int) or d == n for d, n in zip(spec.shape, turned, strict=True)):
                return f"; it looks like {name} order, turn it with array.transpose{order}"
    return ""


def check_shape(spec: InputSpec, shape: Any) -> tuple[int, ...]:
    """The shape that somebody gives for an input; ModelError unless the model can take it."""
    if not isinstance(shape, tuple | list) or not all(isinstance(d, int | np.integer) and d >= 0 for d in shape):
        raise ModelError(f"shapes: input {spec}: expected a tuple of sizes, got {shape!r}")
    sizes = tuple(map(int, shape))
    check_input(spec, np.broadcast_to(np.zeros((), spec.dtype), sizes))
    return sizes


def check_inputs(specs: Sequence[InputSpec], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs as arrays in the model's order. Raises ModelError when one is missing, unknown, or does not fit."""
    names = [spec.name for spec in specs]
    if not isinstance(inputs, Mapping):
        raise ModelError(f"expected arrays by the names of the inputs ({', '.join(names)}), got {type(inputs).__name__}")
    if missing := [n for n in names if n not in inputs]:
        raise ModelError(f"missing input {', '.join(missing)}; the model takes {', '.join(map(str, specs))}")
    if surplus := [n for n in inputs if n not in names]:
        raise ModelError(f"no input named {', '.join(surplus)}; the model takes {', '.join(map(str, specs))}")
    checked, symbols = {}, dict[str, int]()
    for spec in specs:
        array = _as_array(spec, inputs[spec.name])
        check_input(spec, array)
        for symbol, size in zip(spec.shape, array.shape, strict=True):
            if isinstance(symbol, str) and symbols.setdefault(symbol, size) != size:
                raise ModelError(f"input {spec}: dimension {symbol} is {size} here and {symbols[symbol]} in another input")
        checked[spec.name] = array
    return checked


def _as_array(spec: InputSpec, value: Any) -> Any:
    """As a NumPy array, or as a DeviceArray where it lies on a GPU."""
    try:
        if (elsewhere := device_array(value)) is not None:
            return elsewhere
        return np.from_dlpack(value) if hasattr(value, "__dlpack__") and not hasattr(value, "__array__") else np.asarray(value)
    except ValueError as error:
        raise ModelError(f"input {spec}: expected an array, got {type(value).__name__}: {error}") from error


def check_out(types: Mapping[str, TensorType], out: Mapping[str, Any]) -> list[Any]:
    """The arrays to fill, in the order of the types. Raises ModelError when one is missing, unknown, does not fit, or overlaps another."""
    if wrong := [*(n for n in types if n not in out), *(n for n in out if n not in types)]:
        raise ModelError(f"out: expected arrays for {', '.join(types)}; missing or unknown: {', '.join(map(str, wrong))}")
    given = {name: device_array(array) or array for name, array in out.items()}
    for name, expected in types.items():
        array = given[name]
        if not isinstance(array, np.ndarray | DeviceArray) or (array.dtype, array.shape) != (expected.dtype, expected.shape):
            raise ModelError(f"out[{name!r}]: expected an array {expected}, got {describe(array)}")
        if isinstance(array, DeviceArray):
            continue
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ModelError(f"out[{name!r}]: expected a writeable C-contiguous array, got one with strides {array.strides}")
    here = ((name, array) for name, array in given.items() if isinstance(array, np.ndarray))
    for (one, a), (other, b) in itertools.combinations(here, 2):
        if np.may_share_memory(a, b):
            raise ModelError(f"out: the arrays of {one} and {other} overlap")
    return [given[name] for name in types]


def apart(array: Any, targets: Sequence[Any]) -> Any:
    """The array, or a copy of it where it would be overwritten while it is read; a GPU reads all inputs before it writes."""
    if isinstance(array, DeviceArray) or any(isinstance(t, DeviceArray) for t in targets):
        return array
    return array.copy() if any(np.may_share_memory(array, t) for t in targets) else array


def describe(value: Any) -> str:
    """An array's dtype and shape, else the type of the value."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray | DeviceArray) else type(value).__name__


def specialize(source: Source, inputs: Mapping[str, np.ndarray]) -> Graph:
    """The graph for these inputs. Raises ModelError when they do not fit the model."""
    arrays = check_inputs(source.inputs, inputs)
    shapes, needed = {name: array.shape for name, array in arrays.items()}, frozenset[str]()
    while True:
        try:
            return source.graph(shapes, {name: arrays[name] for name in needed})
        except NeedsValues as question:
            needed |= question.names
