"""Recurrent layers on the emulated GPU: every operand, direction and attribute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_harness import check_node, needs_compiler

from tilewright.backends.cuda.emulator.launch import BASIC
from tilewright.engine.graph import Node
from tilewright.engine.ops import GRU, LSTM, RNN
from tilewright.engine.ops.recurrent import DIRECTIONS

pytestmark = needs_compiler
KINDS: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
OPERANDS = {
    "rnn": ("bias", "lengths", "hidden"),
    "gru": ("bias", "lengths", "hidden"),
    "lstm": ("bias", "lengths", "hidden", "cell", "peephole"),
}


def check(kind: str, sizes: tuple[int, int, int, int], present: tuple[str, ...], dtype: Any = np.float32, **attributes: Any) -> None:
    """Compare a layer of sizes (time, batch, features, state) with the given optional operands."""
    rng = np.random.default_rng(sum(sizes))
    time, batch, features, h = sizes
    d, rows = len(DIRECTIONS[attributes.get("direction", "forward")]), GATES[kind] * h
    shapes = {"x": (time, batch, features), "weight": (d, rows, features), "recurrent": (d, rows, h), "bias": (d, 2 * rows)}
    shapes |= {"hidden": (d, batch, h), "cell": (d, batch, h), "peephole": (d, 3 * h)}
    arrays = {n: (rng.standard_normal(s) * 0.5).astype(dtype) for n, s in shapes.items() if n in ("x", "weight", "recurrent", *present)}
    if "lengths" in present:
        arrays["lengths"] = rng.integers(0, time + 1, batch).astype(np.int32)
    operands: dict[str, Node] = {name: operand(name, array) for name, array in arrays.items()}
    node = KINDS[kind](**operands, **attributes)
    values = {operands[name]: array for name, array in arrays.items()}
    tolerance = 3e-3 if dtype is np.float16 else 1e-5
    check_node(node, values, tolerance, tolerance / 5, schedules=BASIC[::3])


@pytest.mark.parametrize("kind", KINDS)
def test_directions(kind: str) -> None:
    check(kind, (5, 3, 4, 6), OPERANDS[kind], direction="bidirectional")
    check(kind, (3, 1, 37, 33), (), direction="reverse")


@pytest.mark.sweep
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_sizes_and_operands(kind: str, direction: str) -> None:
    for sizes in ((1, 1, 128, 200), (2, 9, 16, 1), (4, 2, 7, 19)):
        check(kind, sizes, OPERANDS[kind], direction=direction)
        for name in OPERANDS[kind]:
            check(kind, sizes, (name,), direction=direction)


def test_attributes() -> None:
    check("gru", (4, 2, 7, 19), OPERANDS["gru"], linear_before_reset=True)
    check("lstm", (4, 2, 7, 19), OPERANDS["lstm"], input_forget=True, clip=0.3)
    check("rnn", (4, 2, 7, 19), ("bias",), clip=0.2)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_elements(dtype: Any) -> None:
    check("lstm", (3, 2, 8, 24), OPERANDS["lstm"], dtype)
    check("gru", (3, 2, 8, 24), OPERANDS["gru"], dtype)


def test_activations() -> None:
    names = ("HardSigmoid", "Relu", "Tanh", "Sigmoid", "Tanh", "Softsign")
    check("lstm", (3, 2, 5, 9), ("bias",), direction="bidirectional", activations=names)
    check("rnn", (3, 2, 5, 9), (), activations=("ScaledTanh",), activation_alpha=(0.7,), activation_beta=(0.3,))
