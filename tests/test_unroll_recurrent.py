"""Recurrent layers spelled out step by step against their NumPy meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilewright.engine.evaluate import evaluate
from tilewright.engine.graph import Constant, Graph, Input, Node, Result
from tilewright.engine.ops import GRU, LSTM, RNN
from tilewright.passes.unroll_recurrent import MOST_STEPS, unroll_recurrent

TIME, BATCH, FEATURES, HIDDEN = 3, 2, 5, 4


def layer(
    kind: type[Any],
    rng: np.random.Generator,
    *,
    time: int = TIME,
    bias: bool = True,
    states: bool = True,
    lengths: bool = False,
    **attributes: Any,
) -> Graph:
    """A graph of one layer with float64 operands, all of its results as outputs."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    peephole = attributes.pop("peephole", False)

    def random(*shape: int) -> Constant:
        return Constant(rng.standard_normal(shape))

    x = Input(name="x", shape=(time, BATCH, FEATURES), dtype=np.dtype(np.float64))
    gates = kind.gates * HIDDEN
    operands: dict[str, Node] = {"weight": random(directions, gates, FEATURES), "recurrent": random(directions, gates, HIDDEN)}
    if bias:
        operands["bias"] = random(directions, 2 * gates)
    if states:
        operands |= {name: random(directions, BATCH, HIDDEN) for name in ("hidden", "cell") if name == "hidden" or kind is LSTM}
    if peephole:
        operands["peephole"] = random(directions, 3 * HIDDEN)
    if lengths:
        operands["lengths"] = Constant(np.array([time, 1], np.int32))
    node = kind(x, **operands, **attributes)
    results = [Result(node, index=i) for i in range(len(node.types))]
    return Graph((x,), tuple(results), ("y", "y_h", "y_c")[: len(results)])


CASES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "lstm": (LSTM, {}),
    "lstm, one step": (LSTM, {"time": 1}),
    "lstm without bias and states": (LSTM, {"bias": False, "states": False}),
    "lstm, both directions": (LSTM, {"direction": "bidirectional"}),
    "lstm backwards with peepholes": (LSTM, {"direction": "reverse", "peephole": True}),
    "lstm, clipped, coupled gates": (LSTM, {"clip": 0.5, "input_forget": True}),
    "lstm, other activations": (
        LSTM,
        {"activations": ("HardSigmoid", "Softsign", "Relu"), "activation_alpha": (0.3,), "activation_beta": (0.4,)},
    ),
    "gru": (GRU, {}),
    "gru without bias and states": (GRU, {"bias": False, "states": False}),
    "gru, linear before reset, both directions": (GRU, {"linear_before_reset": True, "direction": "bidirectional"}),
    "gru, clipped": (GRU, {"clip": 0.3}),
    "rnn": (RNN, {}),
    "rnn backwards without states": (RNN, {"direction": "reverse", "states": False}),
}


@pytest.mark.parametrize("name", CASES)
def test_same_numbers(name: str, rng: np.random.Generator) -> None:
    kind, attributes = CASES[name]
    graph = layer(kind, rng, **attributes)
    spelled = unroll_recurrent(graph)
    assert not any(isinstance(node, LSTM | GRU | RNN) for node in spelled)
    x = rng.standard_normal(graph.inputs[0].type.shape)
    for before, after in zip(evaluate(graph, [x]), evaluate(spelled, [x]), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)
    assert unroll_recurrent(spelled) is spelled


@pytest.mark.parametrize("attributes", [{"lengths": True}, {"time": MOST_STEPS + 1}])
def test_leaves_lengths_and_long_sequences_alone(attributes: dict[str, Any], rng: np.random.Generator) -> None:
    graph = layer(LSTM, rng, **attributes)
    assert unroll_recurrent(graph) is graph
