"""Inception v3 (Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception architecture for computer vision, 2015).

It is the network that its authors published and torchvision has, with torchvision's names of parameters. Table 1 of the paper shows
another stem, and figure 5 two convolutions of 3 x 3 where this one has 5 x 5. Its dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, average_pool, concat, model, scope
from .inception import COLUMN_OF_7, ROW_OF_7, VALID, chain, classified, crossed, halved, pool_branch, rectified


@model(image=("batch=1", 3, "height=299", "width=299"))
def inception_v3(image: Value) -> Value:
    """Inception v3, 1000 classes (logits)."""
    return classified(top(middle(image)))


@model(image=("batch=1", 3, "height=299", "width=299"))
def inception_v3_auxiliary(image: Value) -> dict[str, Value]:
    """Inception v3 with its auxiliary classifier: output, and auxiliary from the last of the 17 x 17 grids."""
    x = middle(image)
    return {"output": classified(top(x)), "auxiliary": auxiliary(x)}


def middle(image: Value) -> Value:
    """The stem and the grids of 35 x 35 and 17 x 17: (3, 299, 299) to (768, 17, 17)"""
    x = rectified(image, 32, 3, 2, VALID, name="Conv2d_1a_3x3")
    x = rectified(x, 32, 3, 1, VALID, name="Conv2d_2a_3x3")
    x = halved(rectified(x, 64, 3, name="Conv2d_2b_3x3"))
    x = rectified(x, 80, 1, name="Conv2d_3b_1x1")
    x = halved(rectified(x, 192, 3, 1, VALID, name="Conv2d_4a_3x3"))
    for letter, projected in zip("bcd", (32, 64, 64), strict=True):
        with scope(f"Mixed_5{letter}"):
            x = figure_5(x, projected)
    with scope("Mixed_6a"):
        x = to_17(x)
    for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
        with scope(f"Mixed_6{letter}"):
            x = figure_6(x, width)
    return x


def top(x: Value) -> Value:
    """The grids of 8 x 8: (768, 17, 17) to (2048, 8, 8)"""
    with scope("Mixed_7a"):
        x = to_8(x)
    for letter in "bc":
        with scope(f"Mixed_7{letter}"):
            x = figure_7(x)
    return x


def auxiliary(x: Value) -> Value:
    """Figure 8: a classifier that helps training, from (768, 17, 17); the extents must be 17 at least"""
    with scope("AuxLogits"):
        x = rectified(average_pool(x, 5, 3), 128, 1, name="conv0")
        return classified(rectified(x, 768, 5, 1, VALID, name="conv1"))


def figure_5(x: Value, projected: int) -> Value:
    """Two convolutions of 3 x 3 instead of one of 5 x 5; `projected`: channels after the pooling"""
    return concat(
        rectified(x, 64, 1, name="branch1x1"),
        chain(x, "branch5x5_{}", (48, 1), (64, 5), first=1),
        chain(x, "branch3x3dbl_{}", (64, 1), (96, 3), (96, 3), first=1),
        pooled(x, projected),
    )


def figure_6(x: Value, width: int) -> Value:
    """Rows and columns of 7 instead of 7 x 7; `width`: channels between them"""
    return concat(
        rectified(x, 192, 1, name="branch1x1"),
        chain(x, "branch7x7_{}", (width, 1), (width, ROW_OF_7), (192, COLUMN_OF_7), first=1),
        chain(x, "branch7x7dbl_{}", (width, 1), (width, COLUMN_OF_7), (width, ROW_OF_7), (width, COLUMN_OF_7), (192, ROW_OF_7), first=1),
        pooled(x, 192),
    )


def figure_7(x: Value) -> Value:
    """Rows and columns of 3 side by side: more channels on the coarsest grid"""
    y = rectified(x, 384, 1, name="branch3x3_1")
    z = chain(x, "branch3x3dbl_{}", (448, 1), (384, 3), first=1)
    return concat(rectified(x, 320, 1, name="branch1x1"), crossed(y, 384, "branch3x3_2"), crossed(z, 384, "branch3x3dbl_3"), pooled(x, 192))


def to_17(x: Value) -> Value:
    """Figure 10, 35 x 35 to 17 x 17: convolutions and pooling halve the grid side by side"""
    return concat(
        rectified(x, 384, 3, 2, VALID, name="branch3x3"),
        chain(x, "branch3x3dbl_{}", (64, 1), (96, 3), (96, 3, 2, VALID), first=1),
        halved(x),
    )


def to_8(x: Value) -> Value:
    """Figure 10, 17 x 17 to 8 x 8"""
    return concat(
        chain(x, "branch3x3_{}", (192, 1), (320, 3, 2, VALID), first=1),
        chain(x, "branch7x7x3_{}", (192, 1), (192, ROW_OF_7), (192, COLUMN_OF_7), (192, 3, 2, VALID), first=1),
        halved(x),
    )


def pooled(x: Value, channels: int) -> Value:
    """The branch that every module of the figures has on its left"""
    return pool_branch(x, channels, "branch_pool", count_pad=True)
