"""LeNet-5 (LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998).

It is the form in common use. The paper's subsampling layers learn a scale and a bias for each map, its third layer connects some of the
maps only, and its output units measure distances.
"""

from __future__ import annotations

from ..frontends.dsl import Value, average_pool, conv, flatten, linear, model, softmax, tanh


@model(image=("batch=1", 1, 28, 28))
def lenet5(image: Value) -> Value:
    """LeNet-5 with all connections, 10 classes (softmax), for images of 28 x 28 in [0, 1]."""
    x = average_pool(tanh(conv(image, 6, 5, pad=2)), 2)
    x = average_pool(tanh(conv(x, 16, 5)), 2)
    x = tanh(linear(flatten(x), 120))
    x = tanh(linear(x, 84))
    return softmax(linear(x, 10))
