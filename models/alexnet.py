"""AlexNet (Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks, 2012; the single tower is from
Krizhevsky: One weird trick for parallelizing convolutional neural networks, 2014).

Parameters of the single tower are named as in torchvision, which has it, too. Their dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, conv, flatten, linear, local_response_norm, max_pool, model, relu


@model(image=("batch=1", 3, "height=227", "width=227"))
def alexnet(image: Value) -> Value:
    """AlexNet in two groups, one for each GPU of its authors, 1000 classes (logits)."""
    x = overlapping_pool(normalised(relu(conv(image, 96, 11, stride=4, name="conv1"))))
    x = overlapping_pool(normalised(relu(conv(x, 256, 5, pad=2, groups=2, name="conv2"))))
    x = relu(conv(x, 384, 3, pad=1, name="conv3"))
    x = relu(conv(x, 384, 3, pad=1, groups=2, name="conv4"))
    x = overlapping_pool(relu(conv(x, 256, 3, pad=1, groups=2, name="conv5")))
    x = relu(linear(flatten(x), 4096, name="fc6"))
    x = relu(linear(x, 4096, name="fc7"))
    return linear(x, 1000, name="fc8")


@model(image=("batch=1", 3, "height=224", "width=224"))
def alexnet_single(image: Value) -> Value:
    """AlexNet as a single tower without normalisation, 1000 classes (logits)."""
    x = overlapping_pool(relu(conv(image, 64, 11, stride=4, pad=2, name="features.0")))
    x = overlapping_pool(relu(conv(x, 192, 5, pad=2, name="features.3")))
    x = relu(conv(x, 384, 3, pad=1, name="features.6"))
    x = relu(conv(x, 256, 3, pad=1, name="features.8"))
    x = overlapping_pool(relu(conv(x, 256, 3, pad=1, name="features.10")))
    x = relu(linear(flatten(x), 4096, name="classifier.1"))
    x = relu(linear(x, 4096, name="classifier.4"))
    return linear(x, 1000, name="classifier.6")


def overlapping_pool(x: Value) -> Value:
    """Windows of 3 that are 2 apart."""
    return max_pool(x, 3, stride=2)


def normalised(x: Value) -> Value:
    """x / (2 + 1e-4 * sum of squares over 5 channels around) ^ 0.75; the layer takes the factor of their mean."""
    return local_response_norm(x, size=5, alpha=5e-4, beta=0.75, bias=2.0)
