"""Small networks that end in different ways, and pictures to look at them with."""

from __future__ import annotations

import numpy as np

import tilewright as tw
from tilewright.engine.compiler import load_source
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Graph
from tilewright.engine.images import Preprocessing
from tilewright.engine.look.picture import Picture
from tilewright.engine.look.study import Subject
from tilewright.frontends.dsl import (
    Model,
    Value,
    average_pool,
    conv,
    flatten,
    global_average_pool,
    linear,
    max_pool,
    mean,
    model,
    relu,
    softmax,
    tanh,
    transpose,
)

EXTENT = (11, 13)
COLOURS = Preprocessing(order="bgr", scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def trunk(image: Value) -> Value:
    return relu(conv(max_pool(relu(conv(image, 8, 3, pad=1)), 2), 12, 3, pad=1, name="last"))


@model(image=("batch=1", 3, *EXTENT))
def averaged(image: Value) -> Value:
    return linear(flatten(global_average_pool(trunk(image))), 7, name="fc")


@model(image=("batch=1", 3, *EXTENT))
def averaged_by_a_window(image: Value) -> Value:
    x = trunk(image)
    return softmax(linear(flatten(average_pool(x, x.shape[2:])), 7, name="fc"))


@model(image=("batch=1", 3, *EXTENT))
def averaged_in_two_steps(image: Value) -> Value:
    return linear(linear(mean(trunk(image), (2, 3), keep=False), 9, name="hidden"), 7, name="fc")


@model(image=("batch=1", 3, *EXTENT))
def averaged_with_channels_last(image: Value) -> Value:
    return linear(mean(transpose(trunk(image), (0, 2, 3, 1)), (1, 2), keep=False), 7, name="fc")


@model(image=("batch=1", 3, *EXTENT))
def convolved_after_the_mean(image: Value) -> Value:
    return softmax(conv(global_average_pool(trunk(image)), 7, 1, name="fc"), axis=1)


@model(image=("batch=1", 3, *EXTENT))
def convolved_before_the_mean(image: Value) -> Value:
    return softmax(global_average_pool(relu(conv(trunk(image), 7, 1, name="fc"))), axis=1)


@model(image=("batch=1", 3, *EXTENT))
def flattened(image: Value) -> Value:
    return softmax(linear(flatten(trunk(image)), 7, name="fc"))


@model(image=("batch=1", 3, *EXTENT))
def bent(image: Value) -> Value:
    """Between pooling and classes there is more than a linear layer."""
    return linear(relu(linear(flatten(global_average_pool(trunk(image))), 9)), 7)


@model(image=(1, 3, *EXTENT))
def dense(image: Value) -> Value:
    """No classes, and one picture at a time."""
    return tanh(conv(trunk(image), 2, 1))


def picture(rng: np.random.Generator, how: Preprocessing = COLOURS) -> Picture:
    shape = (1, *EXTENT, 3) if how.layout == "nhwc" else (1, 3, *EXTENT)
    return Picture("image", rng.standard_normal(shape, np.float32), how)


def subject(network: Model, shown: Picture, backend: str = "reference") -> Subject:
    return Subject(load_source(network), {"image": shown.array}, shown, {"backend": backend})


def value(network: Model, image: np.ndarray, name: str) -> np.ndarray:
    """The value of the last node of this name, by its NumPy meaning in float64."""
    graph = tw.load(network)
    node = [n for n in graph if name in n.origin][-1]
    return evaluate(widen(Graph(graph.inputs, (node,), ("value",))), [image])[0]


def scores(network: Model, image: np.ndarray) -> np.ndarray:
    return evaluate(widen(tw.load(network)), [image])[0].reshape(-1)
