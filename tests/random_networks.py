"""Random networks for the cpu backend: values of rank 1 to 5, any channel counts and images, views of views, results read many times."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilewright.engine import expression as ex
from tilewright.engine.graph import Constant, Graph, Input, Node, reachable
from tilewright.engine.ops import (
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    Expand,
    Gather,
    MatMul,
    MaxPool,
    Pad,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
    pointwise,
)

CHANNELS = (1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32, 33, 40, 48, 64)
UNARY = ("relu", "sigmoid", "silu", "tanh", "abs", "neg", "hard_swish", "exp", "cos", "reciprocal", "sqrt", "log")
BINARY = ("add", "sub", "mul", "max", "min")
MOST_ELEMENTS = 60_000

Step = Callable[[Node], Node | None]


class RandomNetwork:
    """Grows a graph of about `size` nodes, each of them over values made before; `graph` has several outputs."""

    def __init__(self, seed: int, size: int = 24) -> None:
        self.rng = np.random.default_rng(seed)
        spatial = [int(self.rng.integers(1, 11)) for _ in range(self.number(1, 4))]
        batch = self.choose((1, 1, 1, 2, 3))
        self.nodes: list[Node] = [
            Input(name=f"x{i}", shape=(batch, self.choose(CHANNELS), *spatial), dtype=np.dtype(np.float32)) for i in range(2)
        ]
        names = (
            "conv",
            "conv",
            "depthwise",
            "transposed",
            "pool",
            "unary",
            "binary",
            "binary",
            "affine",
            "gate",
            "concat",
            "concat",
            "nest",
        )
        names += ("slice", "aligned_slice", "split", "reshape", "transpose", "softmax", "reduce", "dense", "product", "pad", "expand")
        names += ("gather", "resize", "fused")
        steps: list[Step] = [getattr(self, name) for name in names]
        while len(self.nodes) < size:
            made = self.choose(steps)(self.pick())
            if made is not None and 0 < made.type.size <= MOST_ELEMENTS:
                self.nodes.append(made)

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def choose(self, options: Sequence[Any]) -> Any:
        return options[self.number(0, len(options))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self) -> Node:
        """Recent values more often, so that chains form."""
        return self.nodes[-1 - min(int(self.rng.exponential(3)), len(self.nodes) - 1)]

    def constant(self, *shape: int, scale: float = 1.0) -> Constant:
        return Constant((scale * self.rng.standard_normal(shape)).astype(np.float32))

    def weight(self, *shape: int) -> Constant:
        return self.constant(*shape, scale=1 / math.sqrt(max(1, math.prod(shape[1:]))))

    def like(self, x: Node) -> Node:
        """Any value of the same shape, perhaps x itself."""
        return self.choose([n for n in self.nodes if n.type.shape == x.type.shape])

    def groups(self, channels: int) -> int:
        return self.choose([g for g in range(1, channels + 1) if channels % g == 0]) if self.chance(0.3) else 1

    def conv(self, x: Node) -> Node | None:
        if x.type.rank not in (3, 4, 5):
            return None
        c, *spatial = x.type.shape[1:]
        groups = self.groups(c)
        kernel = [min(self.choose((1, 1, 3, 3, 2, 5)), n + 2) for n in spatial]
        k = self.choose([c for c in CHANNELS if c % groups == 0] or [groups])
        bias = self.constant(k) if self.chance(0.6) else None
        strides = tuple(self.choose((1, 1, 2, 3)) for _ in spatial)
        pads = tuple((self.number(0, r), self.number(0, r)) if r > 1 else (0, 0) for r in kernel)
        if any(n + sum(p) < r for n, p, r in zip(spatial, pads, kernel, strict=True)):
            return None
        dilations = tuple(self.choose((1, 1, 2)) if n + sum(p) >= 2 * r else 1 for n, p, r in zip(spatial, pads, kernel, strict=True))
        weight = self.weight(k, c // groups, *kernel)
        return Conv(x, weight, bias, strides=strides, pads=pads, dilations=dilations, groups=groups)

    def depthwise(self, x: Node) -> Node | None:
        if x.type.rank not in (3, 4, 5):
            return None
        c, *spatial = x.type.shape[1:]
        weight = self.weight(c, 1, *[3] * len(spatial))
        return Conv(x, weight, self.constant(c), pads=((1, 1),) * len(spatial), strides=(self.choose((1, 2)),) * len(spatial), groups=c)

    def transposed(self, x: Node) -> Node | None:
        if x.type.rank not in (3, 4):
            return None
        c, *spatial = x.type.shape[1:]
        groups = self.groups(c)
        k = self.choose((1, 2, 8, 16, 17))
        weight = self.weight(c, k, *[self.choose((2, 3, 4)) for _ in spatial])
        bias = self.constant(groups * k) if self.chance(0.5) else None
        strides = tuple(self.choose((1, 2, 3)) for _ in spatial)
        return ConvTranspose(x, weight, bias, strides=strides, pads=((0, 1),) * len(spatial), groups=groups)

    def fused(self, x: Node) -> Node | None:
        """A convolution or product with an epilogue over extra operands, as the passes make them."""
        made = self.choose((self.conv, self.dense))(x)
        if made is None or not isinstance(made, Conv | MatMul):
            return None
        shape = made.type.shape
        extras: list[Node] = [n for n in self.nodes if n.type.shape == shape][:1]
        if isinstance(made, Conv):
            extras += [n for n in self.nodes if n.type.shape == (shape[0], shape[1], *[1] * (len(shape) - 2))][:1]
        if self.chance(0.3):
            extras.append(self.constant(*shape))
        function = self.choose(("relu", "sigmoid", "cos", "exp"))
        total = ex.apply(function, ex.apply("clip", ex.IDENTITY, -3.0, 3.0))
        for i in range(len(extras)):
            total = ex.apply(self.choose(BINARY), total, ex.Operand(1 + i))
        return made.replace(extras=tuple(extras), epilogue=total)

    def pool(self, x: Node) -> Node | None:
        if x.type.rank not in (3, 4, 5):
            return None
        spatial = x.type.shape[2:]
        kernel = tuple(min(self.choose((1, 2, 3)), n) for n in spatial)
        pads = tuple((self.number(0, r), self.number(0, r)) for r in kernel)
        settings = {"kernel": kernel, "pads": pads, "strides": tuple(self.number(1, 4) for _ in spatial)}
        if self.chance(0.5):
            return MaxPool(x, **settings)
        return AveragePool(x, **settings, count_include_pad=self.chance(0.5))

    def unary(self, x: Node) -> Node:
        function = self.choose(UNARY)
        if function in ("exp", "cos"):
            return pointwise(function, pointwise("clip", x, -3.0, 3.0))
        if function in ("reciprocal", "sqrt", "log"):
            return pointwise(function, pointwise("add", pointwise("abs", x), 0.5))
        return pointwise(function, x)

    def binary(self, x: Node) -> Node:
        return pointwise(self.choose(BINARY), x, self.like(x))

    def affine(self, x: Node) -> Node | None:
        """With a constant that has any of the extents and 1 elsewhere, perhaps of lower rank."""
        shape = [n if self.chance(0.4) else 1 for n in x.type.shape]
        operands = [x, self.constant(*shape[self.number(0, len(shape) + 1) :])]
        return pointwise(self.choose(BINARY), *(operands if self.chance(0.5) else operands[::-1]))

    def gate(self, x: Node) -> Node | None:
        """Each image and channel by a number of its own."""
        if x.type.rank < 3:
            return None
        return pointwise("mul", x, pointwise("sigmoid", Reduce(x, kind="mean", axes=tuple(range(2, x.type.rank)))))

    def concat(self, x: Node) -> Node | None:
        return self.concat_along(x, self.choose((0, 1, 1, 1, x.type.rank - 1)) % x.type.rank) if x.type.rank else None

    def nest(self, _: Node) -> Node | None:
        """A Concat as an operand of another one."""
        concats = [n for n in self.nodes if isinstance(n, Concat)]
        return self.concat_along(found := self.choose(concats), found.axis) if concats else None

    def concat_along(self, x: Node, axis: int) -> Node:
        rest = [n for i, n in enumerate(x.type.shape) if i != axis]
        fits = [n for n in self.nodes if n.type.rank == x.type.rank and [m for i, m in enumerate(n.type.shape) if i != axis] == rest]
        others = [self.choose(fits) for _ in range(self.number(1, 4))]
        others.insert(self.number(0, len(others) + 1), x)
        return Concat(tuple(others), axis=axis)

    def slice(self, x: Node) -> Node:
        starts, sizes, steps = [], [], []
        for n in x.type.shape:
            step = self.choose((1, 1, 1, 1, 2, -1, -2)) if self.chance(0.5) else 1
            most = (n - 1) // abs(step) + 1
            sizes.append(n if step == 1 and self.chance(0.6) else self.number(1, most + 1))
            span = (sizes[-1] - 1) * abs(step)
            starts.append(self.number(0, n - span) + (span if step < 0 else 0))
            steps.append(step)
        return Slice(x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))

    def aligned_slice(self, x: Node) -> Node | None:
        """Whole blocks of channels, or the end of them."""
        if x.type.rank < 2:
            return None
        n = x.type.shape[1]
        start = self.choose(range(0, n, 8))
        size = self.choose([*range(8, n - start, 8), n - start])
        return self.cut(x, 1, start, size)

    def split(self, x: Node) -> Node | None:
        """One piece along the first axis that is longer than 1: contiguous in a plain value."""
        axis, n = next(((i, n) for i, n in enumerate(x.type.shape) if n > 1), (0, 0))
        start = self.number(0, max(1, n))
        return self.cut(x, axis, start, self.number(1, n - start + 1)) if n else None

    def cut(self, x: Node, axis: int, start: int, size: int) -> Slice:
        starts, sizes = [0] * x.type.rank, list(x.type.shape)
        starts[axis], sizes[axis] = start, size
        return Slice(x, starts=tuple(starts), sizes=tuple(sizes), steps=(1,) * x.type.rank)

    def reshape(self, x: Node) -> Node:
        shape = list(x.type.shape)
        if self.chance(0.4) and len(shape) > 1:
            at = self.number(0, len(shape) - 1)
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        elif len(shape) < 5 and shape:
            at = self.number(0, len(shape))
            factor = self.choose([f for f in range(1, shape[at] + 1) if shape[at] % f == 0])
            shape[at : at + 1] = [factor, shape[at] // factor] if self.chance(0.5) else [shape[at] // factor, factor]
        return Reshape(x, shape=tuple(shape))

    def transpose(self, x: Node) -> Node:
        return Transpose(x, permutation=tuple(self.rng.permutation(x.type.rank).tolist()))

    def softmax(self, x: Node) -> Node | None:
        return Softmax(x, axis=self.number(0, x.type.rank), log=self.chance(0.3)) if x.type.rank else None

    def reduce(self, x: Node) -> Node:
        axes = tuple(i for i in range(x.type.rank) if self.chance(0.4))
        return Reduce(x, kind=self.choose(("sum", "mean", "max", "min")), axes=axes, keepdims=self.chance(0.5))

    def dense(self, x: Node) -> Node | None:
        if x.type.rank < 2:
            return None
        depth, columns = x.type.shape[-1], self.choose(CHANNELS)
        return MatMul(x, self.constant(depth, columns, scale=1 / math.sqrt(depth)), self.constant(columns) if self.chance(0.5) else None)

    def product(self, x: Node) -> Node | None:
        """x by its own transpose, or by another value that fits."""
        if x.type.rank < 2:
            return None
        order = (*range(x.type.rank - 2), x.type.rank - 1, x.type.rank - 2)
        matrices = [n for n in self.nodes if n.type.rank == 2 and n.type.shape[0] == x.type.shape[-1]]
        right = self.choose([Transpose(self.like(x), permutation=order), *matrices[-1:]])
        return pointwise("mul", MatMul(x, right), 1 / x.type.shape[-1])

    def pad(self, x: Node) -> Node | None:
        mode = self.choose(("constant", "constant", "reflect", "edge", "wrap"))
        pads = tuple((self.number(0, min(3, n)), self.number(0, min(3, n))) if self.chance(0.5) else (0, 0) for n in x.type.shape)
        return Pad(x, pads=pads, mode=mode, value=self.choose((0.0, 0.5, -2.0)) if mode == "constant" else 0)

    def expand(self, x: Node) -> Node | None:
        shape = [self.number(1, 20) if n == 1 and self.chance(0.6) else n for n in x.type.shape]
        return Expand(x, shape=(*([self.number(1, 4)] if self.chance(0.2) and len(shape) < 5 else []), *shape))

    def gather(self, x: Node) -> Node | None:
        if x.type.rank < 1:
            return None
        axis = self.choose((min(1, x.type.rank - 1), self.number(0, x.type.rank)))
        n = x.type.shape[axis]
        indices = self.rng.permutation(n)[: self.number(1, n + 1)] if self.chance(0.5) else np.arange(n)[:: self.choose((1, 2, -1))]
        return Gather(x, Constant(np.ascontiguousarray(indices, np.int64)), axis=axis)

    def resize(self, x: Node) -> Node | None:
        if x.type.rank not in (3, 4):
            return None
        n, c, *spatial = x.type.shape
        scales = [self.choose((1.0, 2.0, 1.5)) for _ in spatial]
        shape = (n, c, *(int(s * f) for s, f in zip(spatial, scales, strict=True)))
        return Resize(x, shape=shape, scales=(1.0, 1.0, *scales), mode=self.choose(("nearest", "linear", "cubic")))

    def graph(self) -> Graph:
        """What nobody reads, and some values that others read too, one of them twice."""
        read = {o for n in self.nodes for o in n.operands}
        ends: list[Node] = [n for n in self.nodes if n not in read]
        ends += [self.choose(self.nodes) for _ in range(self.number(0, 4))]
        if self.chance(0.2):
            ends.append(ends[0])
        inputs = tuple(n for n in reachable(ends) if isinstance(n, Input))
        return Graph(inputs, tuple(ends), tuple(f"y{i}" for i in range(len(ends))))
