"""Inception v4 (Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the impact of residual connections on learning, 2016).

Parameters are named as in timm. Its dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, concat, model, scope
from .inception import COLUMN, COLUMN_OF_7, ROW, ROW_OF_7, VALID, chain, classified, crossed, halved, pool_branch, rectified


@model(image=("batch=1", 3, "height=299", "width=299"))
def inception_v4(image: Value) -> Value:
    """Inception v4 as its figure 9 shows it, 1000 classes (logits)."""
    x = stem(image)
    for number, block in enumerate(4 * [inception_a] + [reduction_a] + 7 * [inception_b] + [reduction_b] + 3 * [inception_c], start=6):
        with scope(f"features.{number}"):
            x = block(x)
    return classified(x, name="last_linear")


def stem(image: Value) -> Value:
    """Figure 3: (3, 299, 299) to (384, 35, 35)"""
    x = chain(image, "features.{}", (32, 3, 2, VALID), (32, 3, 1, VALID), (64, 3))
    with scope("features.3"):
        x = concat(halved(x), rectified(x, 96, 3, 2, VALID, name="conv"))
    with scope("features.4"):
        x = concat(
            chain(x, "branch0.{}", (64, 1), (96, 3, 1, VALID)),
            chain(x, "branch1.{}", (64, 1), (64, ROW_OF_7), (64, COLUMN_OF_7), (96, 3, 1, VALID)),
        )
    with scope("features.5"):
        return concat(rectified(x, 192, 3, 2, VALID, name="conv"), halved(x))


def inception_a(x: Value) -> Value:
    """Figure 4: the 35 x 35 grid, 384 channels"""
    return concat(
        rectified(x, 96, 1, name="branch0"),
        chain(x, "branch1.{}", (64, 1), (96, 3)),
        chain(x, "branch2.{}", (64, 1), (96, 3), (96, 3)),
        pool_branch(x, 96, "branch3.1"),
    )


def inception_b(x: Value) -> Value:
    """Figure 5: the 17 x 17 grid, 1024 channels"""
    return concat(
        rectified(x, 384, 1, name="branch0"),
        chain(x, "branch1.{}", (192, 1), (224, ROW_OF_7), (256, COLUMN_OF_7)),
        chain(x, "branch2.{}", (192, 1), (192, COLUMN_OF_7), (224, ROW_OF_7), (224, COLUMN_OF_7), (256, ROW_OF_7)),
        pool_branch(x, 128, "branch3.1"),
    )


def inception_c(x: Value) -> Value:
    """Figure 6: the 8 x 8 grid, 1536 channels"""
    y = rectified(x, 384, 1, name="branch1_0")
    z = chain(x, "branch2_{}", (384, 1), (448, COLUMN), (512, ROW))
    return concat(
        rectified(x, 256, 1, name="branch0"), crossed(y, 256, "branch1_1"), crossed(z, 256, "branch2_3"), pool_branch(x, 256, "branch3.1")
    )


def reduction_a(x: Value) -> Value:
    """Figure 7: 35 x 35 to 17 x 17; k, l, m, n of table 1 are 192, 224, 256, 384"""
    return concat(
        rectified(x, 384, 3, 2, VALID, name="branch0"),
        chain(x, "branch1.{}", (192, 1), (224, 3), (256, 3, 2, VALID)),
        halved(x),
    )


def reduction_b(x: Value) -> Value:
    """Figure 8: 17 x 17 to 8 x 8"""
    return concat(
        chain(x, "branch0.{}", (192, 1), (192, 3, 2, VALID)),
        chain(x, "branch1.{}", (256, 1), (256, ROW_OF_7), (320, COLUMN_OF_7), (320, 3, 2, VALID)),
        halved(x),
    )
