"""Recurrent kernels against NumPy in float64: every operand, direction and attribute, states that do not fill vectors."""

from typing import Any

import numpy as np
import pytest
from cpu_harness import check_node, operand

from tilewright.engine.graph import Node
from tilewright.engine.ops import GRU, LSTM, RNN
from tilewright.engine.ops.recurrent import DIRECTIONS

KINDS = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
ALL = {
    "rnn": ("bias", "lengths", "hidden"),
    "gru": ("bias", "lengths", "hidden"),
    "lstm": ("bias", "lengths", "hidden", "cell", "peephole"),
}


def check(
    rng: np.random.Generator,
    kind: str,
    sizes: tuple[int, int, int, int],
    present: tuple[str, ...] = ("bias",),
    dtype: str = "f4",
    **attributes: Any,
) -> None:
    """Compare a layer of sizes (time, batch, features, state) with the given optional operands."""
    time, batch, features, h = sizes
    d, rows = len(DIRECTIONS[attributes.get("direction", "forward")]), GATES[kind] * h
    shapes = {"x": (time, batch, features), "weight": (d, rows, features), "recurrent": (d, rows, h), "bias": (d, 2 * rows)}
    shapes |= {"hidden": (d, batch, h), "cell": (d, batch, h), "peephole": (d, 3 * h)}
    arrays = {n: (rng.standard_normal(s) * 0.5).astype(dtype) for n, s in shapes.items() if n in ("x", "weight", "recurrent", *present)}
    if "lengths" in present:
        arrays["lengths"] = rng.integers(0, time + 1, batch).astype(np.int32)
    operands: dict[str, Node] = {name: operand(name, array) for name, array in arrays.items()}
    node = KINDS[kind](**operands, **attributes)
    check_node(node, {operands[name]: array for name, array in arrays.items()}, relative=1e-5, absolute=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("sizes", [(5, 3, 4, 6), (1, 1, 128, 128), (3, 2, 37, 33), (2, 1, 16, 1)])
def test_sizes(rng, kind, direction, sizes):
    check(rng, kind, sizes, direction=direction)
    check(rng, kind, sizes, ALL[kind], direction=direction)


@pytest.mark.parametrize("kind", KINDS)
def test_each_operand_alone(rng, kind):
    check(rng, kind, (4, 3, 5, 18), ())
    for name in ALL[kind]:
        check(rng, kind, (4, 3, 5, 18), (name,), direction="bidirectional")


def test_attributes(rng):
    for direction in DIRECTIONS:
        check(rng, "gru", (4, 2, 7, 19), ALL["gru"], direction=direction, linear_before_reset=True)
        check(rng, "lstm", (4, 2, 7, 19), ALL["lstm"], direction=direction, input_forget=True, clip=0.3)
        check(rng, "rnn", (4, 2, 7, 19), direction=direction, clip=0.2)


def test_activations(rng):
    names = ("Relu", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus", "Affine", "Tanh")
    for name in names:
        check(rng, "rnn", (3, 2, 5, 9), activations=(name,), activation_alpha=(0.7,), activation_beta=(0.3,))
    check(rng, "lstm", (3, 2, 5, 9), direction="bidirectional", activations=("HardSigmoid", "Relu", "Tanh", "Sigmoid", "Tanh", "Softsign"))
    check(rng, "gru", (3, 2, 5, 9), direction="bidirectional", activations=("Sigmoid", "Tanh", "HardSigmoid", "Softsign"))


@pytest.mark.parametrize("kind", KINDS)
def test_double(rng, kind):
    check(rng, kind, (3, 2, 5, 11), ALL[kind], dtype="f8", direction="bidirectional")
