"""Recurrent layers: with layout 1 the batch comes first in all sequences and states, so these are transposed."""

from __future__ import annotations

from typing import Any

from ...engine.graph import Node, Result
from ...engine.ops.recurrent import GRU, LSTM, RNN
from ...engine.ops.shape import Transpose
from .convert import Call, Results, converter


@converter("RNN")
def rnn(call: Call) -> Results:
    """A plain recurrent layer."""
    return _results(call, RNN(*_operands(call), **_settings(call)), 2)


@converter("GRU")
def gru(call: Call) -> Results:
    """Gated recurrent units."""
    return _results(call, GRU(*_operands(call), **_settings(call), linear_before_reset=bool(call.integer("linear_before_reset"))), 2)


@converter("LSTM")
def lstm(call: Call) -> Results:
    """Long short-term memory."""
    states = {"cell": _batch_second(call, call.get(6)), "peephole": call.get(7)}
    return _results(call, LSTM(*_operands(call), **states, **_settings(call), input_forget=bool(call.integer("input_forget"))), 3)


def _operands(call: Call) -> tuple[Any, ...]:
    """x, weight, recurrent weight, bias, lengths and initial state."""
    return _batch_second(call, call[0]), call[1], call[2], call.get(3), call.get(4), _batch_second(call, call.get(5))


def _settings(call: Call) -> dict[str, Any]:
    """The attributes that all three have in common."""
    clip = call.attribute("clip")
    return {
        "direction": call.text("direction"),
        "activations": call.words("activations") if "activations" in call.operation.attributes else (),
        "activation_alpha": call.numbers("activation_alpha") or (),
        "activation_beta": call.numbers("activation_beta") or (),
        "clip": None if clip is None else call.number("clip"),
    }


def _batch_second(call: Call, x: Node | None) -> Node | None:
    """x with its first two axes exchanged where the layout asks for that."""
    return x if x is None or not call.integer("layout", 0) else Transpose(x, permutation=(1, 0, 2))


def _results(call: Call, node: Node, count: int) -> tuple[Node, ...]:
    y, *states = [Result(node, index=i) for i in range(count)]
    if not call.integer("layout", 0):
        return (y, *states)
    return (Transpose(y, permutation=(2, 0, 1, 3)), *(Transpose(s, permutation=(1, 0, 2)) for s in states))
