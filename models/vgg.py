"""VGG (Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition, 2014).

Parameters are named as in torchvision. Its dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..frontends.dsl import Value, batch_norm, conv, flatten, linear, max_pool, model, relu

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the convolutions, all of them 3 x 3, in the five stages between poolings."""
DEPTHS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
"""How many convolutions each stage has, by the columns of the paper's table 1."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def vgg11(image: Value) -> Value:
    """VGG-11 (configuration A), 1000 classes (logits)."""
    return vgg(image, DEPTHS["A"])


@model(image=("batch=1", 3, "height=224", "width=224"))
def vgg13(image: Value) -> Value:
    """VGG-13 (configuration B), 1000 classes (logits)."""
    return vgg(image, DEPTHS["B"])


@model(image=("batch=1", 3, "height=224", "width=224"))
def vgg16(image: Value) -> Value:
    """VGG-16 (configuration D), 1000 classes (logits)."""
    return vgg(image, DEPTHS["D"])


@model(image=("batch=1", 3, "height=224", "width=224"))
def vgg16_bn(image: Value) -> Value:
    """VGG-16 with a batch norm after every convolution, 1000 classes (logits)."""
    return vgg(image, DEPTHS["D"], normalised=True)


@model(image=("batch=1", 3, "height=224", "width=224"))
def vgg19(image: Value) -> Value:
    """VGG-19 (configuration E), 1000 classes (logits)."""
    return vgg(image, DEPTHS["E"])


def vgg(image: Value, depths: tuple[int, ...], classes: int = 1000, normalised: bool = False) -> Value:
    """The stages and three fully connected layers; the first of these is as large as the maps that it reads."""
    x = flatten(stages(image, depths, normalised=normalised)[-1])
    x = relu(linear(x, 4096, name="classifier.0"))
    x = relu(linear(x, 4096, name="classifier.3"))
    return linear(x, classes, name="classifier.6")


def stages(
    image: Value, depths: tuple[int, ...], widths: Sequence[int] = WIDTHS, normalised: bool = False, first_pad: int = 1, ceil: bool = False
) -> list[Value]:
    """What each stage gives after its pooling. Layers are counted as torchvision counts them: a relu and a pooling have numbers, too."""
    x, number, pooled = image, 0, []
    for width, depth in zip(widths, depths, strict=True):
        for _ in range(depth):
            x = conv(x, width, 3, pad=1 if number else first_pad, name=f"features.{number}")
            if normalised:
                x = batch_norm(x, name=f"features.{number + 1}")
            x, number = relu(x), number + (3 if normalised else 2)
        x, number = max_pool(x, 2, ceil=ceil), number + 1
        pooled.append(x)
    return pooled
