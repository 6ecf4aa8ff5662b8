"""The UCI handwritten digits (8 x 8 counts from 0 to 16): which of them are held out, and how they become images for LeNet-5."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import numpy as np

HELD_OUT = 500
"""The last ones of the collection; training never sees them."""
HELD_OUT_FILE = pathlib.Path(__file__).with_name("digits_heldout.npz")
MODEL_FILE = pathlib.Path(__file__).with_name("lenet5_digits.onnx")
EXTENT = 28


class Digits(NamedTuple):
    """Handwritten digits: (n, 8, 8) uint8 counts, (n,) labels and (n,) positions in the collection."""

    counts: np.ndarray
    labels: np.ndarray
    positions: np.ndarray

    def at(self, chosen: np.ndarray) -> Digits:
        """Some of them."""
        return Digits(self.counts[chosen], self.labels[chosen], self.positions[chosen])


def split(total: int) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the digits to train on and of the held-out ones."""
    return np.arange(total - HELD_OUT), np.arange(total - HELD_OUT, total)


def held_out() -> Digits:
    """The held-out digits, from the file beside this one."""
    with np.load(HELD_OUT_FILE) as file:
        return Digits(file["counts"], file["labels"], file["positions"])


def to_images(counts: np.ndarray) -> np.ndarray:
    """Digits (n, 8, 8) as images (n, 1, 28, 28) in [0, 1], enlarged by linear interpolation."""
    size = counts.shape[-1]
    places = (np.arange(EXTENT) + 0.5) * size / EXTENT - 0.5
    weights = np.array([np.interp(places, np.arange(size), row) for row in np.eye(size)])
    return (weights.T @ (counts / 16) @ weights)[:, None].astype(np.float32)


def as_text(counts: np.ndarray) -> list[str]:
    """One digit as 8 lines of 16 characters, darker where there is more ink."""
    shades = " .:-=+*#@"
    return ["".join(2 * shades[value // 2] for value in row) for row in counts]
