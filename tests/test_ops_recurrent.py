"""RNN, GRU and LSTM with every operand and attribute against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operator_oracles import check_op, onnxruntime_results, randn

from tilewright.engine.graph import Node
from tilewright.engine.ops import GRU, LSTM, RNN
from tilewright.engine.ops.recurrent import DIRECTIONS

TIME, BATCH, FEATURES, HIDDEN = 5, 3, 4, 6
KINDS: dict[str, Callable[..., Node]] = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}
GATES, FUNCTIONS = {"RNN": 1, "GRU": 3, "LSTM": 4}, {"RNN": 1, "GRU": 2, "LSTM": 3}
LENGTHS = np.array([5, 2, 4], np.int32)
Random = np.random.Generator


def operands(rng: Random, kind: str, direction: str, present: frozenset[str]) -> list[np.ndarray | None]:
    """Random operands in order; optional ones that are not present are None."""
    d, rows = len(DIRECTIONS[direction]), GATES[kind] * HIDDEN
    shapes = {"bias": (d, 2 * rows), "lengths": (), "hidden": (d, BATCH, HIDDEN)}
    if kind == "LSTM":
        shapes |= {"cell": (d, BATCH, HIDDEN), "peephole": (d, 3 * HIDDEN)}
    optional = [LENGTHS if n == "lengths" else randn(rng, *s) for n, s in shapes.items()]
    chosen = [a if n in present else None for n, a in zip(shapes, optional, strict=True)]
    while chosen and chosen[-1] is None:
        chosen.pop()
    return [randn(rng, TIME, BATCH, FEATURES), randn(rng, d, rows, FEATURES), randn(rng, d, rows, HIDDEN), *chosen]


def check(rng: Random, kind: str, direction: str = "forward", present: str = "bias", **attributes: Any) -> None:
    """Our results equal onnxruntime's for random operands, of which the optional ones are named in `present`."""
    arrays = operands(rng, kind, direction, frozenset(present.split()))
    given = {k: int(v) if isinstance(v, bool) else v for k, v in attributes.items()}
    expected = onnxruntime_results(kind, arrays, 3 if kind == "LSTM" else 2, direction=direction, hidden_size=HIDDEN, **given)
    check_op(lambda *nodes: KINDS[kind](*nodes, direction=direction, **attributes), arrays, expected, tolerance=1e-5)


@pytest.mark.parametrize("present", ["", "bias", "lengths", "hidden", "bias lengths hidden"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_operands(rng: Random, kind: str, direction: str, present: str) -> None:
    check(rng, kind, direction, present)


@pytest.mark.parametrize("present", ["cell", "peephole", "bias lengths hidden cell peephole"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_lstm_cell_and_peephole(rng: Random, direction: str, present: str) -> None:
    check(rng, "LSTM", direction, present)


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
@pytest.mark.parametrize("present", ["", "bias lengths hidden"])
def test_gru_linear_before_reset(rng: Random, direction: str, present: str) -> None:
    check(rng, "GRU", direction, present, linear_before_reset=True)


@pytest.mark.parametrize("present", ["bias", "bias cell peephole"])
def test_lstm_input_forget(rng: Random, present: str) -> None:
    check(rng, "LSTM", "bidirectional", present, input_forget=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clip", [0.3, 2.0])
def test_clip(rng: Random, kind: str, clip: float) -> None:
    check(rng, kind, "bidirectional", "bias lengths hidden", clip=clip)


@pytest.mark.parametrize("name", ["Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"])
def test_activations_with_defaults(rng: Random, name: str) -> None:
    check(rng, "RNN", present="bias hidden", activations=(name,))


PARAMETERS: dict[str, Any] = {"activation_alpha": (0.6,), "activation_beta": (0.3,)}


@pytest.mark.parametrize("name", ["Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"])
def test_activations_with_parameters(rng: Random, name: str) -> None:
    check(rng, "RNN", present="bias hidden", activations=(name,), **PARAMETERS)


@pytest.mark.parametrize(("name", "alpha", "beta"), [("Affine", 1.0, 0.0), ("ThresholdedRelu", 1.0, 0.0), ("ScaledTanh", 1.0, 1.0)])
def test_defaults_of_the_specification(rng: Random, name: str, alpha: float, beta: float) -> None:
    arrays = operands(rng, "RNN", "forward", frozenset())  # onnxruntime itself defaults to 0
    given: dict[str, Any] = {"activations": (name,), "activation_alpha": (alpha,), "activation_beta": (beta,)}
    expected = onnxruntime_results("RNN", arrays, 2, hidden_size=HIDDEN, **given)
    check_op(lambda *nodes: RNN(*nodes, activations=(name,)), arrays, expected, tolerance=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_alphas_go_to_the_functions_that_have_them(rng: Random, kind: str) -> None:
    names = ("HardSigmoid", "Tanh", "LeakyRelu", "Sigmoid", "Affine", "Elu")[: 2 * FUNCTIONS[kind]]
    given: dict[str, Any] = {"activation_alpha": (0.15, 0.05, 0.4), "activation_beta": (0.45, 0.1)}
    check(rng, kind, "bidirectional", "bias", activations=names, **given)
