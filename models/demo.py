"""The demonstration: LeNet-5, trained on handwritten digits by models/train_lenet5.py, reads the digits held out from training."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from ..engine.cli import console
from ..engine.compiler import compile, load, optimize
from ..engine.session import Session
from .digits import MODEL_FILE, Digits, as_text, held_out, to_images

REQUIRED = 0.97
"""The accuracy on the held-out digits below which something is broken."""
SHOWN = 4
"""Digits side by side; they fill 80 columns."""


def demo(arguments: argparse.Namespace) -> int:
    """0 when the held-out digits are read as well as they should be, 1 otherwise. Takes the options of `tilewright demo`."""
    imported = load(MODEL_FILE)
    optimized = optimize(imported, arguments.passes)
    for title, graph in (("the model as it was exported", imported), ("after the passes", optimized)):
        console.heading(title)
        console.print_text(str(graph))
    session = compile(
        optimized,
        backend=arguments.backend,
        threads=arguments.threads,
        passes=[],
        accuracy=arguments.accuracy,
        precision=arguments.precision,
    )
    digits = held_out()
    probabilities, seconds = classify(session, to_images(digits.counts))
    show(digits, probabilities)
    right = probabilities.argmax(axis=1) == digits.labels
    console.heading("result")
    print(f"accuracy: {right.mean():.2%} ({right.sum()} of {len(right)} held-out digits; training never saw them)")
    print(f"time per image: {console.duration(seconds)} (median of {len(right)} runs of one image, backend {arguments.backend})")
    return 0 if right.mean() >= REQUIRED else 1


def classify(session: Session, images: np.ndarray) -> tuple[np.ndarray, float]:
    """The probabilities (n, 10) of images (n, 1, 28, 28), given one at a time, and the median seconds of a run."""
    probabilities, seconds = [], []
    for image in images:
        start = time.perf_counter()
        probabilities.append(session(image[None])[0])
        seconds.append(time.perf_counter() - start)
    return np.stack(probabilities), float(np.median(seconds))


def show(digits: Digits, probabilities: np.ndarray) -> None:
    """The first digits and the first misread ones as text, each over what it was taken for."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != digits.labels)
    for title, chosen in (("held-out digits and what they are read as", range(2 * SHOWN)), ("misread", wrong[:SHOWN].tolist())):
        if chosen:
            console.heading(title)
        for start in range(0, len(chosen), SHOWN):
            print_digits(digits, probabilities, chosen[start : start + SHOWN])


def print_digits(digits: Digits, probabilities: np.ndarray, chosen: Sequence[int]) -> None:
    """Some digits side by side."""
    for line in zip(*(as_text(digits.counts[i]) for i in chosen), strict=True):
        print("  ".join(line).rstrip())
    captions = []
    for i in chosen:
        read, label = int(probabilities[i].argmax()), int(digits.labels[i])
        captions.append(f"{read} ({probabilities[i, read]:.0%})" + ("" if read == label else f", is {label}"))
    print("  ".join(c.center(16) for c in captions).rstrip() + "\n")
