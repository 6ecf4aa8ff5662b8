"""Random small networks through the default order, and through the passes in random order: the numbers stay."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import pytest
from passes_builder import batchnorm, constant, conv, given, graph

from tilewright.engine.compiler import optimize
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Constant, Graph, Node
from tilewright.engine.ops import (
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    Gather,
    MatMul,
    MaxPool,
    Pad,
    Pointwise,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
    pointwise,
)
from tilewright.engine.rewrite import run_passes
from tilewright.passes.default import default

SEEDS = range(60)
UNARY = ("relu", "sigmoid", "silu", "tanh", "abs", "neg", "hard_swish")


class Network:
    """Grows a graph node by node; every value keeps four axes, (n, c, h, w) or channels last."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = [given(2, 4, 6, 5), given(2, 3, 6, 5, name="y")]
        steps: list[Callable[[Node], Node | None]] = [
            *[self.conv, self.batchnorm, self.unary, self.add, self.affine, self.pool, self.concat, self.transpose] * 2,
            *[
                self.transposed,
                self.shuffle,
                self.pad,
                self.pad,
                self.pad,
                self.slice,
                self.gather,
                self.softmax,
                self.gate,
                self.resize,
                self.dense,
                self.turned,
                self.oriented,
                self.masked,
            ],
        ]
        # What passes look for stands on these more often than chance would have it.
        on: dict[type[Node], list[Callable[[Node], Node | None]]] = {
            Pad: [self.conv, self.pool],
            Concat: [self.concat, self.half],
            Conv: [self.add, self.add, self.batchnorm, self.unary, self.oriented],
        }
        while len(self.nodes) < 22:
            x = self.pick()
            follow = on.get(type(x), steps) if self.rng.random() < 0.6 else steps
            made = follow[self.rng.integers(len(follow))](x)
            if made is not None and made.type.size <= 4000:
                self.nodes.append(made)

    def pick(self) -> Node:
        """Recent nodes more often, so that chains form."""
        back = min(int(self.rng.exponential(1.5)), len(self.nodes) - 1)
        return self.nodes[-1 - back]

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def conv(self, x: Node) -> Node | None:
        c, h, w = x.type.shape[1:]
        kernel, groups = self.number(1, 4), int(self.rng.choice([1, 2, c]))
        if c % groups or min(h, w) < 3:
            return None
        settings = {} if self.rng.random() < 0.6 else {"pads": ((0, 0), (0, 0)), "strides": (self.number(1, 3), 1)}
        return conv(x, k=groups * self.number(1, 4), kernel=kernel, groups=groups, bias=self.rng.random() < 0.6, **settings)

    def turned(self, x: Node) -> Node | None:
        """A convolution over the channels in the opposite order."""
        c = x.type.shape[1]
        return self.conv(Slice(x, starts=(0, c - 1, 0, 0), sizes=x.type.shape, steps=(1, -1, 1, 1)))

    def masked(self, x: Node) -> Node | None:
        """A convolution that sees neither below nor to the right."""
        weight, pads = constant(self.number(1, 5), x.type.shape[1], 3, 3), ((1, self.number(0, 3)), (1, 1))
        weight.data[..., 2:, :], weight.data[..., 1, 2:] = 0, 0
        return Conv(x, weight, pads=pads) if min(x.type.shape[2:]) > 1 else None

    def transposed(self, x: Node) -> Node | None:
        c = x.type.shape[1]
        groups = 2 if c % 2 == 0 else 1
        return ConvTranspose(x, constant(c, 2, 2, 3), constant(2 * groups), groups=groups, strides=(1, 2), pads=((0, 1), (1, 1)))

    def batchnorm(self, x: Node) -> Node:
        return batchnorm(x, shift=self.rng.random() < 0.7)

    def unary(self, x: Node) -> Node:
        return pointwise(str(self.rng.choice(UNARY)), x)

    def add(self, x: Node) -> Node | None:
        others = [n for n in self.nodes if n.type.shape == x.type.shape]
        return pointwise(str(self.rng.choice(["add", "mul", "max"])), x, others[self.number(0, len(others))])

    def affine(self, x: Node) -> Node:
        channel = constant(x.type.shape[1], 1, 1)
        value = (channel, pointwise("exp", channel), constant(1, 1, 1), 0.75, 4.0)[self.number(0, 5)]
        operands = (x, value) if self.rng.random() < 0.5 else (value, x)
        return pointwise(str(self.rng.choice(["add", "sub", "mul"])), *operands)

    def gate(self, x: Node) -> Node:
        return pointwise("mul", x, pointwise("sigmoid", Reduce(x, kind="mean", axes=(2, 3))))

    def pool(self, x: Node) -> Node | None:
        if min(x.type.shape[2:]) < 2:
            return None
        pads = ((self.number(0, 2), 1), (0, self.number(0, 2)))
        kind = MaxPool if self.rng.random() < 0.5 else AveragePool
        return kind(x, kernel=(2, 2), strides=(self.number(1, 3), 1), pads=pads)

    def concat(self, x: Node) -> Node:
        axis = x.axis if isinstance(x, Concat) else self.number(1, 4)
        fits = [n for n in self.nodes if all(a == b for i, (a, b) in enumerate(zip(n.type.shape, x.type.shape, strict=True)) if i != axis)]
        return Concat(tuple(fits[i] for i in self.rng.integers(0, len(fits), self.number(1, 3))) + (x,), axis=axis)

    def transpose(self, x: Node) -> Node:
        choices = ((0, 2, 3, 1), (0, 3, 1, 2), (0, 3, 2, 1), (0, 1, 2, 3))
        return Transpose(x, permutation=choices[self.number(0, 4)])

    def shuffle(self, x: Node) -> Node | None:
        n, c, h, w = x.type.shape
        if c % 2:
            return None
        split = Reshape(x, shape=(n, 2, c // 2, h, w))
        return Reshape(Transpose(split, permutation=(0, 2, 1, 3, 4)), shape=(n, c, h, w))

    def oriented(self, x: Node) -> Node | None:
        """Channels as pairs, with one number for each of them or a pool over what lies behind."""
        n, c, h, w = x.type.shape
        if c % 2 or min(h, w) < 2:
            return None
        split = Reshape(x, shape=(n, c // 2, 2, h, w))
        numbers = constant(c // 2, 1, 1, 1) if self.rng.random() < 0.7 else constant(2, 1, 1)
        y = pointwise("mul", split, numbers) if self.rng.random() < 0.7 else MaxPool(split, kernel=(1, 2, 2))
        return Reshape(y, shape=(n, c, *y.type.shape[3:]))

    def pad(self, x: Node) -> Node:
        channels = (0, int(self.rng.random() < 0.3))
        value = float(self.rng.choice([0.0, 0.0, 0.5]))
        return Pad(x, pads=((0, 0), channels, (1, 0), (self.number(0, 3), 1)), value=value)

    def slice(self, x: Node) -> Node:
        sizes = tuple(self.number(max(1, n - 1), n + 1) for n in x.type.shape)
        starts = tuple(self.number(0, n - s + 1) for n, s in zip(x.type.shape, sizes, strict=True))
        return Slice(x, starts=starts, sizes=sizes, steps=(1, 1, 1, 1))

    def half(self, x: Node) -> Node:
        shape = x.type.shape
        axis = x.axis if isinstance(x, Concat) else 1
        first = x.operands[0].type.shape[axis] if isinstance(x, Concat) else 1
        sizes = tuple(first if a == axis else n for a, n in enumerate(shape))
        return Slice(x, starts=(0,) * 4, sizes=sizes, steps=(1,) * 4)

    def gather(self, x: Node) -> Node:
        axis = self.number(1, 4)
        return Gather(x, Constant(self.rng.permutation(x.type.shape[axis])[: self.number(1, 5)]), axis=axis)

    def softmax(self, x: Node) -> Node:
        return Softmax(x, axis=self.number(1, 4))

    def resize(self, x: Node) -> Node:
        n, c, h, w = x.type.shape
        return Resize(x, shape=(n, c, 2 * h, w), scales=(1.0, 1.0, 2.0, 1.0), mode="linear")

    def dense(self, x: Node) -> Node:
        return MatMul(x, constant(x.type.shape[3], 3))

    def graph(self) -> Graph:
        read = {o for n in self.nodes for o in n.operands}
        return graph(*(n for n in self.nodes if n not in read), self.nodes[12])


def assert_same(before: Graph, after: Graph, rng: np.random.Generator) -> None:
    values = [rng.standard_normal(i.type.shape) for i in before.inputs]
    for want, got in zip(evaluate(before, values), evaluate(after, values), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_default_order_keeps_the_numbers_and_adds_no_nodes(seed: int, rng: np.random.Generator) -> None:
    before = widen(Network(seed).graph())
    after = optimize(before)
    assert_same(before, after, rng)
    assert sum(not isinstance(n, Constant) for n in after) <= sum(not isinstance(n, Constant) for n in before)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_keeps_the_numbers(seed: int, rng: np.random.Generator) -> None:
    before = widen(Network(1000 + seed).graph())
    order = [default[i] for i in np.random.default_rng(seed).permutation(len(default))]
    passes = [getattr(importlib.import_module(f"tilewright.passes.{name}"), name) for name in order]
    assert_same(before, run_passes(before, passes), rng)


def test_random_networks_contain_what_every_pass_works_on() -> None:
    from tilewright.engine.rewrite import Report

    report = Report()
    for seed in SEEDS:
        optimize(Network(seed).graph(), None, report)
    idle = {"unroll_recurrent"}
    assert {name for name, count in report.rewrites.items() if count == 0} == idle


def test_pointwise_is_in_every_random_network() -> None:
    assert all(Network(seed).graph().find(Pointwise) for seed in SEEDS)
