"""ResNeXt (Xie, Girshick, Dollár, Tu, He: Aggregated residual transformations for deep neural networks, 2016).

Parameters are named as in torchvision.
"""

from __future__ import annotations

from functools import partial

from ..frontends.dsl import Value, model
from .resnet import bottleneck, resnet, stages


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnext50_32x4d(image: Value) -> Value:
    """ResNeXt-50 with 32 groups of 4 channels, 1000 classes (logits)."""
    return resnet(image, stages(partial(bottleneck, groups=32, share=4), 3, 4, 6, 3))


@model(image=("batch=1", 3, "height=224", "width=224"))
def resnext101_32x8d(image: Value) -> Value:
    """ResNeXt-101 with 32 groups of 8 channels, 1000 classes (logits)."""
    return resnet(image, stages(partial(bottleneck, groups=32, share=8), 3, 4, 23, 3))
