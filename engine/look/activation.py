"""Class activation maps: of networks that end in pooling and a linear layer (Zhou et al. 2016), and Score-CAM (Wang et al. 2020)."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Iterable

import numpy as np

from ..evaluate import evaluate
from ..expression import IDENTITY
from ..graph import Graph, Input, Node, reachable
from ..ops import AveragePool, Conv, MatMul, Reduce, Reshape, Softmax, Transpose
from .picture import Picture, enlarged


@dc.dataclass(frozen=True)
class Head:
    """score of a class = mean over positions of sum over channels of weights * features, + bias."""

    features: Node
    """What is averaged over its positions."""
    axes: tuple[int, ...]
    """Those of the positions."""
    weights: np.ndarray
    """They broadcast over the features."""
    bias: float

    def activation(self, features: np.ndarray) -> np.ndarray:
        """The class activation map (h, w); its mean plus the bias is the score of the class."""
        channels = tuple(axis for axis in range(features.ndim) if axis not in self.axes)
        return (features.astype(np.float64) * self.weights).sum(channels)


def find_head(output: Node, target: int) -> Head | None:
    """The head behind the output that holds the scores of one picture; None where there is anything but pooling and linear layers.

    It goes backwards from the score of the class: `weights` says by how much each element of `node` counts for it.
    """
    node, bias = output, 0.0
    weights = np.eye(1, output.type.size, target).reshape(output.type.shape)
    while isinstance(node, Softmax | Reshape):
        node = node.x
        weights = weights.reshape(node.type.shape)
    while not _is_global_average(node):
        step = _before(node, weights)
        if step is None:
            return None
        node, weights, more = step
        bias += more
    (pooled,), axes = node.operands, node.axes if isinstance(node, Reduce) else (2, 3)
    kept = [1 if axis in axes else n for axis, n in enumerate(pooled.type.shape)]
    return Head(pooled, axes, weights.reshape(kept), bias)


def _before(node: Node, weights: np.ndarray) -> tuple[Node, np.ndarray, float] | None:
    """The operand of a linear node, what its elements count, and what the bias adds."""
    match node:
        case Reshape(x):
            return x, weights.reshape(x.type.shape), 0.0
        case Transpose(x):
            return x, weights.transpose(np.argsort(node.permutation)), 0.0
        case MatMul(a, b, bias, ()) if node.epilogue == IDENTITY and b.type.rank == 2 and is_known(b, bias):
            return a, weights @ known(b).T, _added(weights.reshape(-1, b.type.shape[1]), bias)
        case Conv(x, weight, bias, ()) if node.epilogue == IDENTITY and _is_linear(node) and is_known(weight, bias):
            matrix = known(weight).reshape(weight.type.shape[:2])
            return x, (weights.reshape(1, -1) @ matrix).reshape(x.type.shape), _added(weights.reshape(1, -1), bias)
    return None


def _is_linear(node: Conv) -> bool:
    """A convolution of one tap over one position of one picture."""
    return (
        node.x.type.size == node.x.type.shape[1] and set(node.kernel) == {1} and node.type.size == node.type.shape[1] and node.groups == 1
    )


def _added(weights: np.ndarray, bias: Node | None) -> float:
    return 0.0 if bias is None else float((weights * known(bias)).sum())


def _is_global_average(node: Node) -> bool:
    """The mean over two axes of a value of rank four, by either operator."""
    if isinstance(node, AveragePool):
        whole = node.x.type.shape[2:]
        return len(whole) == 2 and node.kernel == whole and node.type.shape[2:] == (1, 1) and not np.any(node.pads)
    return isinstance(node, Reduce) and node.kind == "mean" and node.x.type.rank == 4 and len(node.axes) == 2 and 0 not in node.axes


def is_known(*nodes: Node | None) -> bool:
    """Whether they depend on no input."""
    return not any(isinstance(n, Input) for node in nodes if node is not None for n in reachable([node]))


def known(node: Node) -> np.ndarray:
    """The value of a node that depends on no input."""
    return evaluate(Graph((), (node,), ("value",)), [])[0].astype(np.float64)


def score_cam(
    probabilities: Callable[[Iterable[np.ndarray]], np.ndarray], picture: Picture, features: np.ndarray, target: int
) -> np.ndarray:
    """relu(sum over channels of weight * features) for features (c, h, w).

    The weight of a channel is its share of the probabilities of the class when only what the channel answers to is left of the picture.
    """
    masks = (picture.plane(_between_0_and_1(enlarged(channel, picture.extent))) for channel in features)
    asked = probabilities((picture.array[0] * mask).astype(picture.array.dtype) for mask in masks)[:, target]
    return np.maximum(np.tensordot(asked / (asked.sum() or 1.0), features, 1), 0)


def _between_0_and_1(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def most_active(features: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the channels (c, h, w) whose mean magnitude is largest, the largest first."""
    strength = np.abs(features.astype(np.float64)).mean((1, 2))
    return np.argsort(-strength, kind="stable")[:count]
