"""DCGAN (Radford, Metz, Chintala: Unsupervised representation learning with deep convolutional generative adversarial networks, 2015).

As PyTorch's example has it, with its parameter names and its 64 features; with 128 the generator starts with the 1024 channels of the
paper's figure 1, whose kernels are 5 x 5.
"""

from __future__ import annotations

from ..frontends.dsl import Value, batch_norm, conv, conv_transpose, flatten, leaky_relu, model, relu, scope, sigmoid, tanh


@model(noise=("batch=1", 100, 1, 1))
def dcgan_generator(noise: Value) -> Value:
    """DCGAN generator: 100 normally distributed numbers to a picture of 3 x 64 x 64 in [-1, 1]."""
    return generator(noise)


@model(image=("batch=1", 3, 64, 64))
def dcgan_discriminator(image: Value) -> Value:
    """DCGAN discriminator: the probability that a picture in [-1, 1] is no generated one."""
    return discriminator(image)


def generator(noise: Value, features: int = 64, channels: int = 3) -> Value:
    """1 x 1 to 4 x 4, 8 x 8, 16 x 16, 32 x 32, 64 x 64"""
    with scope("main"):
        x = relu(batch_norm(conv_transpose(noise, 8 * features, 4, bias=False, name="0"), name="1"))
        for position, times in ((3, 4), (6, 2), (9, 1)):
            x = conv_transpose(x, times * features, 4, stride=2, pad=1, bias=False, name=f"{position}")
            x = relu(batch_norm(x, name=f"{position + 1}"))
        return tanh(conv_transpose(x, channels, 4, stride=2, pad=1, bias=False, name="12"))


def discriminator(image: Value, features: int = 64) -> Value:
    """64 x 64 to 32 x 32, 16 x 16, 8 x 8, 4 x 4, 1 x 1"""
    with scope("main"):
        x = leaky_relu(conv(image, features, 4, stride=2, pad=1, bias=False, name="0"), 0.2)
        for position, times in ((2, 2), (5, 4), (8, 8)):
            x = conv(x, times * features, 4, stride=2, pad=1, bias=False, name=f"{position}")
            x = leaky_relu(batch_norm(x, name=f"{position + 1}"), 0.2)
        return flatten(sigmoid(conv(x, 1, 4, bias=False, name="11")))
