"""Multilayer perceptron (Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout: a simple way to prevent neural networks
from overfitting, 2014).

It is the rectified one of three layers in the paper's results for handwritten digits; dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, flatten, linear, model, relu


@model(image=("batch=1", 1, 28, 28))
def mlp(image: Value) -> Value:
    """Perceptron with three hidden layers of 1024 rectified units, 10 classes (logits), for images of 28 x 28 in [0, 1]."""
    return perceptron(flatten(image), (1024, 1024, 1024, 10))


def perceptron(x: Value, widths: tuple[int, ...]) -> Value:
    """Fully connected layers of these widths, rectified all but the last."""
    for width in widths[:-1]:
        x = relu(linear(x, width))
    return linear(x, widths[-1])
