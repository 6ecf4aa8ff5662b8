"""SqueezeNet (Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016).

Parameters are named as in torchvision. Its dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, concat, conv, flatten, global_average_pool, max_pool, model, relu, scope

FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""fire2 to fire9 of the paper's table 1: channels of the squeeze layer and of each half of the expand layer."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def squeezenet1_0(image: Value) -> Value:
    """SqueezeNet 1.0, 1000 classes (logits)."""
    return squeezenet(relu(conv(image, 96, 7, stride=2, name="features.0")), (0, 3, 7))


@model(image=("batch=1", 3, "height=224", "width=224"))
def squeezenet1_1(image: Value) -> Value:
    """SqueezeNet 1.1 of its authors: as accurate with 2.4 times fewer products, 1000 classes (logits)."""
    return squeezenet(relu(conv(image, 64, 3, stride=2, name="features.0")), (0, 2, 4))


def squeezenet(x: Value, pooled: tuple[int, ...], classes: int = 1000) -> Value:
    """The fires, with a pooling before those at the positions `pooled`, and a classifier without fully connected layers."""
    number = 2  # torchvision counts the layers one after the other; 0 and 1 are the first convolution and its relu
    for position, (squeezed, expanded) in enumerate(FIRES):
        if position in pooled:
            x, number = max_pool(x, 3, stride=2, ceil=True), number + 1
        with scope(f"features.{number}"):
            x, number = fire(x, squeezed, expanded), number + 1
    return flatten(global_average_pool(relu(conv(x, classes, 1, name="classifier.1"))))


def fire(x: Value, squeezed: int, expanded: int) -> Value:
    """Squeeze by 1 x 1, then expand by 1 x 1 beside 3 x 3"""
    x = relu(conv(x, squeezed, 1, name="squeeze"))
    return concat(relu(conv(x, expanded, 1, name="expand1x1")), relu(conv(x, expanded, 3, pad=1, name="expand3x3")))
