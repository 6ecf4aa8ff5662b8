"""The most likely classes of each picture, by name."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping

import numpy as np

from ..classification import as_probabilities, class_scores
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
    probabilities = as_probabilities(scores)
    if probabilities is not scores:
        print(f"{console.printable(name)} holds scores, not probabilities; shown is their softmax")
    rows = []
    for picture, row in enumerate(probabilities):
        best = np.argsort(-row, kind="stable")[:top]
        rows += [[str(picture), probability(row[i]), str(i), labels[i] if labels else ""] for i in best]
    first = 0 if len(probabilities) > 1 else 1
    last = 4 if labels else 3
    console.table(["picture", "probability", "class", "label"][first:last], [row[first:last] for row in rows])


def probability(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
