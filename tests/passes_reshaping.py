"""Where reshapes move behind what reads them, and where they must not; see passes_folding."""

from __future__ import annotations

from passes_builder import A, B, Make, add, constant, conv, given, graph, relu
from passes_folding import image
from passes_moving import reshape

from tilewright.engine.expression import apply
from tilewright.engine.graph import Node
from tilewright.engine.ops import AveragePool, MatMul, MaxPool, Pointwise, Reshape, Softmax


def oriented(x: Node) -> Reshape:
    """Channels as groups of three."""
    n, c, h, w = x.type.shape
    return reshape(x, n, c // 3, 3, h, w)


FIRES: dict[str, dict[str, Make]] = {
    "sink_reshape": {
        "one number for each group": lambda: graph(add(oriented(conv(image(), 6)), constant(2, 1, 1, 1))),
        "one number for each member": lambda: graph(add(constant(3, 1, 1), oriented(conv(image(), 6)))),
        "one number for each channel and row": lambda: graph(add(oriented(conv(image(), 6)), constant(1, 2, 3, 7, 1))),
        "one number": lambda: graph(relu(reshape(conv(image()), 2, 210))),
        "a region behind a region": lambda: graph(relu(add(reshape(conv(image(), 4), 8, 35), constant(1)))),
        "twice the same": lambda: (lambda r: graph(Pointwise((r, r), expression=A * apply("exp", B))))(oriented(conv(image(), 6))),
        "a sum of two": lambda: graph(add(oriented(conv(image(), 6)), oriented(conv(image("y"), 6)))),
        "a matrix product": lambda: graph(add(reshape(MatMul(given(2, 3, 4), constant(4, 6)), 2, 3, 2, 3), constant(2, 1))),
        "pool": lambda: graph(MaxPool(oriented(conv(image(), 6)), kernel=(1, 2, 3), strides=(1, 2, 1), pads=((0, 0), (1, 0), (1, 1)))),
        "average pool": lambda: graph(AveragePool(oriented(conv(image(), 6)), kernel=(1, 2, 2), ceil_mode=True, strides=(1, 2, 2))),
    }
}

HOLDS: dict[str, dict[str, tuple[Make, str | None]]] = {
    "sink_reshape": {
        "of an input": (lambda: graph(relu(reshape(image(), 8, 35))), None),
        "another reader": (lambda: (lambda r: graph(relu(r), r))(oriented(conv(image(), 6))), "2 readers"),
        "broadcast by the other operand": (lambda: graph(add(reshape(conv(given(1, 4, 7, 5)), 1, 6, 35), constant(3, 1, 1))), None),
        "a computed operand": (lambda: graph(add(oriented(conv(image(), 6)), given(2, 2, 3, 7, 5, name="r"))), "is computed"),
        "another reshape": (
            lambda: graph(add(oriented(conv(image(), 6)), reshape(conv(given(1, 4, 14, 5, name="y")), 2, 2, 3, 7, 5))),
            "is computed",
        ),
        "repeated along rows and columns": (
            lambda: graph(add(reshape(conv(image(), 6), 2, 6, 5, 7), constant(5, 1))),
            "repeated along several axes",
        ),
        "pool over the members": (
            lambda: graph(MaxPool(oriented(conv(image(), 6)), kernel=(2, 2, 2))),
            "wider than 1",
        ),
        "pool that skips members": (
            lambda: graph(MaxPool(oriented(conv(image(), 6)), kernel=(1, 2, 2), strides=(2, 1, 1))),
            "wider than 1",
        ),
        "pool over joined rows": (lambda: graph(MaxPool(reshape(conv(image()), 2, 6, 35), kernel=(2,))), "more than to split"),
        "softmax": (lambda: graph(Softmax(oriented(conv(image(), 6)), axis=2)), None),
    },
}
