"""Recurrent layers over a sequence, in ONNX's equations, gate order and shapes (layout 0).

x (time, batch, features), weight (directions, gates*h, features), recurrent (directions, gates*h, h), bias (directions, 2*gates*h)
or None, lengths (batch,) or None, initial states (directions, batch, h) or None (zeros). Results: every state
(time, directions, batch, h), zero after the end of a shorter sequence, and the last state of each (directions, batch, h).
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from .. import expression as ex
from ..errors import ModelError
from ..expression import IDENTITY, Expression, apply
from ..graph import Node, op
from ..tensor import TensorType

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""For each direction whether it runs from the end to the start."""

ACTIVATIONS: dict[str, tuple[tuple[float, ...], Callable[..., Expression]]] = {
    "relu": ((), lambda: apply("relu", IDENTITY)),
    "tanh": ((), lambda: apply("tanh", IDENTITY)),
    "sigmoid": ((), lambda: apply("sigmoid", IDENTITY)),
    "softsign": ((), lambda: apply("softsign", IDENTITY)),
    "softplus": ((), lambda: apply("softplus", IDENTITY)),
    "leakyrelu": ((0.01,), lambda alpha: apply("leaky_relu", IDENTITY, alpha)),
    "thresholdedrelu": ((1.0,), lambda alpha: apply("where", apply("less", alpha, IDENTITY), IDENTITY, 0)),
    "elu": ((1.0,), lambda alpha: apply("elu", IDENTITY, alpha)),
    "affine": ((1.0, 0.0), lambda alpha, beta: IDENTITY * alpha + beta),
    "scaledtanh": ((1.0, 1.0), lambda alpha, beta: apply("tanh", IDENTITY * beta) * alpha),
    "hardsigmoid": ((0.2, 0.5), lambda alpha, beta: apply("hard_sigmoid", IDENTITY, alpha, beta)),
}
"""ONNX's name in lower case: the defaults of alpha and beta, as far as it has them, and the expression."""


@op
class Recurrent(Node):
    """What RNN, GRU and LSTM have in common."""

    x: Node
    weight: Node
    recurrent: Node
    bias: Node | None = None
    lengths: Node | None = None
    hidden: Node | None = None
    _: dc.KW_ONLY
    direction: str = "forward"
    activations: tuple[str, ...] = ()
    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    clip: float | None = None

    gates: ClassVar[int]
    default_activations: ClassVar[tuple[str, ...]]
    activation_uses: ClassVar[tuple[int, ...]]
    """How many gates or states go through each activation."""

    def infer(self) -> tuple[TensorType, ...]:
        return check_recurrent(self)

    def reference(self, x: Any, weight: Any, recurrent: Any, bias: Any, lengths: Any, hidden: Any) -> tuple[Any, ...]:
        return run(self, x, directions_of(self, weight, recurrent, bias), lengths, (hidden,))

    def step(self, part: Direction, x: np.ndarray, states: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """The next states of one direction from one time step of x."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def flops(self) -> int:
        """Two matrix products a step, the sums of the gates, and their functions."""
        time, directions, batch, h = self.types[0].shape
        sums = 2 * directions * self.gates
        functions = sum(n * ex.flops(f) for d in activation_expressions(self) for n, f in zip(self.activation_uses, d, strict=True))
        return 2 * self.multiply_adds() + time * batch * h * (sums + functions)

    def multiply_adds(self) -> int:
        time, directions, batch, h = self.types[0].shape
        return time * batch * h * directions * self.gates * (self.x.type.shape[2] + h)


@op
class RNN(Recurrent):
    """Y, Y_h: h' = f(x W^T + h R^T + bias)."""

    gates = 1
    default_activations = ("Tanh",)
    activation_uses = (1,)

    def step(self, part: Direction, x: np.ndarray, states: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        (f,) = part.activations
        return (f(x @ part.weight.T + states[0] @ part.recurrent.T + part.bias_x + part.bias_h),)


@op
class GRU(Recurrent):
    """Y, Y_h: z, r = f(x W^T + h R^T + bias); n = g(x W^T + (r*h) R^T + bias); h' = (1-z)*n + z*h.

    With `linear_before_reset` n = g(x W^T + bias_w + r*(h R^T + bias_r)).
    """

    _: dc.KW_ONLY
    linear_before_reset: bool = False

    gates = 3
    default_activations = ("Sigmoid", "Tanh")
    activation_uses = (2, 1)

    def step(self, part: Direction, x: np.ndarray, states: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        (h,), (f, g) = states, part.activations
        from_z, from_r, from_n = np.split(x @ part.weight.T + part.bias_x, 3, axis=-1)
        recurrent_z, recurrent_r, recurrent_n = np.split(part.recurrent, 3)
        bias_z, bias_r, bias_n = np.split(part.bias_h, 3)
        z = f(from_z + h @ recurrent_z.T + bias_z)
        r = f(from_r + h @ recurrent_r.T + bias_r)
        inner = r * (h @ recurrent_n.T + bias_n) if self.linear_before_reset else (r * h) @ recurrent_n.T + bias_n
        return ((1 - z) * g(from_n + inner) + z * h,)


@op
class LSTM(Recurrent):
    """Y, Y_h, Y_c: i, o, f = f(x W^T + h R^T + bias + p*c); c' = f*c + i*g(x W^T + h R^T + bias); h' = o*h(c').

    The peephole p (directions, 3*h; gates i, o, f) sees the old c, and for o the new one. `input_forget`: f = 1 - i.
    As in onnxruntime, `clip` bounds what goes into the gates, not the cell that goes into the last activation.
    """

    cell: Node | None = None
    peephole: Node | None = None
    _: dc.KW_ONLY
    input_forget: bool = False

    gates = 4
    default_activations = ("Sigmoid", "Tanh", "Tanh")
    activation_uses = (3, 1, 1)

    def infer(self) -> tuple[TensorType, ...]:
        y, last = check_recurrent(self)
        check_operand("cell", self.cell, last)
        check_operand("peephole", self.peephole, TensorType(last.dtype, (last.shape[0], 3 * last.shape[2])))
        return y, last, last

    def step(self, part: Direction, x: np.ndarray, states: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        (h, c), (f, g, last) = states, part.activations
        summed = x @ part.weight.T + h @ part.recurrent.T + part.bias_x + part.bias_h
        input_gate, output_gate, forget_gate, candidate = np.split(summed, 4, axis=-1)
        peep_i, peep_o, peep_f = np.split(part.peephole, 3)
        i = f(input_gate + peep_i * c)
        forget = 1 - i if self.input_forget else f(forget_gate + peep_f * c)
        cell = forget * c + i * g(candidate)
        return f(output_gate + peep_o * cell) * last(cell), cell

    def reference(
        self, x: Any, weight: Any, recurrent: Any, bias: Any, lengths: Any, hidden: Any, cell: Any = None, peephole: Any = None
    ) -> tuple[Any, ...]:
        return run(self, x, directions_of(self, weight, recurrent, bias, peephole), lengths, (hidden, cell))


@dc.dataclass(frozen=True)
class Direction:
    """The arrays and functions of one direction; the two halves of the bias apply to x and to h."""

    backwards: bool
    weight: np.ndarray
    recurrent: np.ndarray
    bias_x: np.ndarray
    bias_h: np.ndarray
    peephole: np.ndarray
    activations: tuple[Callable[[Any], Any], ...]


def activation_expressions(node: Recurrent) -> tuple[tuple[Expression, ...], ...]:
    """For each direction its activations over operand 0; alphas and betas go, in order, to those functions that have them."""
    names = node.activations or node.default_activations * len(DIRECTIONS[node.direction])
    alphas, betas = iter(node.activation_alpha), iter(node.activation_beta)
    found = []
    for name in names:
        defaults, build = ACTIVATIONS[name.lower()]
        found.append(build(*(next(given, default) for default, given in zip(defaults, (alphas, betas), strict=False))))
    count = len(node.default_activations)
    return tuple(tuple(found[i : i + count]) for i in range(0, len(found), count))


def check_recurrent(node: Recurrent) -> tuple[TensorType, TensorType]:
    """The types of all states and of the last one, once operands and attributes are known to fit; else ModelError."""
    x, weight, recurrent = node.x.type, node.weight.type, node.recurrent.type
    if node.direction not in DIRECTIONS:
        raise ModelError(f"expected a direction among {', '.join(DIRECTIONS)}, got {node.direction!r}")
    if (x.rank, weight.rank, recurrent.rank) != (3, 3, 3) or x.dtype.kind != "f":
        raise ModelError("expected floating-point x, weight and recurrent weight of rank 3")
    (time, batch, features), directions, h = x.shape, len(DIRECTIONS[node.direction]), recurrent.shape[2]
    last = TensorType(x.dtype, (directions, batch, h))
    check_operand("weight", node.weight, TensorType(x.dtype, (directions, node.gates * h, features)))
    check_operand("recurrent", node.recurrent, TensorType(x.dtype, (directions, node.gates * h, h)))
    check_operand("bias", node.bias, TensorType(x.dtype, (directions, 2 * node.gates * h)))
    check_operand("hidden", node.hidden, last)
    if node.lengths is not None and (node.lengths.type.shape != (batch,) or node.lengths.type.dtype.kind != "i"):
        raise ModelError(f"expected integer lengths of shape ({batch},), got {node.lengths.type}")
    check_activations(node, directions)
    return TensorType(x.dtype, (time, directions, batch, h)), last


def check_operand(name: str, node: Node | None, expected: TensorType) -> None:
    """ModelError unless the operand is absent or of that type."""
    if node is not None and node.type != expected:
        raise ModelError(f"expected {name} {expected}, got {node.type}")


def check_activations(node: Recurrent, directions: int) -> None:
    """ModelError unless the activations are known and as many as the directions need."""
    if len(node.activations) not in (0, directions * len(node.default_activations)):
        raise ModelError(f"expected {directions * len(node.default_activations)} activations, got {node.activations}")
    if unknown := [name for name in node.activations if name.lower() not in ACTIVATIONS]:
        raise ModelError(f"no activation named {', '.join(unknown)}; there are {', '.join(ACTIVATIONS)}")


def directions_of(
    node: Recurrent, weight: np.ndarray, recurrent: np.ndarray, bias: np.ndarray | None, peephole: np.ndarray | None = None
) -> Iterator[Direction]:
    """The operands split by direction, absent ones as zeros, and the activations as functions that clip what goes in."""
    h = recurrent.shape[2]
    bounds = None if node.clip is None else (-node.clip, node.clip)
    for d, expressions in enumerate(activation_expressions(node)):
        halves = np.zeros((2, node.gates * h), weight.dtype) if bias is None else bias[d].reshape(2, -1)
        peep = np.zeros(3 * h, weight.dtype) if peephole is None else peephole[d]
        # The third function, which only LSTM has, sees the cell and not the sum of a gate.
        functions = tuple(_function(expression, bounds if i < 2 else None) for i, expression in enumerate(expressions))
        yield Direction(DIRECTIONS[node.direction][d], weight[d], recurrent[d], halves[0], halves[1], peep, functions)


def _function(expression: Expression, bounds: tuple[float, float] | None) -> Callable[[Any], Any]:
    if bounds is None:
        return lambda value: ex.evaluate(expression, [value])
    return lambda value: ex.evaluate(expression, [np.clip(value, *bounds)])


def run(
    node: Recurrent, x: np.ndarray, parts: Iterator[Direction], lengths: np.ndarray | None, initial: tuple[np.ndarray | None, ...]
) -> tuple[np.ndarray, ...]:
    """Every direction over the whole sequence; a sequence that has ended keeps its state and gives zeros."""
    time, directions, batch, h = node.types[0].shape
    y = np.zeros((time, directions, batch, h), x.dtype)
    last = [np.zeros((directions, batch, h), x.dtype) if s is None else s.copy() for s in initial]
    ends = np.full(batch, time) if lengths is None else lengths
    for d, part in enumerate(parts):
        states = tuple(s[d] for s in last)
        for t in reversed(range(time)) if part.backwards else range(time):
            alive = (t < ends)[:, None]
            states = tuple(np.where(alive, new, old) for new, old in zip(node.step(part, x[t], states), states, strict=True))
            y[t, d] = np.where(alive, states[0], 0)
        for final, state in zip(last, states, strict=True):
            final[d] = state
    return y, *last
