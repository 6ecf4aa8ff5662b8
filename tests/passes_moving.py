"""Where the passes over data movement fire, and where they must not; see passes_folding."""

from __future__ import annotations

import numpy as np
from passes_builder import A, B, C, Make, add, constant, conv, filled, given, graph, integers, relu
from passes_folding import image

from tilewright.engine.expression import Convert, apply
from tilewright.engine.graph import Graph, Node
from tilewright.engine.ops import (
    AveragePool,
    Concat,
    Conv,
    CumSum,
    Expand,
    Gather,
    MaxPool,
    Pad,
    Pointwise,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
    cast,
    pointwise,
)

F32 = np.dtype(np.float32)
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def reshape(x: Node, *shape: int) -> Reshape:
    return Reshape(x, shape=shape, origin=("reshape",))


def transpose(x: Node, *permutation: int) -> Transpose:
    return Transpose(x, permutation=permutation, origin=("transpose",))


def last(x: Node) -> Transpose:
    """Channels last."""
    return transpose(x, *TO_LAST)


def part(x: Node, axis: int, start: int, size: int, step: int = 1) -> Slice:
    """A slice along one axis."""
    rank = x.type.rank
    starts = tuple(start if a == axis else 0 for a in range(rank))
    sizes = tuple(size if a == axis else n for a, n in enumerate(x.type.shape))
    return Slice(x, starts=starts, sizes=sizes, steps=tuple(step if a == axis else 1 for a in range(rank)))


def concat(axis: int, *inputs: Node) -> Concat:
    return Concat(inputs, axis=axis, origin=("concat",))


def shuffle(x: Node, groups: int) -> Node:
    """ShuffleNet's: (n, g*c, h, w) seen as (n, g, c, h, w), with g and c exchanged."""
    n, c, h, w = x.type.shape
    return reshape(transpose(reshape(x, n, groups, c // groups, h, w), 0, 2, 1, 3, 4), n, c, h, w)


def halves() -> Graph:
    """FastestDet's: a shuffle of two groups and a gather of either half."""
    x = reshape(transpose(reshape(given(1, 6, 5, 3), 3, 2, 15), 1, 0, 2), 2, 1, 3, 5, 3)
    return graph(*(Gather(x, integers(i), axis=0) for i in range(2)), Gather(x, integers(1, 0), axis=0))


def chunks() -> Graph:
    """ShuffleNet v2 as PyTorch writes it: a shuffle and then two slices of what it gave."""
    x = shuffle(given(1, 6, 5, 3), 2)
    return graph(part(x, 1, 0, 3), part(x, 1, 3, 3))


def shared_gather() -> Graph:
    """Many read the gather itself: replacing it for one of them would move more."""
    x = Gather(given(1, 6, 5, 3), integers(0, 3, 1, 4, 2, 5), axis=1)
    return graph(part(x, 1, 0, 3), *(relu(x) for _ in range(4)))


def almost_in_order() -> Graph:
    """The first row and the first column are where they were, two elements inside have changed places."""
    order = np.arange(16)
    order[[5, 10]] = 10, 5
    return graph(reshape(Gather(reshape(given(4, 4), 16), integers(*order.tolist()), axis=0), 4, 4))


def pixel_shuffle() -> Graph:
    x = reshape(given(1, 12, 5, 3), 1, 3, 2, 2, 5, 3)
    return graph(reshape(transpose(x, 0, 1, 4, 2, 5, 3), 1, 3, 10, 6))


def resize(x: Node, scales: tuple[float, ...], **attributes: object) -> Resize:
    shape = tuple(int(n * s) for n, s in zip(x.type.shape, scales, strict=True))
    return Resize(x, shape=shape, scales=scales, **attributes)  # type: ignore[arg-type]


def pad(x: Node, *pads: tuple[int, int], **attributes: object) -> Pad:
    return Pad(x, pads=pads, **attributes)  # type: ignore[arg-type]


def residual_channels_last() -> Graph:
    """A block whose additions and activations are channels last, between convolutions that are not."""
    x = last(conv(given(1, 4, 7, 5)))
    y = relu(Pointwise((x, constant(6)), expression=A + B))
    z = last(conv(transpose(y, *TO_FIRST)))
    return graph(conv(transpose(relu(add(y, z)), *TO_FIRST)))


FIRES: dict[str, dict[str, Make]] = {
    "drop_identity": {
        "reshape": lambda: graph(relu(reshape(image(), 2, 4, 7, 5))),
        "transpose": lambda: graph(relu(transpose(image(), 0, 1, 2, 3))),
        "pad": lambda: graph(relu(pad(image(), *[(0, 0)] * 4, mode="reflect"))),
        "cast": lambda: graph(relu(cast(image(), F32)), relu(cast(given(3, name="y", dtype="float64"), np.dtype(np.float64)))),
        "slice": lambda: graph(relu(part(image(), 1, 0, 4))),
        "slice of one backwards": lambda: graph(relu(part(given(1, 3), 0, 0, 1, step=-1))),
        "concat of one": lambda: graph(relu(concat(1, image()))),
        "expand": lambda: graph(relu(Expand(image(), shape=(2, 4, 7, 5)))),
        "expression": lambda: graph(relu(Pointwise((image(),), expression=A))),
        "pools": lambda: graph(relu(MaxPool(AveragePool(image(), kernel=(1, 1)), kernel=(1, 1), dilations=(2, 2)))),
        "resize": lambda: graph(relu(resize(image(), (1.0, 1.0, 1.0, 1.0), mode="cubic"))),
        "reductions of one": lambda: graph(*(relu(Reduce(given(3, 1, 5, name=k), kind=k, axes=(1,))) for k in ("sum", "mean", "max"))),
        "reduction of one that drops its axis": lambda: graph(relu(Reduce(given(3, 1, 5), kind="prod", axes=(1,), keepdims=False))),
        "running sum of one": lambda: graph(relu(CumSum(given(3, 1, 5), axis=1, reverse=True))),
        "the output": lambda: graph(reshape(image(), 2, 4, 7, 5)),
    },
    "simplify_movement": {
        "shuffle": lambda: graph(relu(shuffle(image(), 2))),
        "shuffle of three groups": lambda: graph(relu(shuffle(given(2, 9, 3, 5), 3))),
        "shuffle and split": halves,
        "reshapes": lambda: graph(relu(reshape(reshape(image(), 8, 35), 2, 140))),
        "there and back": lambda: graph(relu(reshape(transpose(transpose(reshape(image(), 8, 7, 5), 2, 0, 1), 1, 2, 0), 2, 4, 7, 5))),
        "transposes": lambda: graph(relu(transpose(transpose(image(), 1, 0, 3, 2), 2, 0, 1, 3))),
        "axes of extent 1 only": lambda: graph(relu(transpose(given(2, 1, 7, 1), 0, 2, 1, 3))),
        "transposes around a reshape": lambda: graph(relu(reshape(transpose(reshape(given(1, 4, 7, 5), 4, 7, 5), 1, 2, 0), 1, 7, 5, 4))),
        "slices": lambda: graph(relu(part(part(part(image(), 2, 6, 6, step=-1), 2, 1, 2, step=3), 3, 1, 3))),
        "gather of one": lambda: graph(relu(Gather(image(), integers(2), axis=1))),
        "gather of one that drops its axis": lambda: graph(relu(Gather(image(), filled(-1, dtype="int64"), axis=2))),
        "gather of a range": lambda: graph(relu(Gather(image(), integers(1, 3, 5), axis=2))),
        "gather of gather": lambda: graph(relu(Gather(Gather(image(), integers(6, 1, 4, 0), axis=2), integers(3, -4, 1), axis=2))),
        "shuffle and chunks": chunks,
        "slice of a reshape": lambda: graph(relu(part(reshape(image(), 2, 1, 4, 7, 5), 2, 1, 2))),
        "several readers": lambda: (lambda r: graph(relu(r), reshape(r, 2, 140)))(reshape(image(), 8, 35)),
    },
    "slice_concat": {
        "one": lambda: graph(relu(part(concat(1, image(), image("y")), 1, 4, 4))),
        "within one": lambda: graph(relu(part(concat(3, image(), image("y")), 3, 9, 3, step=-2))),
        "some": lambda: graph(relu(part(concat(1, image(), image("y"), image("z")), 1, 4, 8))),
        "along another axis too": lambda: graph(relu(part(part(concat(1, image(), image("y")), 1, 5, 2), 2, 1, 3))),
    },
    "flatten_concat": {
        "first": lambda: graph(concat(1, concat(1, image(), image("y")), image("z"))),
        "deep": lambda: graph(concat(2, image(), concat(2, concat(2, image("y")), image("z")))),
        "read twice by one": lambda: (lambda c: graph(concat(1, c, image("z"), c)))(concat(1, image(), image("y"))),
    },
    "sink_transpose": {
        "they meet": residual_channels_last,
        "pointwise": lambda: graph(Pointwise((last(image()), constant(4), last(image("y"))), expression=A * B + C)),
        "a gate": lambda: graph(pointwise("mul", last(image()), given(2, 1, 1, 4, name="gate"))),
        "one number": lambda: graph(add(last(image()), given(name="s"))),
        "softmax": lambda: graph(Softmax(last(image()), axis=3)),
        "running sum": lambda: graph(CumSum(last(image()), axis=2, exclusive=True)),
        "concat": lambda: graph(concat(3, last(image()), last(image("y")), constant(2, 7, 5, 3))),
        "reduction": lambda: graph(Reduce(last(image()), kind="max", axes=(3,))),
        "reduction that drops axes": lambda: graph(Reduce(last(image()), kind="sum", axes=(1, 2), keepdims=False)),
        "reduction that leaves a transpose": lambda: graph(Reduce(last(image()), kind="mean", axes=(1,), keepdims=False)),
        "pad": lambda: graph(pad(last(image()), (0, 0), (1, 2), (0, 3), (4, 0), mode="edge")),
        "slice": lambda: graph(part(part(last(image()), 1, 6, 3, step=-2), 3, 1, 2)),
        "resize": lambda: graph(resize(last(image()), (1.0, 2.0, 0.6, 1.0), mode="linear")),
        "transpose": lambda: (lambda t: graph(t, transpose(t, 1, 0, 2, 3), transpose(t, *TO_FIRST)))(last(image())),
        "twice the same": lambda: (lambda t: graph(Pointwise((t, t), expression=A * apply("exp", B))))(last(image())),
    },
}

FIRES["fold_channel_order"] = {
    "reversed": lambda: graph(conv(part(image(), 1, 3, 4, step=-1))),
    "reversed before a transpose": lambda: graph(conv(transpose(part(given(1, 7, 5, 3), 3, 2, 3, step=-1), *TO_FIRST), strides=(2, 2))),
    "reversed for another, too": lambda: (lambda x: graph(conv(x), relu(x)))(part(image(), 1, 3, 4, step=-1)),
}

HOLDS: dict[str, dict[str, tuple[Make, str | None]]] = {
    "fold_channel_order": {
        "half of the channels": (lambda: graph(conv(part(image(), 1, 3, 2, step=-1))), None),
        "mirrored": (lambda: graph(conv(part(image(), 3, 4, 5, step=-1))), None),
        "mirrored in one slice": (
            lambda: graph(conv(Slice(image(), starts=(0, 3, 6, 0), sizes=(2, 4, 7, 5), steps=(1, -1, -1, 1)))),
            None,
        ),
        "another axis before the transpose": (
            lambda: graph(conv(transpose(part(given(1, 7, 5, 3), 1, 6, 7, step=-1), *TO_FIRST))),
            None,
        ),
        "groups": (lambda: graph(conv(part(image(), 1, 3, 4, step=-1), groups=2)), "groups of channels"),
        "a weight that is given": (
            lambda: graph(Conv(part(image(), 1, 3, 4, step=-1), given(2, 4, 3, 3, name="w"), None)),
            "not constant",
        ),
    },
    "drop_identity": {
        "another shape": (lambda: graph(reshape(image(), 8, 35)), None),
        "square": (lambda: graph(transpose(given(3, 3), 1, 0)), None),
        "backwards": (lambda: graph(part(image(), 1, 3, 4, step=-1)), None),
        "half precision and back": (lambda: graph(cast(cast(image(), np.dtype(np.float16)), F32)), None),
        "rounding in the expression": (
            lambda: graph(Pointwise((image(),), expression=Convert(Convert(A, np.dtype(np.float16)), F32))),
            None,
        ),
        "the second operand": (lambda: graph(Pointwise((image(), image("y")), expression=B)), None),
        "pool that moves": (lambda: graph(MaxPool(image(), kernel=(3, 3), pads=((1, 1), (1, 1)))), None),
        "running sum": (lambda: graph(CumSum(image(), axis=1)), None),
        "exclusive sum of one": (lambda: graph(CumSum(given(3, 1), axis=1, exclusive=True)), None),
        "resize to the same size": (
            lambda: graph(Resize(image(), shape=(2, 4, 7, 5), scales=(1.0, 1.0, 1.1, 1.0), mode="linear")),
            None,
        ),
        "resize of a region": (
            lambda: graph(resize(image(), (1.0,) * 4, coordinates="tf_crop_and_resize", roi=(0.0,) * 4 + (1.0, 1.0, 0.5, 1.0))),
            None,
        ),
        "softmax": (lambda: graph(Softmax(given(3, 1), axis=1)), None),
    },
    "simplify_movement": {
        "pixel shuffle": (pixel_shuffle, None),
        "almost in order": (almost_in_order, None),
        "a gather that others read": (shared_gather, None),
        "real transpose": (lambda: graph(last(image())), None),
        "transpose and reshape": (lambda: graph(reshape(last(image()), 2, 35, 4)), None),
        "gather of repeated rows": (lambda: graph(Gather(image(), integers(1, 1, 0), axis=2)), None),
        "gather with computed indices": (lambda: graph(Gather(reshape(image(), 8, 35), given(3, name="i", dtype="int64"), axis=0)), None),
        "gather on two axes": (lambda: graph(Gather(Gather(image(), integers(2, 0, 1), axis=1), integers(3, 0, 4), axis=3)), None),
        "slice": (lambda: graph(part(image(), 1, 1, 2)), None),
        "slice of a transpose": (lambda: graph(part(last(image()), 3, 1, 2)), None),
        "nothing left": (lambda: graph(part(reshape(image(), 8, 35), 0, 3, 0)), None),
        "one number": (lambda: graph(reshape(given(), 1)), None),
    },
    "slice_concat": {
        "across": (lambda: graph(part(concat(1, image(), image("y")), 1, 3, 3)), None),
        "across two of three": (lambda: graph(part(concat(1, image(), image("y"), image("z")), 1, 2, 4)), "cuts through"),
        "every second": (lambda: graph(part(concat(1, image(), image("y")), 1, 0, 4, step=2)), None),
        "backwards over two of three": (
            lambda: graph(part(concat(1, image(), image("y"), image("z")), 1, 7, 8, step=-1)),
            "cuts through",
        ),
        "along another axis": (lambda: graph(part(concat(1, image(), image("y")), 2, 1, 3)), None),
    },
    "flatten_concat": {
        "another axis": (lambda: graph(concat(1, concat(2, image(), image("y")), concat(2, image("z"), image("u")))), None),
        "another reader": (lambda: (lambda c: graph(concat(1, c, image("z")), c))(concat(1, image(), image("y"))), "2 readers"),
    },
    "sink_transpose": {
        "another reader": (lambda: (lambda t: graph(relu(t), t))(last(image())), "2 readers"),
        "one operand is not transposed": (lambda: graph(add(last(image()), given(2, 7, 5, 4, name="r"))), "not transposed"),
        "other permutations": (lambda: graph(add(last(image()), transpose(given(2, 7, 4, 5, name="r"), 0, 1, 3, 2))), "not transposed"),
        "broadcast to a higher rank": (lambda: graph(add(last(given(1, 4, 7, 5)), given(3, 1, 7, 5, 4, name="r"))), "higher rank"),
        "a row of a higher rank": (lambda: graph(add(transpose(given(4, 5), 1, 0), constant(3, 1, 1))), "higher rank"),
        "a matrix operand": (lambda: graph(add(last(given(2, 4, 7, 5)), given(5, 4, name="r"))), "not transposed"),
        "pooling": (lambda: graph(MaxPool(last(image()), kernel=(2, 2))), None),
        "a region of interest": (
            lambda: graph(resize(last(image()), (1.0,) * 4, coordinates="tf_crop_and_resize", roi=(0.0,) * 4 + (1.0,) * 4)),
            None,
        ),
        "a reshape": (lambda: graph(reshape(last(image()), 2, 140)), None),
    },
}
