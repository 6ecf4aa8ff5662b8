"""Calling the command line from tests."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
REAL_MODELS = ROOT.parent / "shared" / "models"
"""Real exported models, their inputs and onnxruntime's answers; beside the repository where somebody fetched them."""
REFERENCE = ("--backend", "reference")


class Ending(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Ending]


def assert_wrong_input(ending: Ending, *said: str) -> None:
    """Exit code 2 and one line on stderr with these texts in it."""
    assert ending.code == 2, ending
    assert ending.err.count("\n") == 1 and ending.err.startswith("tilewright: "), ending.err
    for text in said:
        assert text in ending.err
