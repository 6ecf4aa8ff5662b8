"""How parameters start: random, reproducible, and such that activations keep their size through many layers."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np

Initial = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""Random numbers of a shape."""


def he_normal(inputs: int) -> Initial:
    """Normal with variance 2 / inputs, for a layer whose every result sums `inputs` products (He et al. 2015)."""
    return normal(0.0, math.sqrt(2 / max(1, inputs)))


def normal(mean: float, deviation: float) -> Initial:
    """Normally distributed."""
    return lambda generator, shape: generator.standard_normal(shape, np.float32) * np.float32(deviation) + np.float32(mean)


def uniform(low: float, high: float) -> Initial:
    """Evenly distributed from low to high."""
    return lambda generator, shape: generator.random(shape, np.float32) * np.float32(high - low) + np.float32(low)


def generator_of(seed: int, name: str) -> np.random.Generator:
    """A stream of random numbers for one parameter: it does not move when other layers come or go."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
