"""LeCun's Net-3 (LeCun: Generalization and network design strategies, 1989): locally connected, no weight is shared."""

from __future__ import annotations

from ..frontends.dsl import Value, flatten, linear, locally_connected, model, tanh


@model(image=("batch=1", 1, 16, 16))
def lecun_net3(image: Value) -> Value:
    """LeCun's Net-3, 10 classes (scores from -1.7 to 1.7), for digits of 16 x 16 in [-1, 1]: no weight is shared."""
    x = squash(locally_connected(image, 1, 3, stride=2, pad="same", name="H1"))
    x = squash(locally_connected(x, 1, 5, stride=2, pad="same", name="H2"))
    return squash(linear(flatten(x), 10, name="output"))


def squash(x: Value) -> Value:
    """The sigmoid that maps 1 to 1 and -1 to -1"""
    return 1.7159 * tanh(2 / 3 * x)
