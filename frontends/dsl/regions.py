"""Pooling into a given number of results: the regions of an axis may differ in extent and overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ...engine.errors import ModelError
from .functions import pad
from .indexing import gather
from .trace import layer
from .value import Value, constant
from .windows import PerAxis, average_pool, max_pool, per_axis, spatial_extents

Regions = Sequence[tuple[int, int]]
"""(start, stop) of each region along an axis."""


@layer
def adaptive_average_pool(x: Value, extents: PerAxis) -> Value:
    """The means of extents[0] * extents[1] * ... regions of x (n, c, *spatial): from floor(i*size/extent) to ceil((i+1)*size/extent)."""
    regions = _adaptive(x, extents, "adaptive_average_pool")
    uneven = [not _even(r) for r in regions]
    if any(uneven):
        x = pad(x, [(0, 0), (0, 0), *((0, int(u)) for u in uneven)])
    x, kernel, stride = _side_by_side(x, regions, repeat=False)
    pooled = average_pool(x, kernel, stride)
    for axis, (found, largest) in enumerate(zip(regions, kernel, strict=True)):
        if uneven[axis]:  # the mean was over zeros, too
            shares = np.array([largest / (stop - start) for start, stop in found], x.dtype)
            pooled = pooled * constant(shares.reshape(-1, *[1] * (len(kernel) - 1 - axis)))
    return pooled


@layer
def adaptive_max_pool(x: Value, extents: PerAxis) -> Value:
    """The maxima of the regions that adaptive_average_pool has."""
    x, kernel, stride = _side_by_side(x, _adaptive(x, extents, "adaptive_max_pool"))
    return max_pool(x, kernel, stride)


@layer
def fractional_max_pool(x: Value, extents: PerAxis, overlap: bool = True, seed: int = 0) -> Value:
    """The maxima of extents[0] * extents[1] * ... regions that differ by at most one in extent, in a pseudo-random order (Graham 2014).

    Borders are ceil(ratio * (i + u)), with u from (0, 1) for each axis by the seed. overlap: neighbours share the position at their border.
    """
    spatial = spatial_extents(x, "fractional_max_pool")
    starts = np.random.default_rng(seed).random(len(spatial))
    counts = per_axis(extents, len(spatial), "fractional_max_pool")
    regions = [_fractional(n, count, overlap, float(u)) for n, count, u in zip(spatial, counts, starts, strict=True)]
    x, kernel, stride = _side_by_side(x, regions)
    return max_pool(x, kernel, stride)


def _adaptive(x: Value, extents: PerAxis, what: str) -> list[Regions]:
    spatial = spatial_extents(x, what)
    counts = per_axis(extents, len(spatial), what)
    return [[(i * n // count, -(-(i + 1) * n // count)) for i in range(count)] for n, count in zip(spatial, counts, strict=True)]


def _fractional(size: int, count: int, overlap: bool, u: float) -> Regions:
    shared = int(overlap)
    if not 1 <= count <= size - shared:
        raise ModelError(f"fractional_max_pool: an axis of {size} does not fall into {count} regions")
    ratio, first = Fraction(size - shared, count), Fraction(u)
    borders = [math.ceil(ratio * (i + first)) - math.ceil(ratio * first) for i in range(count + 1)]
    return [(start, stop + shared) for start, stop in itertools.pairwise(borders)]


def _side_by_side(x: Value, regions: Sequence[Regions], repeat: bool = True) -> tuple[Value, list[int], list[int]]:
    """x, kernel and stride such that plain windows are the regions.

    Uneven ones are gathered one beside the other and made as long as the longest: by their last position again, which changes no
    maximum, or, without `repeat`, by the last position of x.
    """
    kernel, stride = [], []
    for axis, found in enumerate(regions, start=2):
        longest = max(stop - start for start, stop in found)
        kernel.append(longest)
        if _even(found):
            stride.append(found[1][0] - found[0][0] if len(found) > 1 else 1)
            continue
        stride.append(longest)
        filling = [stop - 1 if repeat else x.shape[axis] - 1 for _, stop in found]
        rows = [[p if p < stop else fill for p in range(a, a + longest)] for (a, stop), fill in zip(found, filling, strict=True)]
        x = gather(x, constant(np.array(rows, np.int64).ravel()), axis)
    return x, kernel, stride


def _even(regions: Regions) -> bool:
    """They begin at 0, at equal distances, and are equally long."""
    steps = {b[0] - a[0] for a, b in itertools.pairwise(regions)}
    return regions[0][0] == 0 and len({stop - start for start, stop in regions}) == 1 and len(steps) < 2 and 0 not in steps
