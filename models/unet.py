"""U-Net (Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation, 2015)."""

from __future__ import annotations

from collections.abc import Callable

from ..frontends.dsl import Value, concat, conv, conv_transpose, max_pool, model, relu, scope, upsample

WIDTHS = (64, 128, 256, 512, 1024)


@model(image=("batch=1", 1, "height=572", "width=572"))
def unet(image: Value) -> Value:
    """U-Net, 2 classes for every pixel (logits): without padding, so that 572 x 572 pixels label the middle 388 x 388."""
    return u_shape(image, transposed, pad=0)


@model(image=("batch=1", 1, "height=512", "width=512"))
def unet_resize(image: Value) -> Value:
    """U-Net that enlarges by resizing, 2 classes for every pixel (logits): padded; extents are multiples of 16."""
    return u_shape(image, resized, pad=1)


def u_shape(image: Value, enlarge: Callable[[Value, int], Value], pad: int, classes: int = 2, widths: tuple[int, ...] = WIDTHS) -> Value:
    """Down the left side of the paper's figure 1, up its right side, and the grey arrows between."""
    x, left = image, []
    for level, width in enumerate(widths, start=1):
        with scope(f"down{level}"):
            x = twice(max_pool(x, 2) if left else x, width, pad)
        left.append(x)
    for level, width in reversed(list(enumerate(widths[:-1], start=1))):
        with scope(f"up{level}"):
            x = enlarge(x, width)
            x = twice(concat(middle(left[level - 1], x), x), width, pad)
    return conv(x, classes, 1, name="classifier")


def twice(x: Value, width: int, pad: int) -> Value:
    """Two blue arrows: 3 x 3, 3 x 3"""
    x = relu(conv(x, width, 3, pad=pad, name="conv1"))
    return relu(conv(x, width, 3, pad=pad, name="conv2"))


def transposed(x: Value, width: int) -> Value:
    """Twice the extents: every pixel is spread over 2 x 2."""
    return conv_transpose(x, width, 2, stride=2, name="enlarge")


def resized(x: Value, width: int) -> Value:
    """Twice the extents: pixels repeated, then blended by 2 x 2, which leaves no checkerboard."""
    return conv(upsample(x, 2), width, 2, pad="same", name="enlarge")


def middle(x: Value, like: Value) -> Value:
    """x cropped to the extents of another value"""
    cut = [(size - kept) // 2 for size, kept in zip(x.shape[2:], like.shape[2:], strict=True)]
    return x[..., *(slice(start, start + kept) for start, kept in zip(cut, like.shape[2:], strict=True))] if any(cut) else x
