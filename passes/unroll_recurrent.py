"""lstm|gru|rnn(x, w, r, b, h, c)  =>  for each of a few time steps: matmul(x_t, wᵀ) + matmul(h, rᵀ) + b, then pointwise gates"""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ..engine import expression as ex
from ..engine.graph import Constant, Graph, Node, Result
from ..engine.ops import GRU, LSTM, RNN, Concat, MatMul, Pointwise, Reshape, Slice, Transpose, pointwise
from ..engine.ops.recurrent import DIRECTIONS, activation_expressions
from ..engine.rewrite import skip

MOST_STEPS = 16
"""Time steps, over all directions, up to which a layer is spelled out; a longer one stays a loop."""


def unroll_recurrent(graph: Graph) -> Graph:
    spelled: dict[Node, tuple[Node, ...]] = {}
    new: dict[Node, Node] = {}
    for old in graph:
        node = old.map_operands(lambda o: new.get(o, o))
        if isinstance(old, Result) and old.node in spelled:
            node = spelled[old.node][old.index]
        elif isinstance(node, RNN | GRU | LSTM) and _is_short(node):
            spelled[old] = tuple(n.replace(origin=n.origin or node.origin) for n in _Layer(node).results())
        new[old] = node
    return graph.with_outputs([new[o] for o in graph.outputs]) if spelled else graph


def _is_short(node: RNN | GRU | LSTM) -> bool:
    steps = node.types[0].shape[0] * node.types[0].shape[1]
    if node.lengths is not None or steps > MOST_STEPS:
        skip("sequence lengths are data" if node.lengths is not None else f"{steps} steps, more than {MOST_STEPS}")
        return False
    return True


@dc.dataclass
class _Direction:
    """The operands of one direction as nodes; the weights transposed."""

    weight: Node
    recurrent: Node
    bias_x: Node | None
    bias_h: Node | None
    hidden: Node | None
    cell: Node | None
    peephole: Node | None
    activations: tuple[ex.Expression, ...]


class _Layer:
    """Builds the nodes of one layer."""

    def __init__(self, node: RNN | GRU | LSTM) -> None:
        self.node = node
        self.time, self.directions, self.batch, self.h = node.types[0].shape

    def results(self) -> tuple[Node, ...]:
        """Y, Y_h and, of an LSTM, Y_c."""
        outputs: list[list[Node]] = [[] for _ in range(self.time)]
        last: list[list[Node]] = []
        for d in range(self.directions):
            states = self.run(d, outputs)
            last.append([Reshape(s, shape=(1, self.batch, self.h)) for s in states])
        steps = [self.joined([Reshape(y, shape=(1, 1, self.batch, self.h)) for y in at], 1) for at in outputs]
        finals = [self.joined(list(per_state), 0) for per_state in zip(*last, strict=True)]
        return self.joined(steps, 0), *finals

    def joined(self, parts: list[Node], axis: int) -> Node:
        return parts[0] if len(parts) == 1 else Concat(tuple(parts), axis=axis)

    def run(self, d: int, outputs: list[list[Node]]) -> tuple[Node, ...]:
        """All steps of one direction; the states after the last."""
        part = self.direction(d)
        features = self.node.x.type.shape[2]
        flat = Reshape(self.node.x, shape=(self.time * self.batch, features))
        products = MatMul(flat, part.weight, part.bias_x, origin=self.node.origin)
        h, c = part.hidden, part.cell
        for t in reversed(range(self.time)) if DIRECTIONS[self.node.direction][d] else range(self.time):
            x = rows(products, t * self.batch, self.batch)
            match self.node:
                case LSTM():
                    h, c = self.lstm_step(self.node, part, x, h, c)
                case GRU():
                    h = self.gru_step(self.node, part, x, h)
                case _:
                    h = self.activate(self.plus_recurrent(x, h, part.recurrent, part.bias_h), part.activations[0])
            outputs[t].append(h)
        assert h is not None
        return (h,) if c is None else (h, c)

    def direction(self, d: int) -> _Direction:
        node, gates, h = self.node, self.node.gates, self.h
        bias = None if node.bias is None else Reshape(layer(node.bias, d), shape=(2, gates * h))
        halves = (None, None) if bias is None else tuple(Reshape(rows(bias, i, 1), shape=(gates * h,)) for i in range(2))
        cell, peephole = (node.cell, node.peephole) if isinstance(node, LSTM) else (None, None)
        zero = Constant(np.zeros((self.batch, h), node.x.type.dtype))
        return _Direction(
            Transpose(layer(node.weight, d), permutation=(1, 0)),
            Transpose(layer(node.recurrent, d), permutation=(1, 0)),
            *halves,
            hidden=None if node.hidden is None else layer(node.hidden, d),
            cell=(zero if cell is None else layer(cell, d)) if isinstance(node, LSTM) else None,
            peephole=None if peephole is None else Reshape(layer(peephole, d), shape=(1, 3 * h)),
            activations=activation_expressions(node)[d],
        )

    def activate(self, x: Node, activation: ex.Expression) -> Node:
        """The activation of a gate, over the clipped sum."""
        inner = ex.IDENTITY if self.node.clip is None else ex.apply("clip", ex.IDENTITY, -self.node.clip, self.node.clip)
        return Pointwise((x,), expression=ex.substitute(activation, [inner]))

    def plus_recurrent(self, x: Node, h: Node | None, recurrent: Node, bias: Node | None) -> Node:
        """x + h r + bias; before the first step without an initial state h is zero."""
        if h is None:
            return x if bias is None else pointwise("add", x, bias)
        return MatMul(h, recurrent, bias, (x,), epilogue=ex.Operand(0) + ex.Operand(1), origin=self.node.origin)

    def lstm_step(self, node: LSTM, part: _Direction, x: Node, h: Node | None, c: Node | None) -> tuple[Node, Node]:
        assert c is not None
        f, g, last = part.activations
        summed = self.plus_recurrent(x, h, part.recurrent, part.bias_h)
        input_sum, output_sum, forget_sum, candidate = (columns(summed, i * self.h, self.h) for i in range(4))
        i = self.activate(self.peep(part, 0, c, input_sum), f)
        forget = pointwise("sub", 1, i) if node.input_forget else self.activate(self.peep(part, 2, c, forget_sum), f)
        cell = pointwise("add", pointwise("mul", forget, c), pointwise("mul", i, self.activate(candidate, g)))
        output = self.activate(self.peep(part, 1, cell, output_sum), f)
        return pointwise("mul", output, Pointwise((cell,), expression=last)), cell

    def peep(self, part: _Direction, gate: int, cell: Node, summed: Node) -> Node:
        """The sum of a gate that also sees the cell."""
        if part.peephole is None:
            return summed
        return pointwise("add", summed, pointwise("mul", columns(part.peephole, gate * self.h, self.h), cell))

    def gru_step(self, node: GRU, part: _Direction, x: Node, h: Node | None) -> Node:
        f, g = part.activations
        h = h or Constant(np.zeros((self.batch, self.h), node.x.type.dtype))
        from_z, from_r, from_n = (columns(x, i * self.h, self.h) for i in range(3))
        weights = [columns(part.recurrent, i * self.h, self.h) for i in range(3)]
        biases = [None if part.bias_h is None else vector(part.bias_h, i * self.h, self.h) for i in range(3)]
        z = self.activate(self.plus_recurrent(from_z, h, weights[0], biases[0]), f)
        r = self.activate(self.plus_recurrent(from_r, h, weights[1], biases[1]), f)
        if node.linear_before_reset:
            inner = pointwise("add", from_n, pointwise("mul", r, MatMul(h, weights[2], biases[2])))
        else:
            inner = self.plus_recurrent(from_n, pointwise("mul", r, h), weights[2], biases[2])
        candidate = pointwise("mul", pointwise("sub", 1, z), self.activate(inner, g))
        return pointwise("add", candidate, pointwise("mul", z, h))


def layer(x: Node, index: int) -> Node:
    """x[index] along the first axis."""
    shape = x.type.shape
    one = Slice(x, starts=(index, *[0] * (len(shape) - 1)), sizes=(1, *shape[1:]), steps=(1,) * len(shape))
    return Reshape(one, shape=shape[1:])


def rows(x: Node, start: int, count: int) -> Node:
    """x[start : start + count] of a matrix."""
    return Slice(x, starts=(start, 0), sizes=(count, x.type.shape[1]), steps=(1, 1))


def columns(x: Node, start: int, count: int) -> Node:
    """x[:, start : start + count] of a matrix."""
    return Slice(x, starts=(0, start), sizes=(x.type.shape[0], count), steps=(1, 1))


def vector(x: Node, start: int, count: int) -> Node:
    """x[start : start + count] of a vector."""
    return Slice(x, starts=(start,), sizes=(count,), steps=(1,))
