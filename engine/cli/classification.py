"""The most likely classes of each picture, by name."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping

import numpy as np

from ..errors import ModelError
from . import console
from .arguments import positive


def add_classification(parser: argparse.ArgumentParser) -> None:
    """--labels and --top."""
    group = parser.add_argument_group("classification")
    group.add_argument("--labels", metavar="FILE", help="one class name a line; prints the most likely classes")
    group.add_argument("--top", type=positive, metavar="K", help="how many; default with --labels: 5")


def read_labels(path: str) -> list[str]:
    """The lines of a text file. Raises ModelError when it cannot be read."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read labels from {path!r}: {error}") from error


def print_classes(outputs: Mapping[str, np.ndarray], labels: list[str] | None, top: int) -> None:
    """The `top` classes of each row of the output that holds class scores."""
    name, scores = class_scores(outputs, labels)
    probabilities = scores if looks_like_probabilities(scores) else softmax(scores)
    if probabilities is not scores:
        print(f"{console.printable(name)} holds scores, not probabilities; shown is their softmax")
    rows = []
    for picture, row in enumerate(probabilities):
        best = np.argsort(-row, kind="stable")[:top]
        rows += [[str(picture), probability(row[i]), str(i), labels[i] if labels else ""] for i in best]
    first = 0 if len(probabilities) > 1 else 1
    last = 4 if labels else 3
    console.table(["picture", "probability", "class", "label"][first:last], [row[first:last] for row in rows])


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


def looks_like_probabilities(scores: np.ndarray) -> bool:
    """Whether every row is positive and sums to 1, within what float16 can hold."""
    return bool((scores >= -1e-3).all() and (np.abs(scores.sum(1) - 1) < 1e-2).all())


def softmax(scores: np.ndarray) -> np.ndarray:
    """exp(x - max) / sum over each row."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def probability(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
