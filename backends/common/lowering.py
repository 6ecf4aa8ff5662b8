"""What the lowerings of every generating backend speak in: constant tables, addresses, the answer "no kernel", and who is asked when."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ...engine.graph import Node


class Table:
    """Constant data that a kernel reads: packed weights, offsets. Equal bytes are stored once."""

    def __init__(self, data: np.ndarray) -> None:
        self._data, self.shape, self.dtype = data, data.shape, data.dtype

    @property
    def data(self) -> np.ndarray:
        """The whole array."""
        return self._data

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def write(self, target: np.ndarray) -> None:
        """Fill an array of zeros of this shape and dtype."""
        target[...] = self._data


class LateTable(Table):
    """A table that is written where it belongs, without a copy of its own: `fill` is given zeros of the shape and dtype."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, fill: Callable[[np.ndarray], None]) -> None:
        self.shape, self.dtype, self._fill = shape, dtype, fill

    @property
    def data(self) -> np.ndarray:
        filled = np.zeros(self.shape, self.dtype)
        self._fill(filled)
        return filled

    def write(self, target: np.ndarray) -> None:
        self._fill(target)


@dc.dataclass(frozen=True)
class Address:
    """Somewhere inside a value, a table or scratch memory, in bytes from its start."""

    place: Any
    offset: int = 0


class NoKernel(Exception):  # noqa: N818 - an answer, not an error
    """A lowering declines a node; the message is the reason that the plan shows when nobody else takes it."""


Function = TypeVar("Function", bound=Callable[..., list[Any]])


class Lowerings(dict[type[Node], list[Callable[..., list[Any]]]]):
    """Who lowers which operator: functions `(node, machine) -> calls of kernels` that may raise NoKernel(reason).

    They are asked in the order in which the backend names their modules, whichever of these was imported first.
    """

    def __init__(self, modules: Sequence[str], checked: Callable[[list[Any]], list[Any]] = lambda calls: calls) -> None:
        """`checked` gives the calls back, or raises NoKernel where they cannot be run."""
        super().__init__()
        self._places = {name: place for place, name in enumerate(modules)}
        self._checked = checked

    def register(self, *operators: type[Node]) -> Callable[[Function], Function]:
        """Decorator of a function that lowers these operators."""

        def add(function: Function) -> Function:
            for operator in operators:
                self.setdefault(operator, []).append(function)
                self[operator].sort(key=self._place)
            return function

        return add

    def _place(self, function: Callable[..., Any]) -> int:
        return self._places.get(function.__module__.rpartition(".")[2], len(self._places))

    def lower(self, node: Node, machine: Any) -> list[Any]:
        """The calls of the first lowering that takes the node, none for an empty result; NoKernel with every reason otherwise."""
        if all(kind.size == 0 for kind in node.types):
            return []
        reasons = []
        for lowering in self.get(type(node), []):
            try:
                return self._checked(lowering(node, machine))
            except NoKernel as declined:
                reasons.append(str(declined))
        raise NoKernel("; ".join(reasons) or f"no kernel for {node.opname}")
