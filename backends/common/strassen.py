"""Where Strassen's algorithm pays for a matrix product: an eighth of the multiplications against sums, and weights that grow."""

from __future__ import annotations

import dataclasses as dc
import math

from .machine_model import FLOPS, core_and_stream


@dc.dataclass(frozen=True)
class StrassenProblem:
    """A matrix product of (pixels, channels) by (channels, outputs), of one image."""

    channels: int
    outputs: int
    pixels: int
    lanes: int

    @property
    def is_even(self) -> bool:
        """Whether channels and outputs have halves of whole vectors."""
        return self.channels % (2 * self.lanes) == 0 and self.outputs % (2 * self.lanes) == 0


INPUT_SECONDS, SHARED_INPUT_SECONDS, OUTPUT_SECONDS = 9e-9, 25e-9, 8e-9
"""To transform a pair of pixels: for each pair of vectors that goes in, and that comes out.

What goes in costs more where there are so few pairs that cores share what one of them has transformed.
"""
MANY_PAIRS = 336
MARGIN = 1.035
"""Weights take 7/4 of the memory, so a smaller gain is not worth it."""


def is_faster(problem: StrassenProblem) -> bool:
    """Whether the direct algorithm takes longer by the margin."""
    return problem.is_even and estimate(problem) * MARGIN < direct(problem)


def estimate(problem: StrassenProblem) -> float:
    """Seconds of Strassen's algorithm."""
    pairs = math.ceil(problem.pixels / 2)
    products = 7 * 2 * pairs * (problem.channels // 2) * (problem.outputs // 2) / FLOPS
    vectors_in, vectors_out = problem.channels // 2 / problem.lanes, problem.outputs // 2 / problem.lanes
    input_seconds = INPUT_SECONDS if pairs >= MANY_PAIRS else SHARED_INPUT_SECONDS
    transforms = pairs * (vectors_in * input_seconds + vectors_out * OUTPUT_SECONDS)
    return core_and_stream(products + transforms, 7 * problem.channels * problem.outputs // 4)


def direct(problem: StrassenProblem) -> float:
    """Seconds of the direct algorithm."""
    weights = problem.channels * problem.outputs
    return core_and_stream(2 * problem.pixels * weights / FLOPS, weights)
