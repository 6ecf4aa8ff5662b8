"""conv_transpose(x, w)  =>  interleave(conv(x, phases of w)): the phases of a transposed convolution as channels of one vector

A transposed convolution to few channels, the last of a generator, fills few lanes with each of its phases. Where all phases fit one
vector, a single convolution computes them together. It has the taps of all, which must be fewer than they have one by one.
"""

from __future__ import annotations

import math

import numpy as np

from ...engine.graph import Constant, Graph, Node, op
from ...engine.ops import Conv, ConvTranspose
from ...engine.tensor import TensorType
from ..common.geometry import Axis, adjoint_weight, phases
from .copies import copy
from .epilogue import is_direct
from .kernel import Call, Machine, lowers
from .layout import Answer, Layout, rule
from .view import View


@op
class Interleave(Node):
    """y[n, c, q*s + p] = x[n, c*S + p, q] for the steps s of the spatial axes, S of them in all."""

    x: Node
    steps: tuple[int, ...]

    def infer(self) -> TensorType:
        n, c, *spatial = self.x.type.shape
        grown = (extent * step for extent, step in zip(spatial, self.steps, strict=True))
        return TensorType(self.x.type.dtype, (n, c // math.prod(self.steps), *grown))

    @property
    def split(self) -> tuple[int, ...]:
        """(n, c, h, s, w, s): the result with every spatial axis as two."""
        pairs = zip(self.x.type.shape[2:], self.steps, strict=True)
        return (*self.type.shape[:2], *(part for pair in pairs for part in pair))

    @property
    def order(self) -> list[int]:
        """The axes (n, c, *steps, *spatial) in the order of `split`."""
        rank = len(self.steps)
        return [0, 1, *(axis for i in range(rank) for axis in (2 + rank + i, 2 + i))]

    def reference(self, x: np.ndarray) -> np.ndarray:
        apart = x.reshape(x.shape[0], -1, *self.steps, *x.shape[2:])
        return apart.transpose(self.order).reshape(self.type.shape)


@rule(Interleave)
def _interleave(node: Interleave, now: tuple[Layout, ...], lanes: int) -> Answer:
    return Answer(now, None)


@lowers(Interleave)
def lower_interleave(node: Interleave, machine: Machine) -> list[Call]:
    """One copy."""
    steps, count = node.steps, math.prod(node.steps)
    each = [math.prod(steps[i + 1 :]) for i in range(len(steps))]
    source = View.of(node.x).along(1, 0, 1).spread(1, (node.type.shape[1], *steps), (count, *each))
    return copy(source.transpose(node.order), View.of(node, TensorType(node.type.dtype, node.split)), machine)


def join_phases(graph: Graph, lanes: int) -> Graph:
    """The graph with the phases of transposed convolutions in one convolution, where that has fewer taps and one vector of channels."""
    new: dict[Node, Node] = {}
    for old in graph:
        node = old.map_operands(new.__getitem__)
        new[old] = _joined(node, lanes) or node if isinstance(node, ConvTranspose) else node
    return graph.with_outputs([new[o] for o in graph.outputs])


def _joined(node: ConvTranspose, lanes: int) -> Node | None:
    channels, spatial, count = node.type.shape[1], node.type.shape[2:], math.prod(node.strides)
    weight, bias = node.weight, node.bias
    if not is_direct(node) or not isinstance(weight, Constant) or not isinstance(bias, Constant | None) or node.extras or node.groups > 1:
        return None
    if count == 1 or channels * count > lanes or any(extent % step for extent, step in zip(spatial, node.strides, strict=True)):
        return None
    every = phases(node)
    reach = [_reach([axes[i] for axes in every]) for i in range(len(spatial))]
    pads = tuple((-low, axis.count - 1 + high - (axis.size - 1)) for (low, high), axis in zip(reach, every[0], strict=True))
    kernel = tuple(high - low + 1 for low, high in reach)
    if math.prod(kernel) >= math.prod(node.kernel) or any(pad < 0 for pair in pads for pad in pair):
        return None
    joined = _weight(adjoint_weight(weight.data, 1), every, [low for low, _ in reach], kernel)
    repeated = None if bias is None else bias.replace(data=np.repeat(bias.data, count))
    conv = Conv(node.x, weight.replace(data=joined), repeated, pads=pads, epilogue=node.epilogue, origin=node.origin)
    return Interleave(conv, node.strides, origin=node.origin)


def _reach(axes: list[Axis]) -> tuple[int, int]:
    """The lowest and the highest offset that any of these reads at."""
    offsets = [tap.offset for axis in axes for tap in axis.taps]
    return min(offsets), max(offsets)


def _weight(dense: np.ndarray, every: list[tuple[Axis, ...]], lowest: list[int], kernel: tuple[int, ...]) -> np.ndarray:
    """(k*phases, c, *kernel): each phase's taps where its offsets are, zero elsewhere."""
    joined = np.zeros((dense.shape[0], len(every), dense.shape[1], *kernel), dense.dtype)
    for phase, axes in enumerate(every):
        to = np.ix_(*([tap.offset - low for tap in axis.taps] for axis, low in zip(axes, lowest, strict=True)))
        of = np.ix_(*([tap.index for tap in axis.taps] for axis in axes))
        joined[:, phase][:, :, *to] = dense[:, :, *of]
    return joined.reshape(-1, dense.shape[1], *kernel)
