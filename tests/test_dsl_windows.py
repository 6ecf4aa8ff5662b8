"""Layers that see windows: convolution with given weights, windows as data, and weights of their own at every position."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.evaluate import evaluate
from tilewright.frontends import dsl as nn

random = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def run(function: Any, *arrays: np.ndarray) -> Any:
    """What a function of values gives for these arrays, and on the cpu backend the same."""
    model = nn.model(**{f"x{i}": a.shape for i, a in enumerate(arrays)})(function)
    (expected,) = evaluate(tw.load(model), arrays)
    session = tw.compile(model)
    assert " 0 numpy steps" in session.plan
    np.testing.assert_allclose(session(*arrays), expected, rtol=1e-4, atol=1e-4)
    return expected


def test_convolution_with_given_weights():
    x, weight, bias, mask = normal(2, 4, 7, 6), normal(6, 2, 3, 2), normal(6), normal(6, 2, 3, 2)
    how = {"stride": (2, 1), "pad": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 2}

    def given(x: nn.Value) -> nn.Value:
        return nn.convolve(x, nn.constant(weight) * nn.constant(mask), nn.constant(bias), **how)

    same = nn.model(x=x.shape)(lambda x: nn.conv(x, 6, (3, 2), name="c", **how)).with_weights({"c.weight": weight * mask, "c.bias": bias})
    np.testing.assert_array_equal(run(given, x), evaluate(tw.load(same), [x])[0])


def test_convolution_uses_one_weight_twice():
    x, weight = normal(1, 3, 5, 5), normal(3, 3, 3, 3)

    def twice(x: nn.Value) -> nn.Value:
        shared = nn.parameter("shared", weight.shape, nn.he_normal(27))
        return nn.convolve(nn.relu(nn.convolve(x, shared, pad="same")), shared, pad="same")

    model = nn.model(x=x.shape)(twice)
    assert list(model.declarations()) == ["shared"]
    first = nn.model(x=x.shape)(lambda x: nn.relu(nn.conv(x, 3, 3, pad=1, bias=False, name="c"))).with_weights({"c.weight": weight})
    second = nn.model(x=x.shape)(lambda x: nn.conv(x, 3, 3, pad=1, bias=False, name="c")).with_weights({"c.weight": weight})
    (between,) = evaluate(tw.load(first), [x])
    (found,) = evaluate(tw.load(model.with_weights({"shared": weight})), [x])
    np.testing.assert_array_equal(found, evaluate(tw.load(second), [between])[0])


WINDOWS = [
    ((5, 6), (3, 2), 1, 0, 1),
    ((7, 5), (3, 3), 2, "same", 1),
    ((6, 9), (2, 3), (2, 3), ((1, 0), (2, 1)), (2, 1)),
    ((8,), (3,), 2, 1, 2),
    ((4, 3, 5), (2, 1, 3), 1, (1, 0, 1), 1),
]


@pytest.mark.parametrize(("spatial", "kernel", "stride", "pad", "dilation"), WINDOWS)
def test_unfold(spatial, kernel, stride, pad, dilation):
    """A convolution is the product of its weight as a matrix with the unfolded windows."""
    x, weight = normal(2, 3, *spatial), normal(5, 3, *kernel)
    windows = run(lambda x: nn.unfold(x, kernel, stride, pad, dilation), x)
    expected = run(lambda x: nn.convolve(x, nn.constant(weight), None, stride, pad, dilation), x)
    found = np.moveaxis(np.tensordot(weight.reshape(5, -1), windows, (1, 1)), 0, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


LOCAL = [(*case[:4], bias) for case, bias in zip([WINDOWS[0], WINDOWS[1], WINDOWS[3], WINDOWS[4]], (True, False, True, True), strict=True)]


@pytest.mark.parametrize(("spatial", "kernel", "stride", "pad", "bias"), LOCAL)
def test_locally_connected(spatial, kernel, stride, pad, bias):
    """Position by position its own weights, its own bias."""
    x = normal(2, 3, *spatial)
    model = nn.model(x=x.shape)(lambda x: nn.locally_connected(x, 4, kernel, stride, pad, bias, name="local"))
    learned = model.parameters()
    windows = evaluate(tw.load(nn.model(x=x.shape)(lambda x: nn.unfold(x, kernel, stride, pad))), [x])[0]
    expected = np.zeros((2, 4, *windows.shape[2:]), np.float32)
    for at in itertools.product(*map(range, windows.shape[2:])):
        seen = windows[(slice(None), slice(None), *at)]
        expected[(slice(None), slice(None), *at)] = seen @ learned["local.weight"][at]
        if bias:
            expected[(slice(None), slice(None), *at)] += learned["local.bias"][(slice(None), *at)]
    session = tw.compile(model)
    assert " 0 numpy steps" in session.plan and len(learned) == 1 + bias
    np.testing.assert_allclose(session(x), expected, rtol=1e-4, atol=1e-4)


def test_locally_connected_reads_the_pixels_it_should():
    """Against loops over pixels: no unfold, a kernel of odd shape, strides that leave a rest."""
    x = normal(2, 3, 8, 7)
    model = nn.model(x=x.shape)(lambda x: nn.locally_connected(x, 5, (3, 2), (2, 3), name="local"))
    weight, bias = (model.parameters()[f"local.{name}"] for name in ("weight", "bias"))
    expected = np.zeros((2, 5, 3, 2))
    for n, k, h, w in np.ndindex(expected.shape):
        taps = weight[h, w, :, k].reshape(3, 3, 2)
        expected[n, k, h, w] = bias[k, h, w] + sum(
            x[n, c, 2 * h + r, 3 * w + s] * taps[c, r, s] for c, r, s in itertools.product(range(3), range(3), range(2))
        )
    np.testing.assert_allclose(tw.compile(model)(x), expected, rtol=1e-4, atol=1e-4)
