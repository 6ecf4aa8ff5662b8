"""Network in Network (Lin, Chen, Yan: Network in network, 2013); layers are named and measured as in the authors' models for Caffe.

Dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, average_pool, conv, flatten, global_average_pool, max_pool, model, relu


@model(image=("batch=1", 3, "height=32", "width=32"))
def nin_cifar10(image: Value) -> Value:
    """Network in Network for CIFAR-10, 10 classes (logits)."""
    x = max_pool(mlpconv(image, 1, (192, 160, 96), 5, pad=2), 3, stride=2, ceil=True)
    x = average_pool(mlpconv(x, 2, (192, 192, 192), 5, pad=2), 3, stride=2, ceil=True)
    x = mlpconv(x, 3, (192, 192, 10), 3, pad=1)
    return flatten(global_average_pool(x))


@model(image=("batch=1", 3, "height=224", "width=224"))
def nin_imagenet(image: Value) -> Value:
    """Network in Network for ImageNet, 1000 classes (logits)."""
    x = max_pool(mlpconv(image, 1, (96, 96, 96), 11, stride=4), 3, stride=2, ceil=True)
    x = max_pool(mlpconv(x, 2, (256, 256, 256), 5, pad=2), 3, stride=2, ceil=True)
    x = max_pool(mlpconv(x, 3, (384, 384, 384), 3, pad=1), 3, stride=2, ceil=True)
    x = mlpconv(x, 4, (1024, 1024, 1000), 3, pad=1)
    return flatten(global_average_pool(x))


def mlpconv(x: Value, number: int, channels: tuple[int, int, int], kernel: int, stride: int = 1, pad: int = 0) -> Value:
    """A small perceptron slides over the map: its first layer sees kernel x kernel positions, the other two are convolutions of 1 x 1"""
    x = relu(conv(x, channels[0], kernel, stride, pad, name=f"conv{number}"))
    x = relu(conv(x, channels[1], 1, name=f"cccp{2 * number - 1}"))
    return relu(conv(x, channels[2], 1, name=f"cccp{2 * number}"))
