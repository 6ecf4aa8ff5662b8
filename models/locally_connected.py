"""Locally connected nets (LeCun: Generalization and network design strategies, 1989; Taigman, Yang, Ranzato, Wolf: DeepFace, 2014).

The whole title of the second is "DeepFace: closing the gap to human-level performance in face verification".
"""

from __future__ import annotations

from ..frontends.dsl import Value, conv, flatten, linear, locally_connected, max_pool, model, relu, tanh


@model(image=("batch=1", 1, 16, 16))
def lecun_net3(image: Value) -> Value:
    """Net-3 of LeCun's comparison: ten classes of digits of 16 x 16 in [-1, 1]; no weight is shared."""
    x = squash(locally_connected(image, 1, 3, stride=2, pad="same", name="H1"))
    x = squash(locally_connected(x, 1, 5, stride=2, pad="same", name="H2"))
    return squash(linear(flatten(x), 10, name="output"))


def squash(x: Value) -> Value:
    """The sigmoid that maps 1 to 1 and -1 to -1"""
    return 1.7159 * tanh(2 / 3 * x)


@model(image=("batch=1", 3, 152, 152))
def deepface(image: Value) -> Value:
    """DeepFace, 4030 people (logits), for frontal faces of 152 x 152."""
    x = relu(conv(image, 32, 11, name="C1"))
    x = max_pool(x, 3, stride=2, ceil=True)
    x = relu(conv(x, 16, 9, name="C3"))
    x = relu(locally_connected(x, 16, 9, name="L4"))
    x = relu(locally_connected(x, 16, 7, stride=2, name="L5"))
    x = relu(locally_connected(x, 16, 5, name="L6"))
    x = relu(linear(flatten(x), 4096, name="F7"))
    return linear(x, 4030, name="F8")
