"""Winograd's minimal filtering for any kernel: transform matrices, transformed weights, and which output tile pays for a layer.

Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A gives a tile of m×m' outputs of an r×r' kernel from (m+r-1)(m'+r'-1) products (Lavin & Gray 2016,
"Fast algorithms for convolutional neural networks"), with matrices from Cook-Toom interpolation at the points below and at
infinity. The points were searched for the smallest error in float32: pairs ±p share the arithmetic of their even and odd parts.

A convolution of stride s is the sum of s² ones of stride 1, each of the taps and of the inputs of one phase; their products are
summed before the transform back, as if the phases were further channels. One of dilation d does with every d-th row and column
what one without does with all.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import itertools
import math

import numpy as np

POINTS: dict[int, tuple[float, ...]] = {
    0: (),
    3: (0, 1, -1),
    4: (0, 3 / 4, -3 / 4, 2),
    5: (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2),
    6: (0, 1 / 2, -1 / 2, 9 / 8, -9 / 8, 5 / 2),
    7: (0, 1 / 2, -1 / 2, 1, -1, 2, -2),
    8: (0, 5 / 8, -5 / 8, 9 / 8, -9 / 8, 5 / 2, -5 / 2, 1 / 3),
    9: (0, 1 / 2, -1 / 2, 3 / 4, -3 / 4, 5 / 4, -5 / 4, 5 / 2, -5 / 2),
    11: (0, 3 / 8, -3 / 8, 5 / 8, -5 / 8, 7 / 8, -7 / 8, 3 / 2, -3 / 2, 3, -3),
}
"""By how many they are. One output of one tap needs none: it is itself."""
MOST_POINTS = {"fast": (11, 14), "strict": (3, 6), "exact": (0, 0)}
"""How many points one axis, and both together, may have in each accuracy: the errors of both multiply. "strict" allows F(2×2, 3×3)."""


@dc.dataclass(frozen=True)
class Transform:
    """The three matrices of F(m, r): output (m, a), weight (a, r) and input (a, a), a = m + r - 1."""

    output: np.ndarray
    weight: np.ndarray
    input: np.ndarray


@functools.cache
def transform(m: int, r: int) -> Transform:
    """The matrices in float64; rows of the weight and input matrices are balanced by powers of two, which costs no accuracy."""
    points, a = POINTS[m + r - 2], m + r - 1
    output, weight, inputs = np.zeros((m, a)), np.zeros((a, r)), np.zeros((a, a))
    for j, p in enumerate(points):
        others = [q for q in points if q != p]
        output[:, j] = [p**i for i in range(m)]
        weight[j] = np.array([p**i for i in range(r)]) / math.prod(p - q for q in others)
        inputs[j, : a - 1] = _monic(others)
    output[m - 1, a - 1] = weight[a - 1, r - 1] = 1
    inputs[a - 1] = _monic(list(points))
    norms = np.linalg.norm(inputs, axis=1) / np.linalg.norm(weight, axis=1)
    balance = np.exp2(np.round(np.log2(np.sqrt(norms))))[:, None]
    return Transform(output, weight * balance, inputs / balance)


def _monic(roots: list[float]) -> np.ndarray:
    """Coefficients, lowest first, of the product of (x - root)."""
    polynomial = np.ones(1)
    for root in roots:
        polynomial = np.convolve(polynomial, [-root, 1.0])
    return polynomial


@dc.dataclass(frozen=True)
class Tiling:
    """F(m×m', r×r') of a convolution with these strides and dilations; r is the number of taps of one phase along an axis."""

    m: tuple[int, int]
    r: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)

    @staticmethod
    def of(m: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int] = (1, 1), dilations: tuple[int, int] = (1, 1)) -> Tiling:
        """For a kernel of this size."""
        return Tiling(m, (-(-kernel[0] // strides[0]), -(-kernel[1] // strides[1])), strides, dilations)

    def tiles(self, height: int, width: int) -> tuple[int, int]:
        """How many rows and columns of tiles cover so many outputs: for each of the dilation's phases as many as the longest needs."""
        down, across = (d * -(-n // (d * m)) for n, m, d in zip((height, width), self.m, self.dilations, strict=True))
        return down, across

    @property
    def spacing(self) -> tuple[int, int]:
        """Inputs of a tile are so many rows and columns apart. An axis has a stride or a dilation, not both."""
        return self.strides[0] * self.dilations[0], self.strides[1] * self.dilations[1]

    @property
    def extent(self) -> tuple[int, int]:
        """Input positions of a tile along each axis, in one phase."""
        return self.m[0] + self.r[0] - 1, self.m[1] + self.r[1] - 1

    @property
    def frequencies(self) -> int:
        return math.prod(self.extent)

    @property
    def phases(self) -> int:
        return math.prod(self.strides)

    @property
    def points(self) -> int:
        """Interpolation points of both axes together, which the error grows with."""
        return sum(self.extent) - 2

    @property
    def matrices(self) -> tuple[Transform, Transform]:
        """Of rows and columns."""
        return transform(self.m[0], self.r[0]), transform(self.m[1], self.r[1])


def phase_taps(weight: np.ndarray, tiling: Tiling) -> np.ndarray:
    """(k, c, taps, taps) as (k, c, phase, r, r'): tap s·i + p is tap i of phase p; taps that are missing are zero."""
    (r, r2), (s, s2) = tiling.r, tiling.strides
    missing = [(0, have * step - n) for have, step, n in zip(tiling.r, tiling.strides, weight.shape[2:], strict=True)]
    whole = np.pad(weight, ((0, 0), (0, 0), *missing))
    return whole.reshape(*weight.shape[:2], r, s, r2, s2).transpose(0, 1, 3, 5, 2, 4).reshape(*weight.shape[:2], s * s2, r, r2)


def transformed_weight(weight: np.ndarray, tiling: Tiling) -> np.ndarray:
    """(k, c, taps, taps) as G g Gᵀ in float64: (frequency, c, phase, k). Much memory for many k at once: give it some after others."""
    k, c = weight.shape[:2]
    rows, columns = tiling.matrices
    taps = math.prod(tiling.r)
    lines = np.ascontiguousarray(phase_taps(weight, tiling).reshape(k, -1, taps).transpose(2, 1, 0), np.float64).reshape(taps, -1)
    return (np.kron(rows.weight, columns.weight) @ lines).reshape(-1, c, tiling.phases, k)


@dc.dataclass(frozen=True)
class WinogradProblem:
    """What the choice of the tile depends on."""

    channels: int
    outputs: int
    """Output channels, rounded up to whole vectors."""
    height: int
    width: int
    lanes: int
    multiply_adds: int
    """Those of the direct algorithm that do not fall into padding."""
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)


MOST_OUTPUTS = 8
"""Along one axis of a tile."""
FLOPS = 110e9
"""Operations a second that a core's products reach."""
CORES, BANDWIDTH = 2, 40e9
"""The model's machine: cores that share the memory from which all weights stream, and its bytes a second.

It is the same for any number of threads, and the batch does not enter: an image must give the same bits alone and among others.
"""
TRANSFORM_SECONDS = 1.2e-10
"""For one value of a transformed tile, in or out."""
HARMLESS_POINTS, POINT_PENALTY = 10, 0.06
"""Large tiles have larger errors: each point beyond those of F(4×4, 3×3) must win this share of the time."""


def candidates(problem: WinogradProblem, accuracy: str = "fast") -> list[Tiling]:
    """Every tiling that the accuracy allows; where both axes have the same taps they have the same outputs."""
    square = problem.kernel[0] == problem.kernel[1] and problem.strides[0] == problem.strides[1]
    found = []
    outputs = range(1, MOST_OUTPUTS + 1)
    for m in itertools.product(outputs, outputs):
        tiling = Tiling.of(m, problem.kernel, problem.strides, problem.dilations)
        counts = [a - 1 for a in tiling.extent]
        filters = all((n > 1) == (r > 1) for n, r in zip(m, tiling.r, strict=True)) and max(counts) > 0
        of_one, of_both = MOST_POINTS[accuracy]
        known = all(count in POINTS and count <= of_one for count in counts) and tiling.points <= of_both
        if filters and known and (m[0] == m[1] or not square):
            found.append(tiling)
    return found


@functools.lru_cache(maxsize=4096)
def choose(problem: WinogradProblem, accuracy: str = "fast") -> Tiling | None:
    """The tiling with the least estimated time; None where the direct algorithm is faster, or the accuracy forbids all."""
    weights = problem.channels * problem.outputs * math.prod(problem.kernel)
    direct = core_and_stream(2 * problem.multiply_adds / FLOPS, weights)
    best = min(candidates(problem, accuracy), key=lambda tiling: estimate(problem, tiling), default=None)
    return best if best is not None and estimate(problem, best) < direct else None


def worth_measuring(problem: WinogradProblem, accuracy: str, count: int) -> list[Tiling | None]:
    """The direct algorithm, and the tilings with the least estimated times that have no larger errors than the rule's, or F(4×4, 3×3)."""
    rule = choose(problem, accuracy)
    most = max(HARMLESS_POINTS, rule.points if rule else 0)
    harmless = [tiling for tiling in candidates(problem, accuracy) if tiling.points <= most]
    return [None, *sorted(harmless, key=lambda tiling: estimate(problem, tiling))[:count]]


def estimate(problem: WinogradProblem, tiling: Tiling) -> float:
    """Seconds of one image: products and transforms, and the stream of the transformed weights."""
    tiles = math.prod(tiling.tiles(problem.height, problem.width))
    weights = tiling.frequencies * tiling.phases * problem.channels * problem.outputs
    products = 2 * weights * tiles / FLOPS
    channels = -(-problem.channels // problem.lanes) * problem.lanes * tiling.phases
    transforms = TRANSFORM_SECONDS * tiles * tiling.frequencies * (channels + problem.outputs)
    return core_and_stream(products + transforms, weights) * (1 + POINT_PENALTY * max(0, tiling.points - HARMLESS_POINTS))


def core_and_stream(seconds: float, weights: int) -> float:
    """Seconds of work that the cores share while so many weights stream in: each hides a part of the other."""
    return math.hypot(seconds / CORES, 4 * weights / BANDWIDTH)
