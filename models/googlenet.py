"""GoogLeNet (Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: Going deeper with convolutions, 2014).

There are two forms of this Inception v1: the paper's, which normalises responses (with the numbers of Caffe's model of it), and
torchvision's, with its names of parameters, which came later: it has batch norms, convolutions of 3 x 3 where the paper has 5 x 5 (a
known mistake, trained into its weights) and a last pooling of 2 x 2. Their dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from ..frontends.dsl import (
    Value,
    adaptive_average_pool,
    concat,
    conv,
    flatten,
    linear,
    local_response_norm,
    max_pool,
    model,
    relu,
    scope,
)
from .inception import classified, rectified

TABLE = (
    {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64)},
    {
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    {"5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)},
)
"""Table 1, the modules between poolings: channels of 1 x 1, of 3 x 3 and before it, of 5 x 5 and before it, and after the pooling."""


class Layer(Protocol):
    """A convolution that keeps the extents, or halves them with stride 2, and what follows it up to its relu."""

    def __call__(self, x: Value, channels: int, kernel: int, stride: int = 1, *, name: str) -> Value: ...


class Form(NamedTuple):
    """What distinguishes the two forms."""

    layer: Layer
    wide: int
    """The kernel of the wide branch."""
    last_pool: int
    """The kernel of the pooling before 5a."""
    normalised: Callable[[Value], Value]
    """What stands beside the first two poolings."""


@model(image=("batch=1", 3, "height=224", "width=224"))
def googlenet(image: Value) -> Value:
    """GoogLeNet as torchvision has it, 1000 classes (logits)."""
    return classified(modules(image, BATCH_NORM)["5b"])


@model(image=("batch=1", 3, "height=224", "width=224"))
def googlenet_auxiliary(image: Value) -> dict[str, Value]:
    """GoogLeNet as torchvision has it with its auxiliary classifiers: output, and auxiliary1 and auxiliary2 from 4a and 4d."""
    maps = modules(image, BATCH_NORM)
    heads = {f"auxiliary{i}": auxiliary(maps[name], f"aux{i}") for i, name in enumerate(("4a", "4d"), start=1)}
    return {"output": classified(maps["5b"])} | heads


@model(image=("batch=1", 3, "height=224", "width=224"))
def googlenet_paper(image: Value) -> Value:
    """GoogLeNet as the paper has it, without batch norms, 1000 classes (logits)."""
    return classified(modules(image, PAPER)["5b"])


def modules(image: Value, form: Form) -> dict[str, Value]:
    """What each module of the table gives, (480, 28, 28) after 3b to (1024, 7, 7) after 5b."""
    x = form.normalised(halved(form.layer(image, 64, 7, 2, name="conv1")))
    x = form.layer(form.layer(x, 64, 1, name="conv2"), 192, 3, name="conv3")
    x = form.normalised(x)
    maps = dict[str, Value]()
    for stage, pool in zip(TABLE, (3, 3, form.last_pool), strict=True):
        x = halved(x, pool)
        for name, channels in stage.items():
            with scope(f"inception{name}"):
                x = maps[name] = inception(x, channels, form)
    return maps


def inception(x: Value, channels: tuple[int, ...], form: Form) -> Value:
    """Figure 2(b): four branches side by side"""
    narrow, before_middle, middle, before_wide, wide, after_pool = channels
    return concat(
        form.layer(x, narrow, 1, name="branch1"),
        form.layer(form.layer(x, before_middle, 1, name="branch2.0"), middle, 3, name="branch2.1"),
        form.layer(form.layer(x, before_wide, 1, name="branch3.0"), wide, form.wide, name="branch3.1"),
        form.layer(max_pool(x, 3, 1, pad=1), after_pool, 1, name="branch4.1"),
    )


def halved(x: Value, kernel: int = 3) -> Value:
    """The largest number of each window, two apart; a window that begins inside counts"""
    return max_pool(x, kernel, 2, ceil=True)


def auxiliary(x: Value, name: str, classes: int = 1000) -> Value:
    """A classifier that helps training; the paper cuts 14 x 14 into windows of 5, three apart, to get the same 4 x 4"""
    with scope(name):
        x = rectified(adaptive_average_pool(x, 4), 128, 1, name="conv")
        return linear(relu(linear(flatten(x), 1024, name="fc1")), classes, name="fc2")


def plain(x: Value, channels: int, kernel: int, stride: int = 1, *, name: str) -> Value:
    """relu(conv(x))"""
    return relu(conv(x, channels, kernel, stride, pad=kernel // 2, name=name))


BATCH_NORM = Form(rectified, wide=3, last_pool=2, normalised=lambda x: x)
PAPER = Form(plain, wide=5, last_pool=3, normalised=local_response_norm)
