"""Where the folding passes fire, and where they must not: pass → label → graph, and pass → label → (graph, the reason they give)."""

from __future__ import annotations

from typing import Any

import numpy as np
from passes_builder import A, B, C, Make, add, batchnorm, constant, conv, filled, given, graph, integers, relu

from tilewright.engine.expression import apply
from tilewright.engine.graph import Constant, Graph, Node, Result
from tilewright.engine.ops import (
    AveragePool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Expand,
    MatMul,
    MaxPool,
    Pad,
    Pointwise,
    Reduce,
    TopK,
    cast,
    pointwise,
)

IMAGE = (2, 4, 7, 5)
AROUND = ((0, 0), (0, 0), (1, 2), (0, 3))


def image(name: str = "x") -> Node:
    return given(*IMAGE, name=name)


def transposed(x: Node, groups: int = 1, **attributes: object) -> ConvTranspose:
    c = x.type.shape[1]
    settings = {"strides": (2, 3), "pads": ((1, 0), (0, 1)), **attributes}
    return ConvTranspose(x, constant(c, 3, 3, 2), constant(3 * groups), groups=groups, **settings)  # type: ignore[arg-type]


def dense(x: Node, n: int = 5, **fields: object) -> MatMul:
    return MatMul(x, constant(x.type.shape[-1], n), **fields)  # type: ignore[arg-type]


def after_shared(make: type[Pointwise] | None = None) -> Graph:
    x = conv(image())
    return graph(batchnorm(x), relu(x))


def shared_norm() -> Graph:
    x = batchnorm(image())
    return graph(conv(x, kernel=1), relu(x))


def weights_computed(norm_first: bool = False) -> Graph:
    weight = given(6, 4, 1, 1, name="w")
    if norm_first:
        return graph(Conv(batchnorm(image()), weight))
    return graph(batchnorm(Conv(image(), weight)))


def half_overflow() -> Graph:
    x = given(1, 2, 3, 3, dtype="float16")
    product = Conv(x, filled(300, 4, 2, 1, 1, dtype="float16"))
    norm = [filled(v, 4, dtype="float16") for v in (300, 1, 0, 1)]
    return graph(BatchNorm(product, *norm))


def parameters_computed() -> Graph:
    x = conv(image())
    return graph(BatchNorm(x, given(6, name="scale"), constant(6), constant(6), filled(1, 6)))


def channel(n: int = 6) -> Node:
    return constant(n, 1, 1)


def scaled(x: Node) -> Pointwise:
    """(x - a) / b * 2 with one a and b for each channel."""
    n = x.type.shape[1]
    return Pointwise((x, channel(n), channel(n)), expression=(A - B) / C * 2, origin=("normalise",))


def affine_twice() -> Graph:
    x = conv(image())
    return graph(Pointwise((x, channel()), expression=3 - (A * 0.5 + A) * B))


def topk_of_constants() -> Graph:
    best = TopK(constant(3, 9), k=2, axis=1)
    return graph(add(Result(best, index=0), given(3, 2)), add(Result(best, index=1), given(3, 2, name="n", dtype="int64")))


def pool(kind: type[MaxPool] | type[AveragePool], pad: Pad, **attributes: object) -> Graph:
    return graph(kind(pad, kernel=(3, 2), strides=(2, 1), **attributes))  # type: ignore[arg-type]


def masked(*kept: slice, kernel: int = 5, **attributes: Any) -> Graph:
    """A convolution whose weight is zero outside of some taps."""
    node = conv(image(), kernel=kernel, **attributes)
    mask = np.zeros((kernel,) * 2, np.float32)
    mask[kept] = 1
    assert isinstance(node.weight, Constant)
    return graph(node.replace(weight=Constant(node.weight.data * mask)))


def corners() -> Graph:
    weight = np.zeros((5, 4, 3, 3), np.float32)
    weight[3, 2, 0, 0], weight[1, 3, 2, 2] = 1, np.nan
    return graph(Conv(image(), Constant(weight), pads=((1, 1), (1, 1))))


def zeros(x: Node | None = None, pads: tuple[tuple[int, int], ...] = AROUND, **attributes: object) -> Pad:
    return Pad(x or image(), pads=pads, origin=("pad",), **attributes)  # type: ignore[arg-type]


FIRES: dict[str, dict[str, Make]] = {
    "fold_batchnorm": {
        "conv": lambda: graph(batchnorm(conv(image()))),
        "no bias": lambda: graph(batchnorm(conv(image(), bias=False))),
        "grouped conv": lambda: graph(batchnorm(conv(image(), groups=2))),
        "transposed": lambda: graph(batchnorm(transposed(image()))),
        "grouped transposed": lambda: graph(batchnorm(transposed(image(), groups=2))),
        "matmul": lambda: graph(batchnorm(dense(given(3, 4), bias=constant(5)))),
        "before conv": lambda: graph(conv(batchnorm(image()), kernel=3, pads=((0, 0), (0, 0)), strides=(2, 1))),
        "before grouped conv": lambda: graph(conv(batchnorm(image()), groups=2, kernel=1)),
        "before padded conv, no shift": lambda: graph(conv(batchnorm(image(), shift=False))),
        "before transposed, no shift": lambda: graph(transposed(batchnorm(image(), shift=False), groups=2)),
        "before matmul": lambda: graph(dense(batchnorm(given(3, 4)))),
        "before conv with an epilogue": lambda: graph(
            conv(batchnorm(image()), kernel=1, extras=(given(2, 6, 7, 5, name="r"),), epilogue=apply("relu", A + B))
        ),
    },
    "expand_batchnorm": {
        "constant": lambda: graph(batchnorm(image())),
        "rank 2": lambda: graph(batchnorm(given(3, 4))),
        "computed": lambda: parameters_computed(),
    },
    "fold_affine": {
        "preprocessing": lambda: graph(conv(scaled(image()), kernel=1)),
        "after conv": lambda: graph(scaled(conv(image()))),
        "after grouped transposed": lambda: graph(scaled(transposed(image(), groups=2))),
        "number": lambda: graph(pointwise("mul", conv(image()), 0.17)),
        "read twice": affine_twice,
        "less than itself": lambda: graph(Pointwise((conv(image()), channel()), expression=A * B - (A * 0.5 - B))),
        "bias of matmul": lambda: graph(add(dense(given(2, 3, 4)), constant(5))),
        "bias over computed weights": lambda: graph(add(MatMul(given(3, 4), given(4, 5, name="w")), constant(1, 5))),
        "before matmul": lambda: graph(dense(Pointwise((given(2, 3, 4), constant(4)), expression=A * B - 1))),
        "before padded conv, no shift": lambda: graph(conv(pointwise("div", image(), 255.0))),
    },
    "crop_kernel": {
        "rows below": lambda: masked(slice(3)),
        "rows above and columns": lambda: masked(slice(1, 5), slice(2, 4)),
        "as many as there are pads": lambda: masked(slice(2), kernel=4, pads=((0, 1), (2, 2))),
        "strides": lambda: masked(slice(2, 5), slice(0, 3), strides=(2, 3)),
        "dilations": lambda: masked(slice(1, 2), slice(1, 3), kernel=3, dilations=(2, 1), pads=((3, 2), (1, 1))),
        "groups": lambda: masked(slice(2), kernel=3, groups=2),
        "nothing left": lambda: masked(slice(0), kernel=3),
    },
    "fold_pad": {
        "conv": lambda: graph(conv(zeros(), strides=(2, 2), pads=((1, 0), (0, 2)))),
        "depthwise": lambda: graph(conv(zeros(), groups=4, k=4, dilations=(2, 1))),
        "two readers": lambda: (lambda p: graph(conv(p), conv(p, kernel=1)))(zeros()),
        "average": lambda: pool(AveragePool, zeros()),
        "average that counts pads": lambda: pool(AveragePool, zeros(), pads=((1, 1), (0, 1)), count_include_pad=True),
        "max of -inf": lambda: pool(MaxPool, zeros(value=-np.inf), pads=((1, 0), (0, 1))),
    },
    "fold_constants": {
        "expression": lambda: graph(add(image(), pointwise("exp", add(constant(4, 1, 1), constant(1, 7, 1))))),
        "several results": topk_of_constants,
        "expand that is small": lambda: graph(add(image(), Expand(constant(1, 5), shape=(7, 5)))),
        "no elements": lambda: graph(add(given(2, 4), Reduce(given(2, 0, 4, name="e"), kind="prod", axes=(1,), keepdims=False))),
    },
}

HOLDS: dict[str, dict[str, tuple[Make, str | None]]] = {
    "fold_batchnorm": {
        "relu between": (lambda: graph(batchnorm(relu(conv(image())))), None),
        "relu between, before": (lambda: graph(conv(relu(batchnorm(image())), kernel=1)), None),
        "an epilogue": (lambda: graph(batchnorm(conv(image(), epilogue=apply("relu", A)))), "already has an epilogue"),
        "a residual": (
            lambda: graph(batchnorm(conv(image(), extras=(given(2, 6, 7, 5, name="r"),), epilogue=A + B))),
            "already has an epilogue",
        ),
        "computed bias": (lambda: graph(batchnorm(Conv(image(), constant(6, 4, 3, 3), given(6, name="b")))), "bias is not constant"),
        "computed weight": (weights_computed, "weight of conv is not constant"),
        "computed parameters": (parameters_computed, "scale of the batch_norm is not constant"),
        "two readers": (after_shared, "2 readers"),
        "an output reads the conv": (lambda: (lambda x: graph(x, batchnorm(x)))(conv(image())), "2 readers"),
        "before a padded conv": (lambda: graph(conv(batchnorm(image()))), "pads with zeros"),
        "before a conv padded on one side": (
            lambda: graph(conv(batchnorm(image()), kernel=1, pads=((0, 0), (0, 1)))),
            "pads with zeros",
        ),
        "before a transposed conv": (lambda: graph(transposed(batchnorm(image()))), "fewer taps"),
        "before, two readers": (shared_norm, "2 readers"),
        "before, computed weight": (lambda: weights_computed(norm_first=True), "weight of conv is not constant"),
        "before, computed bias": (
            lambda: graph(Conv(batchnorm(image()), constant(6, 4, 1, 1), given(6, name="b"))),
            "bias is not constant",
        ),
        "channels of a stack of products": (lambda: graph(batchnorm(dense(given(2, 3, 4)))), "not on axis 1"),
        "before, channels of a stack": (lambda: graph(dense(batchnorm(given(2, 3, 4)))), "not on axis 1"),
        "what does not fit the dtype": (half_overflow, "do not fit float16"),
    },
    "expand_batchnorm": {"a convolution": (lambda: graph(conv(image())), None)},
    "fold_affine": {
        "not affine": (lambda: graph(Pointwise((conv(image()), channel()), expression=A * A + B)), None),
        "one over x": (lambda: graph(pointwise("div", 1.0, conv(image()))), None),
        "relu of affine": (lambda: graph(Pointwise((conv(image()), channel()), expression=apply("relu", A + B))), None),
        "varies over pixels": (lambda: graph(add(conv(image()), constant(1, 1, 7, 5))), "more than the channels"),
        "varies over images": (lambda: graph(add(conv(image()), constant(2, 6, 1, 1))), "more than the channels"),
        "along the wrong axis": (lambda: graph(add(conv(image()), constant(5))), "more than the channels"),
        "computed operand": (lambda: graph(add(conv(image()), given(6, 1, 1, name="s"))), None),
        "broadcast up": (lambda: graph(add(conv(given(1, 4, 7, 5)), constant(3, 6, 1, 1))), None),
        "an epilogue": (lambda: graph(pointwise("mul", conv(image(), epilogue=apply("relu", A)), 2.0)), "already has an epilogue"),
        "two readers": (lambda: (lambda x: graph(pointwise("mul", x, 2.0), x))(conv(image())), "2 readers"),
        "computed bias": (lambda: graph(add(Conv(image(), constant(6, 4, 1, 1), given(6, name="b")), channel())), "bias is not constant"),
        "unread": (lambda: graph(Pointwise((conv(image()), constant(2, 6, 7, 5)), expression=B * 2)), None),
        "before, two readers": (lambda: (lambda x: graph(conv(x, kernel=1), relu(x)))(scaled(image())), "2 readers"),
        "before, gives the rank": (lambda: graph(conv(Pointwise((given(4, 7, 5), constant(1, 4, 1, 1)), expression=A * B))), None),
        "shift before a padded conv": (lambda: graph(conv(add(image(), channel(4)))), "pads with zeros"),
        "shift before a transposed conv": (lambda: graph(transposed(add(image(), channel(4)))), "fewer taps"),
        "division by zero": (lambda: graph(pointwise("div", conv(image()), 0.0)), "do not fit float32"),
        "another dtype": (lambda: graph(cast(conv(image()), np.dtype(np.float16))), None),
        "to integers": (lambda: graph(conv(cast(given(*IMAGE, dtype="uint8"), np.dtype(np.float32)), kernel=1)), None),
    },
    "crop_kernel": {
        "taps all over": (lambda: graph(conv(image())), None),
        "zeros inside": (lambda: masked(slice(0, 5, 2)), None),
        "without pads": (lambda: masked(slice(1, 3), kernel=3, pads=((0, 0), (0, 0))), None),
        "pads smaller than the dilation": (lambda: masked(slice(2), kernel=3, dilations=(2, 1), pads=((1, 1), (1, 1))), None),
        "two numbers in the corners": (corners, None),
        "a weight that is given": (lambda: graph(Conv(image(), given(2, 4, 3, 3, name="w"), pads=((1, 1), (1, 1)))), None),
    },
    "fold_pad": {
        "another value": (lambda: graph(conv(zeros(value=0.5))), "the pad is 0.5, not 0"),
        "mirrored": (lambda: graph(conv(zeros(mode="reflect", pads=((0, 0), (0, 0), (2, 1), (1, 1))))), "repeats its input"),
        "channels": (lambda: graph(conv(zeros(pads=((0, 0), (1, 0), (0, 0), (0, 0))))), "images or channels"),
        "images": (lambda: graph(conv(zeros(pads=((0, 1), (0, 0), (1, 0), (0, 0))))), "images or channels"),
        "zeros under max": (lambda: pool(MaxPool, zeros()), "may win"),
        "the lowest finite number under max": (lambda: pool(MaxPool, zeros(value=float(np.finfo("f4").min))), "may win"),
        "average with pads of its own": (lambda: pool(AveragePool, zeros(), pads=((1, 1), (0, 1))), "but not its own pads"),
        "average, rounding up": (lambda: pool(AveragePool, zeros(), ceil_mode=True), "ceil_mode"),
        "under a transposed conv": (lambda: graph(transposed(zeros())), None),
        "under pointwise": (lambda: graph(relu(zeros())), None),
    },
    "fold_constants": {
        "an input": (lambda: graph(add(image(), constant(4, 1, 1))), None),
        "growth": (lambda: graph(add(given(64, 64, 9), Expand(constant(1), shape=(64, 64, 9)))), "not worth storing"),
        "a constant": (lambda: graph(constant(3, 4)), None),
        "indices": (lambda: graph(add(given(3, dtype="int64"), integers(1, 2, 3))), None),
    },
}
