"""What the DSL refuses: every wrong call is a ModelError of one line that names the layer, what it expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.frontends import dsl

nn: Any = dsl
"""Without types: calls that a type checker refuses must be refused without one, too."""
ARRAY = np.ones((4, 3, 3, 3), np.float32)


def integers(*numbers: int) -> Any:
    return nn.constant(np.array(numbers))


WINDOWS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: nn.conv(x, 4, 9), "conv(f32[2,3,5,5], f32[4,3,9,9], f32[4]) (from 'conv1'): the kernel is larger than the padded input"),
    (lambda x: nn.conv(x, -1, 3), "parameter conv1.weight: expected whole numbers from 0 on, got (-1, 3, 3, 3)"),
    (lambda x: nn.conv(x, 4.5, 3), "parameter conv1.weight: expected whole numbers from 0 on, got (4.5, 3, 3, 3)"),
    (lambda x: nn.conv(x, 4, 0), "conv kernel: expected whole numbers from 1 on, got 0"),
    (lambda x: nn.conv(x, 4, "3"), "conv kernel: expected whole numbers from 1 on, got '3'"),
    (lambda x: nn.conv(x, 4, (3, 3, 3)), "conv kernel: expected one number or 2, got (3, 3, 3)"),
    (lambda x: nn.conv(x, 4, 3, stride=0, pad="same"), "conv stride: expected whole numbers from 1 on, got 0"),
    (lambda x: nn.conv(x, 4, 3, dilation=(1, 0)), "conv dilation: expected whole numbers from 1 on, got (1, 0)"),
    (lambda x: nn.conv(x, 4, 3, groups=2), "conv: 3 channels do not divide into 2 groups"),
    (lambda x: nn.conv(x, 4, 3, groups=3), "4 output channels do not divide into 3 groups"),
    (lambda x: nn.conv(x, 4, 3, groups=1.5), "conv: expected whole numbers from 0 on, got 1.5"),
    (lambda x: nn.conv(x, 4, 3, pad="half"), """conv: expected pad as numbers, "same", "valid" or "full", got 'half'"""),
    (lambda x: nn.conv(x, 4, 3, pad=-1), "conv pad: expected whole numbers from 0 on, got -1"),
    (lambda x: nn.conv(x, 4, 3, pad=None), "conv pad: expected whole numbers from 0 on, got None"),
    (lambda x: nn.conv(x, 4, 3, pad=((1, 1, 1), 0)), "conv pad: expected one number or 2, got (1, 1, 1)"),
    (lambda x: nn.conv(x, 4, 3, pad=(1, 2, 3)), "conv: expected pad as one number, 2 numbers or 2 pairs, got (1, 2, 3)"),
    (lambda x: nn.conv(nn.flatten(x), 4, 3), "conv: expected floating-point x (n, c, *spatial), got f32[2,75]"),
    (lambda x: nn.conv(x.astype(np.int32), 4, 3), "conv: expected floating-point x (n, c, *spatial), got i32[2,3,5,5]"),
    (lambda x: nn.convolve(x, ARRAY), "conv: expected a value of the model, got ndarray; constant(...) makes one of an array"),
    (lambda x: nn.convolve(x, nn.constant(ARRAY[:, :2])), "x has 3 channels, the weight expects 2"),
    (lambda x: nn.convolve(x, nn.constant(ARRAY[0])), "same rank"),
    (lambda x: nn.conv_transpose(x, 4, 3, groups=3), "conv_transpose: 4 channels do not divide into 3 groups"),
    (lambda x: nn.conv_transpose(x, 4, 3, pad="same"), "conv_transpose: expected pad as numbers or (before, after) pairs, got 'same'"),
    (lambda x: nn.conv_transpose(x, 4, 3, 2, output_pad=-1), "conv_transpose output_pad: expected whole numbers from 0 on, got -1"),
    (lambda x: nn.max_pool(x, 9), "the kernel is larger than the padded input"),
    (lambda x: nn.max_pool(x, 2, pad=2), "max_pool: pad 2 lets windows of (2, 2) see nothing of x"),
    (lambda x: nn.average_pool(x, (2, 0)), "average_pool kernel: expected whole numbers from 1 on, got (2, 0)"),
    (lambda x: nn.max_pool(nn.flatten(x), 2), "max_pool: expected x (n, c, *spatial), got f32[2,75]"),
    (lambda x: nn.global_average_pool(nn.flatten(x)), "global_average_pool: expected floating-point x (n, c, *spatial), got f32[2,75]"),
    (lambda x: nn.global_max_pool(nn.flatten(x)), "global_max_pool: expected x (n, c, *spatial), got f32[2,75]"),
    (lambda x: nn.adaptive_average_pool(x, 2.5), "adaptive_average_pool: expected whole numbers from 1 on, got 2.5"),
    (lambda x: nn.adaptive_max_pool(x, (1, 2, 3)), "adaptive_max_pool: expected one number or 2, got (1, 2, 3)"),
    (lambda x: nn.adaptive_average_pool(nn.flatten(x), 2), "adaptive_average_pool: expected floating-point x (n, c, *spatial)"),
    (lambda x: nn.fractional_max_pool(x, (5, 3)), "fractional_max_pool: an axis of 5 does not fall into 5 regions"),
    (lambda x: nn.unfold(x, (3, 3, 3)), "unfold kernel: expected one number or 2, got (3, 3, 3)"),
    (lambda x: nn.unfold(x, 9), "unfold: the kernel (9, 9) is larger than the padded input (2, 3, 5, 5)"),
    (lambda x: nn.locally_connected(nn.flatten(x), 4, 3), "locally_connected: expected floating-point x (n, c, *spatial)"),
    (lambda x: nn.unfold(x, 2, stride=0), "unfold stride: expected whole numbers from 1 on, got 0"),
    (lambda x: nn.unfold(nn.flatten(x), 2), "unfold: expected x (n, c, *spatial), got f32[2,75]"),
    (lambda x: nn.resize(x, (7, 7, 7)), "resize: expected one number or 2, got (7, 7, 7)"),
    (lambda x: nn.resize(x, (4, 5), "bilinear"), "expected mode among nearest, linear, cubic, got 'bilinear'"),
    (lambda x: nn.upsample(x, 1.5), "upsample: expected whole numbers from 1 on, got 1.5"),
]
OTHERS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: nn.linear(ARRAY, 3), "linear: expected a value of the model, got ndarray"),
    (lambda x: nn.linear(x.astype(np.int32), 3), "linear: expected floating-point x (n, ..., features), got i32[2,3,5,5]"),
    (lambda x: nn.linear(x[0, 0, 0], 3), "linear: expected floating-point x (n, ..., features), got f32[5]"),
    (lambda x: nn.group_norm(x, 2), "group_norm: 3 channels do not divide into 2 groups"),
    (lambda x: nn.layer_norm(x, 4), "layer_norm: expected axes from -4 to 3, got 4"),
    (lambda x: nn.softmax(x, axis=4), "softmax: expected axes from -4 to 3, got 4"),
    (lambda x: nn.mean(x, "channels"), "mean: expected whole numbers, got 'channels'"),
    (lambda x: nn.flatten(x, 4), "flatten: expected axes from -4 to 3, got 4"),
    (lambda x: nn.reshape(x, (7, -1)), "reshape(f32[2,3,5,5]) (from 'reshape1'): expected a shape of 150 elements, got (7, 21)"),
    (lambda x: nn.reshape(x, (-2, 75)), "reshape: expected whole numbers from -1 on, got (-2, 75)"),
    (lambda x: nn.transpose(x, 1), "expected a permutation of 0 to 3, got (1,)"),
    (lambda x: nn.expand(x, (2, 4, 5, 5)), "expected a shape that f32[2,3,5,5] broadcasts to, got (2, 4, 5, 5)"),
    (lambda x: nn.pad(x, 1), "pad: expected a pair (before, after) for each axis, got 1"),
    (lambda x: nn.pad(x, [0, 0, -1, -1]), "pad: expected whole numbers from 0 on, got -1"),
    (lambda x: nn.split(x, 2), "split: axis 1 of extent 3 does not fall into parts 2"),
    (lambda x: nn.split(x, 0), "split: expected whole numbers from 1 on, got 0"),
    (lambda x: nn.split(x, (-1, 4)), "split: expected whole numbers from 1 on, got (-1, 4)"),
    (lambda x: nn.concat(x, nn.flatten(x)), "shapes that differ only at axis 1"),
    (lambda x: nn.concat([x, x]), "concat: expected a value of the model, got list"),
    (lambda x: nn.embedding(x, 5, 3), "gather(f32[5,3], f32[2,3,5,5]) (from 'embedding1'): expected integer indices"),
    (lambda x: nn.embedding(integers(1), -5, 3), "parameter embedding1.weight: expected whole numbers from 0 on, got (-5, 3)"),
    (lambda x: nn.embedding(integers(4, 5), 5, 3), "expected indices from -5 to 4, got 5"),
    (lambda x: nn.gather(x, np.zeros(3, np.int64)), "gather: expected a value of the model, got ndarray"),
    (lambda x: nn.gather(x, integers(0, 3), axis=1), "expected indices from -3 to 2, got 3"),
    (lambda x: nn.scatter_sum(x, integers(0, 0, 1), 4), "scatter_sum: expected an index for each of the rows (2, 3, 5, 5), got (3,)"),
    (lambda x: nn.scatter_sum(x, integers(0, 1), -4), "scatter_sum: expected whole numbers from 0 on, got -4"),
    (lambda x: nn.parameter("w", (-1,), nn.normal(0, 1)), "parameter w: expected whole numbers from 0 on, got (-1,)"),
    (lambda x: nn.constant("one"), "constant: expected numbers, got dtype <U3"),
    (lambda x: nn.constant([[1], [1, 2]]), "constant: setting an array element with a sequence"),
    (lambda x: x + nn.flatten(x), "do not broadcast"),
    (lambda x: x + "one", "expected numbers that fit dtype float32, got <U3"),
    (lambda x: x @ np.ones((5, 5), np.float32), "matmul: expected a value of the model, got ndarray; constant(...) makes one of an array"),
    (lambda x: x.astype(np.int32) * 0.5, "expected numbers that fit dtype int32, got float64"),
    (lambda x: x if x > 0 else -x, "where(condition, a, b)"),
    (lambda x: x if x == 0 else -x, "where(condition, a, b)"),
    (lambda x: x[0, 7], "in range of a dimension of 3, got 7"),
    (lambda x: x[..., None], "expected slices and integers in range of a dimension of 5, got None"),
    (lambda x: x[0.5:], "expected slices and integers in range of a dimension of 2, got slice(0.5, None, None)"),
    (lambda x: x[:, ::0], "expected slices and integers in range of a dimension of 3, got slice(None, None, 0)"),
    (lambda x: nn.relu(nn.conv(x, 2, 1, name="a") + nn.conv(x, 2, 1, name="a")), "two parameters are named 'a.weight'"),
    (lambda x: nn.scope("").__enter__(), "scope: expected a name, or several with dots between them, got ''"),
    (lambda x: None, "expected a value, a tuple or a dict of values to be returned, got None"),
]


@pytest.mark.parametrize(("function", "message"), [*WINDOWS, *OTHERS])
def test_errors(function: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(tw.ModelError, match=re.escape(message)) as caught:
        tw.load(dsl.model(x=(2, 3, 5, 5))(function))
    assert "\n" not in str(caught.value)
