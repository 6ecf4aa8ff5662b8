"""Winograd's minimal filtering F(m×m, 3×3): transform matrices, transformed weights, and which m pays for a layer.

Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A gives m×m outputs from (m+2)² products (Lavin & Gray 2016, "Fast algorithms for convolutional neural
networks"), with matrices from Cook-Toom interpolation at the points below and at infinity. The points were searched for the
smallest error in float32: pairs ±p share the arithmetic of their even and odd parts, and 5/8 and 3/2 for m = 4 halve the error
of the usual ±1 and ±2.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import math
from collections.abc import Iterator

import numpy as np

TAPS = 3
FREQUENCIES_AT_ONCE = 8
"""Frequencies whose weights are transformed together: few enough that float64 needs little memory."""
POINTS: dict[int, tuple[float, ...]] = {
    2: (0, 1, -1),
    4: (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2),
    5: (0, 1 / 2, -1 / 2, 9 / 8, -9 / 8, 5 / 2),
    6: (0, 1 / 2, -1 / 2, 1, -1, 2, -2),
}
STRICT = (2,)
"""The output tiles that accuracy="strict" allows."""


@dc.dataclass(frozen=True)
class Transform:
    """The three matrices of F(m, 3): output (m, a), weight (a, 3) and input (a, a), a = m + 2."""

    m: int
    output: np.ndarray
    weight: np.ndarray
    input: np.ndarray

    @property
    def extent(self) -> int:
        """Input positions of a tile along one axis."""
        return self.m + TAPS - 1


@functools.cache
def transform(m: int) -> Transform:
    """The matrices in float64; rows of the weight and input matrices are balanced by powers of two, which costs no accuracy."""
    points, a = POINTS[m], m + TAPS - 1
    output, weight, inputs = np.zeros((m, a)), np.zeros((a, TAPS)), np.zeros((a, a))
    for j, p in enumerate(points):
        others = [q for q in points if q != p]
        output[:, j] = [p**i for i in range(m)]
        weight[j] = np.array([p**i for i in range(TAPS)]) / math.prod(p - q for q in others)
        inputs[j, : a - 1] = _monic(others)
    output[m - 1, a - 1] = weight[a - 1, TAPS - 1] = 1
    inputs[a - 1] = _monic(list(points))
    norms = np.linalg.norm(inputs, axis=1) / np.linalg.norm(weight, axis=1)
    balance = np.exp2(np.round(np.log2(np.sqrt(norms))))[:, None]
    return Transform(m, output, weight * balance, inputs / balance)


def _monic(roots: list[float]) -> np.ndarray:
    """Coefficients, lowest first, of the product of (x - root)."""
    polynomial = np.ones(1)
    for root in roots:
        polynomial = np.convolve(polynomial, [-root, 1.0])
    return polynomial


def transformed_weight(weight: np.ndarray, m: int) -> Iterator[tuple[slice, np.ndarray]]:
    """(k, c, 3, 3) as G g Gᵀ in float64: some frequencies at a time, and their (frequency, c, k)."""
    k, c = weight.shape[:2]
    g = transform(m).weight
    both = np.kron(g, g)
    taps = np.ascontiguousarray(weight.reshape(k, c, TAPS**2).transpose(2, 1, 0), np.float64).reshape(TAPS**2, c * k)
    for start in range(0, len(both), FREQUENCIES_AT_ONCE):
        part = both[start : start + FREQUENCIES_AT_ONCE]
        yield slice(start, start + len(part)), (part @ taps).reshape(len(part), c, k)


@dc.dataclass(frozen=True)
class WinogradProblem:
    """What the choice of m depends on."""

    channels: int
    outputs: int
    """Output channels, rounded up to whole vectors."""
    height: int
    width: int
    lanes: int
    multiply_adds: int
    """Those of the direct algorithm that do not fall into padding."""


FLOPS = 110e9
"""Operations a second that a thread's products reach."""
WEIGHT_BANDWIDTH, CACHE_BANDWIDTH, CACHE_BYTES = 24e9, 80e9, 24e6
"""Bytes a second at which transformed weights stream: from memory, or from the last cache while they fit into it."""
TRANSFORM_SECONDS = 1.2e-10
"""For one value of a transformed tile, in or out."""
ERROR_PENALTY = {5: 1.1, 6: 1.25}
"""Large tiles have larger errors: they must win clearly."""


def choose(problem: WinogradProblem, allowed: tuple[int, ...] = tuple(POINTS)) -> int | None:
    """The m with the least estimated time; None where the direct algorithm is faster."""
    direct = 2 * problem.multiply_adds / FLOPS
    best = min(allowed, key=lambda m: estimate(problem, m), default=None)
    return best if best is not None and estimate(problem, best) < direct else None


def estimate(problem: WinogradProblem, m: int) -> float:
    """Seconds of one image on one thread: products or the stream of their weights, whichever is longer, and the transforms.

    Neither the batch nor the number of threads enters: an image must give the same bits alone and among others.
    """
    a = m + TAPS - 1
    tiles = -(-problem.height // m) * -(-problem.width // m)
    weights = a * a * problem.channels * problem.outputs
    products = 2 * weights * tiles / FLOPS
    stream = 4 * weights / (CACHE_BANDWIDTH if 4 * weights < CACHE_BYTES else WEIGHT_BANDWIDTH)
    channels = -(-problem.channels // problem.lanes) * problem.lanes
    transforms = TRANSFORM_SECONDS * tiles * a * a * (channels + problem.outputs)
    return (max(products, stream) + transforms) * ERROR_PENALTY.get(m, 1)
