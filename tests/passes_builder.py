"""Small graphs for the tests of passes: random constants, inputs, and a Graph from its outputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from tilewright.engine.expression import Operand, apply
from tilewright.engine.graph import Constant, Graph, Input, Node, reachable
from tilewright.engine.ops import BatchNorm, Conv, Pointwise, pointwise
from tilewright.engine.verify import verify

Make = Callable[[], Graph]
A, B, C = map(Operand, range(3))
_seeds = [itertools.count(7)]


def given(*shape: int, name: str = "x", dtype: str = "float32") -> Input:
    """A graph input."""
    return Input(name=name, shape=shape, dtype=np.dtype(dtype))


def constant(*shape: int, dtype: str = "float32") -> Constant:
    """Random normal numbers, others at each call until `graph` closes a graph: building one again gives the same."""
    return Constant(np.random.default_rng(next(_seeds[0])).standard_normal(shape).astype(dtype))


def filled(value: float, *shape: int, dtype: str = "float32") -> Constant:
    """One number everywhere."""
    return Constant(np.full(shape, value, dtype))


def integers(*values: int) -> Constant:
    """A list of int64."""
    return Constant(np.array(values, np.int64))


def graph(*outputs: Node) -> Graph:
    """The graph of these outputs, named y0, y1, ..., with the inputs it needs."""
    _seeds[0] = itertools.count(7)
    inputs = tuple(n for n in reachable(outputs) if isinstance(n, Input))
    return verify(Graph(inputs, outputs, tuple(f"y{i}" for i in range(len(outputs)))))


def conv(x: Node, k: int = 6, kernel: int = 3, bias: bool = True, **attributes: object) -> Conv:
    """A convolution with random weights over square kernels, padded to keep the size."""
    attributes = {"pads": ((kernel // 2, kernel // 2),) * 2, "groups": 1, **attributes}
    weight = constant(k, x.type.shape[1] // int(str(attributes["groups"])), kernel, kernel)
    return Conv(x, weight, constant(k) if bias else None, origin=("conv",), **attributes)  # type: ignore[arg-type]


def batchnorm(x: Node, shift: bool = True) -> BatchNorm:
    """A batch norm with random parameters; without `shift` it only scales."""
    c = x.type.shape[1]
    variance = Constant(np.abs(constant(c).data) + np.float32(0.5))
    zero = filled(0, c)
    return BatchNorm(x, constant(c), constant(c) if shift else zero, constant(c) if shift else zero, variance, origin=("norm",))


def relu(x: Node) -> Pointwise:
    """max(x, 0)."""
    return pointwise("relu", x, origin=("relu",))


def add(x: Node, y: Node) -> Pointwise:
    """x + y."""
    return pointwise("add", x, y, origin=("add",))


def gelu_of_sum(x: Node, y: Node) -> Pointwise:
    """An expression over two operands that reads both twice."""
    return Pointwise((x, y), expression=apply("gelu", A + B) * B, origin=("gate",))
