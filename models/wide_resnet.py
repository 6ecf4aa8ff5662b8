"""Wide ResNet (Zagoruyko, Komodakis: Wide residual networks, 2016); parameters are named as in torchvision."""

from __future__ import annotations

from functools import partial

from ..frontends.dsl import Value, model
from .resnet import bottleneck, resnet, stages


@model(image=("batch=1", 3, "height=224", "width=224"))
def wide_resnet50_2(image: Value) -> Value:
    """ResNet-50 with 3 x 3 convolutions of twice the width, 1000 classes (logits)."""
    return resnet(image, stages(partial(bottleneck, share=128), 3, 4, 6, 3))
