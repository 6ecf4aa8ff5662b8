"""Tracing: while a model function runs, every layer takes its name and its parameters from the trace of this context."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses as dc
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import ParamSpec, TypeVar

import numpy as np

from ...engine.errors import ModelError
from .initial import Initial

P = ParamSpec("P")
R = TypeVar("R")


@dc.dataclass(frozen=True)
class Parameter:
    """A learned array of a model: its name in the scopes where it was asked for, and how it starts."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    initial: Initial
    statistic: bool = False
    """Measured while training, not learned: the running mean and variance of a batch norm."""


class Trace:
    """One run of a model function. It lives in the context of that run only, so that traces in other threads do not meet it."""

    def __init__(self, name: str, data: Callable[[Parameter], np.ndarray]) -> None:
        self.name, self.data = name, data
        self.parameters: dict[str, Parameter] = {}
        self.arrays: dict[str, np.ndarray] = {}
        """What each parameter is, by its name."""
        self.given: dict[str, np.ndarray] = {}
        """Arrays that replace the initial ones, by the full name of their parameter."""
        self._path: list[str] = []
        self._count: Counter[str] = Counter()

    @property
    def scope(self) -> str:
        """The path of the layer that is being traced, like `layer1.0.conv1`; empty at the top."""
        return ".".join(self._path)

    @property
    def origin(self) -> tuple[str, ...]:
        """What nodes made now are called in messages."""
        return (self.scope or self.name,)

    @contextlib.contextmanager
    def enter(self, name: str) -> Iterator[None]:
        """What happens inside belongs to the scope `name` of the present scope."""
        self._path.append(name)
        try:
            yield
        finally:
            self._path.pop()

    def numbered(self, label: str) -> str:
        """`conv1` for the first conv of the present scope, `conv2` for the next."""
        self._count[self.qualified(label)] += 1
        return f"{label}{self._count[self.qualified(label)]}"

    def qualified(self, name: str) -> str:
        """The full name of something in the present scope."""
        return ".".join([*self._path, name])

    def add(self, parameter: Parameter) -> np.ndarray:
        """Take note of a parameter and find its array. ModelError for a second one of its name and for a given array that does not fit."""
        name = parameter.name
        if name in self.parameters:
            raise ModelError(f"two parameters are named {name!r}; give one of the layers another name: name=...")
        self.parameters[name] = parameter
        self.arrays[name] = fitted(self.given[name], parameter) if name in self.given else self.data(parameter)
        return self.arrays[name]

    def give(self, weights: Mapping[str, np.ndarray]) -> None:
        """Replace the initial arrays of parameters of the present scope; outer scopes have given theirs before, and win."""
        self.given = {self.qualified(name): array for name, array in weights.items()} | self.given

    def check_given(self) -> None:
        """ModelError when an array was given that no parameter took."""
        if unknown := self.given.keys() - self.parameters.keys():
            missing = [name for name in self.parameters if name not in self.given]
            raise ModelError(
                f"model {self.name} has no parameter {_some(sorted(unknown))}; "
                + (f"without an array are {_some(missing)}" if missing else "each of its parameters has an array")
            )


def fitted(array: np.ndarray, parameter: Parameter) -> np.ndarray:
    """A given array in the dtype of its parameter. ModelError when the shape is another or the conversion would change the kind."""
    array = np.asarray(array)
    if array.shape != parameter.shape:
        raise ModelError(f"parameter {parameter.name}: expected shape {parameter.shape}, got {array.shape}")
    if not np.can_cast(array.dtype, parameter.dtype, "same_kind"):
        raise ModelError(f"parameter {parameter.name}: expected dtype {parameter.dtype}, got {array.dtype}")
    return array.astype(parameter.dtype)


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more


running: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("trace", default=None)


def current(what: str) -> Trace:
    """The trace of this context; ModelError outside any."""
    if trace := running.get():
        return trace
    raise ModelError(f"{what} is called outside a model; call it in a function decorated with @model(...)")


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """The layers inside are named `name.conv1`, ...; scopes nest, and "layer1.0" opens two at once."""
    trace = current(f"scope({name!r})")
    if not all(name.split(".")):
        raise ModelError(f"scope: expected a name, or several with dots between them, got {name!r}")
    with trace.enter(name):
        yield


def layer(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of layer functions: each call is a scope of its own, `conv1`, `conv2`, ..., or what its argument `name` says.

    Parameters and operators that the function makes are named after that scope. A function that lets its callers choose
    declares `name: str | None = None`; the decorator alone reads it.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        trace = current(f"{function.__name__}()")
        name = kwargs.get("name") or trace.numbered(function.__name__)
        with trace.enter(str(name)):
            return function(*args, **kwargs)

    return call
