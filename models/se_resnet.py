"""SE-ResNet (Hu, Shen, Sun: Squeeze-and-excitation networks, 2017); parameters are named as in timm's seresnet50."""

from __future__ import annotations

from functools import partial

from ..frontends.dsl import Value, model, scope
from .blocks import squeeze_excitation
from .resnet import bottleneck, resnet, stages

REDUCTION = 16


@model(image=("batch=1", 3, "height=224", "width=224"))
def se_resnet50(image: Value) -> Value:
    """ResNet-50 whose blocks weigh their channels, 1000 classes (logits)."""
    return resnet(image, stages(partial(bottleneck, attention=weighed_channels), 3, 4, 6, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def se_resnet101(image: Value) -> Value:
    """ResNet-101 whose blocks weigh their channels, 1000 classes (logits)."""
    return resnet(image, stages(partial(bottleneck, attention=weighed_channels), 3, 4, 23, 3))


def weighed_channels(x: Value) -> Value:
    """Squeeze and excitation with a sixteenth of the channels between."""
    with scope("se"):
        return squeeze_excitation(x, x.shape[1] // REDUCTION)
