"""Class scores: which output of a model holds them, and what they are as probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .errors import ModelError


def class_scores(outputs: Mapping[str, np.ndarray], labels: list[str] | None) -> tuple[str, np.ndarray]:
    """(name, rows of class scores) of the first output shaped (n, classes, 1, ...) with as many classes as there are labels."""
    found = {name: a.reshape(a.shape[0], -1).astype(np.float64) for name, a in outputs.items() if _is_table(a)}
    for name, scores in found.items():
        if labels is None or scores.shape[1] == len(labels):
            return name, scores
    given = ", ".join(f"{name} {a.shape}" for name, a in outputs.items())
    expected = f"(n, {len(labels)}): there are {len(labels)} labels" if labels else "(n, classes)"
    raise ModelError(f"no output holds class scores: expected one of shape {expected}, got {given}")


def _is_table(array: np.ndarray) -> bool:
    """(n, classes) with any number of axes of length 1 besides."""
    return array.ndim >= 2 and array.dtype.kind == "f" and array.size > 0 and sum(n > 1 for n in array.shape[1:]) <= 1


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """The scores themselves where they are probabilities, else the softmax of each row."""
    return scores if looks_like_probabilities(scores) else softmax(scores)


def looks_like_probabilities(scores: np.ndarray) -> bool:
    """Whether every row is positive and sums to 1, within what float16 can hold."""
    return bool((scores >= -1e-3).all() and (np.abs(scores.sum(1) - 1) < 1e-2).all())


def softmax(scores: np.ndarray) -> np.ndarray:
    """exp(x - max) / sum over each row."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
