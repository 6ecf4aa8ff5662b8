"""Where the passes over pointwise regions fire, and where they must not; see passes_folding."""

from __future__ import annotations

import numpy as np
from passes_builder import A, B, C, Make, add, constant, conv, filled, given, graph, integers, relu
from passes_folding import channel, dense, image, transposed

from tilewright.engine.expression import Convert, Expression, Operand, apply
from tilewright.engine.graph import Constant, Graph, Node, Result
from tilewright.engine.ops import AveragePool, Concat, Conv, MaxPool, Pointwise, Reduce, Reshape, TopK, cast, pointwise

RESULT = (2, 6, 7, 5)
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def like(name: str = "r") -> Node:
    return given(*RESULT, name=name)


def region(expression: Expression, *inputs: Node) -> Graph:
    return graph(Pointwise(inputs, expression=expression, origin=("region",)))


def depends_on_the_conv() -> Graph:
    """c and a pooled c are both operands of the sum: to take it in, c would have to wait for itself."""
    c = conv(image())
    return graph(add(c, MaxPool(c, kernel=(1, 3), pads=((0, 0), (1, 1)))))


def swish() -> Graph:
    x = image()
    return graph(pointwise("mul", x, pointwise("sigmoid", x)))


def squeeze_and_excite() -> Graph:
    x = image()
    gate = pointwise("sigmoid", Reduce(x, kind="mean", axes=(2, 3)))
    return graph(pointwise("mul", x, gate))


def large_regions() -> Graph:
    waves: Expression = A
    for i in range(20):
        waves = waves + apply("sin", A * (i + 1.5))
    return graph(Pointwise((Pointwise((image(),), expression=waves),), expression=waves))


def gated(count: int) -> Graph:
    """A conv times the given number of gates."""
    expression: Expression = A
    for i in range(count):
        expression = expression * Operand(i + 1)
    gates = (given(2, 6, 1, 1, name=f"gate{i}") for i in range(count))
    return region(expression, conv(image()), *gates)


def sum_of(count: int) -> Graph:
    """A conv plus the given number of whole tensors."""
    expression: Expression = A
    for i in range(count):
        expression = expression + Operand(i + 1)
    return region(expression, conv(image()), *(like(f"r{i}") for i in range(count)))


def equal_branches() -> Graph:
    x, weight = image(), constant(6, 4, 3, 3)
    left, right = (pointwise("exp", Conv(x, Constant(weight.data.copy()), origin=(side,)), origin=(f"exp {side}",)) for side in "lr")
    return graph(Concat((left, right), axis=1))


def equal_topk() -> Graph:
    x = given(3, 9)
    one, other = TopK(x, k=2, axis=1), TopK(x, k=2, axis=1)
    return graph(Result(one, index=0), Result(other, index=0), Result(other, index=1))


def plus(x: Node, *values: float) -> Graph:
    return graph(*(Pointwise((x,), expression=A + value) for value in values))


def pools(x: Node) -> Graph:
    return graph(MaxPool(x, kernel=(2, 2)), MaxPool(x, kernel=(2, 3)), AveragePool(x, kernel=(2, 2)))


def twice(x: Node) -> Graph:
    return graph(x, relu(x), pointwise("exp", x))


FIRES: dict[str, dict[str, Make]] = {
    "canonicalize": {
        "numbers": lambda: region(A * B + C, filled(2, 1), image(), filled(0.5, 4, 1, 1)),
        "constants last": lambda: region(apply("max", A, B), channel(4), image()),
        "subtraction": lambda: region(A - 2.0, image()),
        "neutral": lambda: region((A * 1 + 0) / 1 - 0.0, image()),
        "squares and roots": lambda: region(apply("pow", A, 2) + apply("pow", apply("abs", B), 0.5), image(), image("y")),
        "twice the same": lambda: (lambda x: region(A * apply("sigmoid", B), x, x))(image()),
        "unread": lambda: region(A + C, image(), image("y"), image("z")),
        "same dtype": lambda: region(Convert(A, F64) * 2, given(3, 5, dtype="float64")),
        "powers of two": lambda: region(A / 4.0, image()),
        "integers": lambda: region(A + B, given(3, dtype="int64"), integers(4, 4, 4)),
        "a condition": lambda: region(apply("where", A < B, 0.25, A), image(), filled(1, 1)),
    },
    "fuse_pointwise": {
        "chain": lambda: graph(relu(add(pointwise("exp", image()), image("y")))),
        "reads its own operand": swish,
        "two branches": lambda: graph(add(pointwise("tanh", image()), pointwise("exp", image("y")))),
        "casts": lambda: graph(cast(relu(cast(image(), np.dtype(np.int32))), F32)),
    },
    "fuse_activation": {
        "relu": lambda: graph(relu(conv(image()))),
        "leaky, a slope a channel": lambda: region(apply("leaky_relu", A, B), conv(image()), channel()),
        "gate, computed": lambda: region(A * apply("sigmoid", B), conv(image()), given(2, 6, 1, 1, name="gate")),
        "gate of lower rank": lambda: region(B * A, given(6, 1, 1, name="gate"), conv(image())),
        "after an epilogue": lambda: graph(pointwise("exp", conv(image(), extras=(like(),), epilogue=apply("relu", A + B)))),
        "transposed": lambda: graph(pointwise("tanh", transposed(image(), groups=2))),
        "matmul": lambda: region(apply("max", A * B, 0), dense(given(2, 3, 4)), constant(5)),
        "computed weights": lambda: graph(relu(Conv(image(), given(6, 4, 1, 1, name="w"), given(6, name="b")))),
        "to another dtype": lambda: graph(cast(conv(image()), np.dtype(np.int32))),
    },
    "fuse_residual": {
        "relu of sum": lambda: region(apply("relu", A + B), like(), conv(image())),
        "the later of two": lambda: graph(add(conv(image()), conv(image("z"), kernel=1))),
        "transposed": lambda: region(A * B, transposed(image(), groups=2), given(2, 6, 14, 13, name="r")),
        "a constant": lambda: graph(add(conv(image()), constant(*RESULT))),
        "matmul": lambda: graph(pointwise("sub", given(3, 5, name="r"), dense(given(3, 4)))),
        "four": lambda: sum_of(4),
    },
    "merge_equal": {"constants too": equal_branches, "several results": equal_topk},
}

HOLDS: dict[str, dict[str, tuple[Make, str | None]]] = {
    "canonicalize": {
        "nothing to do": (lambda: region(A * 2 + B, image(), channel(4)), None),
        "not the same everywhere": (lambda: region(A * B, image(), channel(4)), None),
        "the constant gives the shape": (lambda: region(A + B, given(), filled(2, 3, 1)), "gives it a type"),
        "the constant gives the dtype": (
            lambda: region(apply("where", A, B, C), given(3, dtype="bool"), filled(1, 1), filled(2, 1)),
            "gives it a type",
        ),
        "a function of numbers only": (lambda: region(A + apply("exp", B), image(), filled(1, 1)), "gives it a type"),
        "infinity": (lambda: region(apply("min", A, B), image(), filled(np.inf, 1)), None),
        "not a number": (lambda: region(apply("min", A, B), image(), filled(np.nan, 1)), None),
        "dividing by three": (lambda: region(A / 3.0, image()), None),
        "subtracting from a number": (lambda: region(3.0 - A, image()), None),
        "unsigned": (lambda: region(A - 3, given(5, dtype="uint8")), None),
        "truncating": (lambda: region(Convert(Convert(A, np.dtype(np.int32)), F32), image()), None),
        "integer division by two": (lambda: region(A / 2, given(5, dtype="int32")), None),
        "the square of a large expression": (lambda: region(apply("pow", apply("exp", A), 2), image()), None),
    },
    "fuse_pointwise": {
        "several readers": (lambda: twice(pointwise("exp", image())), "3 readers"),
        "one value an image": (squeeze_and_excite, "would be computed again"),
        "a conv between": (lambda: graph(relu(conv(relu(image())))), None),
        "too large": (large_regions, "more than 128 terms"),
    },
    "fuse_activation": {
        "several readers": (lambda: twice(conv(image())), "3 readers"),
        "an output reads it": (lambda: (lambda c: graph(c, relu(c)))(conv(image())), "2 readers"),
        "a whole tensor": (lambda: graph(add(conv(image()), like())), None),
        "broadcast up": (lambda: graph(add(conv(given(1, 4, 7, 5)), given(3, 1, 1, 1, name="n"))), None),
        "one number a pixel": (lambda: graph(add(conv(image()), given(2, 1, 7, 5, name="mask"))), "neither of the shape"),
        "one number a line": (lambda: graph(add(conv(image()), given(2, 6, 7, 1, name="line"))), "neither of the shape"),
        "one number a row": (lambda: graph(add(dense(given(3, 4)), given(3, 1, name="row"))), "neither of the shape"),
        "one number an image": (lambda: graph(add(conv(image()), given(2, 1, 1, 1, name="n"))), "neither of the shape"),
        "one number a row of a stack": (lambda: graph(add(dense(given(2, 3, 4)), given(2, 3, 1, name="row"))), "neither of the shape"),
        "after a pool": (lambda: graph(relu(MaxPool(conv(image()), kernel=(2, 2)))), None),
        "after a reshape": (lambda: graph(relu(Reshape(conv(image()), shape=(2, 6, 35)))), None),
        "too many operands": (lambda: gated(5), "more than 4 operands"),
    },
    "fuse_residual": {
        "the other depends on it": (depends_on_the_conv, "2 readers"),
        "an output reads it": (lambda: (lambda c: graph(add(c, like()), c))(conv(image())), "2 readers"),
        "one operand": (lambda: graph(relu(conv(image()))), None),
        "no product": (lambda: graph(add(image(), image("y"))), None),
        "broadcast up": (lambda: graph(add(conv(given(1, 4, 7, 5)), like())), None),
        "too many operands": (lambda: sum_of(5), "more than 4 operands"),
        "a mask over pixels besides": (
            lambda: region(A + B * C, conv(image()), like(), given(2, 1, 7, 5, name="mask")),
            "neither of the shape",
        ),
    },
    "merge_equal": {
        "other weights": (lambda: (lambda x: graph(conv(x), conv(x)))(image()), None),
        "other attributes": (lambda: pools(image()), None),
        "1 and 1.0": (lambda: plus(image(), 1, 1.0, True), None),
        "0.0 and -0.0": (lambda: graph(filled(0.0, 3), filled(-0.0, 3)), None),
        "two inputs": (lambda: graph(relu(image()), relu(image("y"))), None),
        "the bytes but not the dtype": (lambda: graph(integers(1, 2), Constant(np.array([1, 2], np.uint64))), None),
        "the bytes but not the shape": (lambda: graph(filled(1, 2, 3), filled(1, 3, 2)), None),
        "all but one element": (lambda: graph(filled(1, 99), Constant(np.append(np.ones(98, "f4"), np.float32(2)))), None),
    },
}
