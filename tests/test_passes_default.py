"""What the default order makes of the blocks that real networks are built of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from passes_builder import A, B, Make, add, batchnorm, constant, conv, filled, given, graph, relu
from passes_moving import TO_FIRST, TO_LAST, concat, part, residual_channels_last, shuffle, transpose

from tilewright.engine.compiler import optimize
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Graph, Node
from tilewright.engine.ops import Expand, MatMul, MaxPool, Pad, Pointwise, Reduce, Reshape, Softmax, Transpose, pointwise
from tilewright.engine.rewrite import Report


def residual_block() -> Graph:
    """ResNet: two convolutions with batch norms, a projected shortcut, then a block with an identity shortcut."""
    x = given(1, 8, 9, 7)
    y = batchnorm(conv(relu(batchnorm(conv(x, k=16, bias=False, strides=(2, 2)))), k=16, bias=False))
    x = relu(add(y, batchnorm(conv(x, k=16, kernel=1, bias=False, strides=(2, 2)))))
    y = batchnorm(conv(relu(batchnorm(conv(x, k=16, bias=False))), k=16, bias=False))
    return graph(relu(add(y, x)))


def preactivation_block() -> Graph:
    """ResNet v2: the batch norm before a convolution has a relu between and stays, as one region."""
    x = conv(given(1, 8, 9, 7), k=8)
    y = conv(relu(batchnorm(x)), k=8, bias=False)
    return graph(add(x, conv(relu(batchnorm(y)), k=8)))


def shuffle_block() -> Graph:
    """ShuffleNet v2: half of the channels through three convolutions, then concat and shuffle, twice."""
    x: Node = given(1, 12, 6, 5)
    for _ in range(2):
        left, right = part(x, 1, 0, 6), part(x, 1, 6, 6)
        y = relu(batchnorm(conv(right, kernel=1, bias=False)))
        y = relu(batchnorm(conv(batchnorm(conv(y, groups=6, bias=False)), kernel=1, bias=False)))
        x = shuffle(concat(1, left, y), 2)
    return graph(x)


def channels_last_block() -> Graph:
    """As tf2onnx writes it: bias, activation and addition channels last, and a padding of its own before a strided convolution."""
    x = transpose(given(1, 8, 6, 3), *TO_FIRST)
    x = transpose(conv(x, k=4), *TO_LAST)
    x = relu(add(x, constant(4)))
    y = Pad(x, pads=((0, 0), (0, 1), (0, 1), (0, 0)))
    y = transpose(conv(transpose(y, *TO_FIRST), k=4, pads=((0, 0), (0, 0)), strides=(2, 2)), *TO_LAST)
    z = transpose(MaxPool(transpose(x, *TO_FIRST), kernel=(2, 2), strides=(2, 2)), *TO_LAST)
    return graph(Softmax(add(y, z), axis=3))


def squeeze_and_excitation_block() -> Graph:
    """MobileNet v3: a gate computed from the mean, a linear projection, a residual."""
    x = given(1, 6, 5, 7)
    y = pointwise("hard_swish", batchnorm(conv(x, k=12, kernel=1, bias=False)))
    y = batchnorm(conv(y, k=12, groups=12, bias=False))
    gate = Reduce(y, kind="mean", axes=(2, 3))
    gate = pointwise("hard_sigmoid", conv(relu(conv(gate, k=3, kernel=1)), k=12, kernel=1), 0.2, 0.5)
    y = pointwise("hard_swish", pointwise("mul", y, gate))
    return graph(add(x, batchnorm(conv(y, k=6, kernel=1, bias=False))))


def classifier_head() -> Graph:
    """A global mean, a flatten, a matrix product spelled with a transpose, a bias that is expanded."""
    x = Reshape(Reduce(given(2, 6, 5, 7), kind="mean", axes=(2, 3)), shape=(2, 6))
    product = MatMul(x, Transpose(constant(10, 6), permutation=(1, 0)))
    return graph(Softmax(add(product, Expand(constant(10), shape=(1, 10))), axis=1))


def preprocessing() -> Graph:
    """Pixels as they come: mean and deviation go into an unpadded first convolution."""
    x = Pointwise((given(1, 3, 9, 9), constant(3, 1, 1), filled(0.25, 3, 1, 1)), expression=(A / 255.0 - B) / 0.25)
    return graph(relu(batchnorm(conv(x, k=8, bias=False, pads=((0, 0), (0, 0)), strides=(2, 2)))))


BLOCKS: list[Make] = [
    residual_block,
    preactivation_block,
    shuffle_block,
    channels_last_block,
    residual_channels_last,
    squeeze_and_excitation_block,
    classifier_head,
    preprocessing,
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_default_order(block: Make, golden: Callable[[str], None], rng: np.random.Generator) -> None:
    before = block()
    after = optimize(before)
    golden(f"{before}\n=>\n{after}")
    wide = widen(before)
    values = [rng.standard_normal(i.type.shape) for i in wide.inputs]
    [want], [got] = evaluate(wide, values), evaluate(optimize(wide), values)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * np.abs(want).max())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_a_second_run_changes_nothing(block: Make) -> None:
    after, report = optimize(block()), Report()
    assert optimize(after, None, report) is after
    assert not any(report.rewrites.values())


def test_the_ledger_explains_what_stayed() -> None:
    report = Report()
    optimize(preactivation_block(), None, report)
    assert any("2 readers" in str(d) for d in report.declined)
