"""Resize kernels against NumPy in float64: every mode, rank and coordinate rule, plain and blocked."""

import itertools
from typing import Any

import numpy as np
import pytest
from cpu_harness import check_node, operand

from tilewright.backends.cpu.target import Target
from tilewright.engine.graph import Node
from tilewright.engine.ops import Resize
from tilewright.engine.ops.resize import COORDINATES, ROUNDINGS
from tilewright.engine.tensor import Blocked


def resize(
    x: np.ndarray, shape: tuple[int, ...], layout: Blocked | None = None, **attributes: Any
) -> tuple[Resize, dict[Node, np.ndarray]]:
    """A resize of x to a shape, and its operand's value."""
    node = operand("x", x, layout)
    scales = tuple(new / old for new, old in zip(shape, x.shape, strict=True))
    return Resize(node, shape=shape, scales=scales, layout=layout, **attributes), {node: x}


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    kind = np.dtype(dtype)
    return rng.standard_normal(shape).astype(kind) if kind.kind == "f" else rng.integers(0, 100, shape).astype(kind)


SHAPES = [
    ((2, 3, 5, 7), (2, 3, 10, 14)),
    ((1, 19, 9, 11), (1, 19, 5, 4)),
    ((1, 16, 6, 5), (1, 16, 6, 13)),
    ((1, 33, 6, 5), (1, 33, 13, 5)),
    ((2, 5, 9), (2, 5, 17)),
    ((1, 17, 3, 4, 5), (1, 17, 7, 3, 9)),
]


@pytest.mark.parametrize(("shape", "result"), SHAPES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_modes(rng, shape, result, mode):
    x = random(rng, shape)
    for coordinates in ("half_pixel", "asymmetric", "align_corners"):
        for lanes in (None, 8, 16):
            layout = Blocked(1, lanes) if lanes else None
            check_node(*resize(x, result, layout, mode=mode, coordinates=coordinates), absolute=3e-6)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_coordinates(rng, coordinates):
    roi = (0.0, 0.0, -0.2, 0.1, 1.0, 1.0, 0.8, 1.3) if coordinates == "tf_crop_and_resize" else None
    for mode, lanes in itertools.product(("nearest", "linear", "cubic"), (None, 16)):
        x = random(rng, (1, 18, 6, 9))
        layout = Blocked(1, lanes) if lanes else None
        attributes = {"coordinates": coordinates, "mode": mode, "roi": roi, "extrapolation_value": 7.5}
        check_node(*resize(x, (1, 18, 11, 5), layout, **attributes), absolute=3e-6)


def test_nearest_roundings(rng):
    x = random(rng, (1, 4, 7, 9))
    for rounding in ROUNDINGS:
        check_node(*resize(x, (1, 4, 5, 21), nearest_rounding=rounding))


def test_all_axes_change_and_channels_last(rng):
    check_node(*resize(random(rng, (2, 3, 4)), (3, 5, 7), mode="linear"), absolute=2e-6)
    check_node(*resize(random(rng, (2, 5, 6, 32)), (2, 9, 11, 32), mode="linear"), absolute=2e-6)
    check_node(*resize(random(rng, (2, 5, 6, 3)), (2, 9, 11, 3), mode="cubic"), absolute=2e-6)
    check_node(*resize(random(rng, (2, 5, 6)), (2, 5, 6), mode="linear"))


def test_antialias_and_exclude_outside(rng):
    x = random(rng, (1, 5, 12, 15))
    for mode in ("linear", "cubic"):
        check_node(*resize(x, (1, 5, 5, 4), mode=mode, antialias=True, exclude_outside=True), absolute=2e-6)


@pytest.mark.parametrize("dtype", ["f2", "f8", "u1", "i1", "i4", "i8", "?"])
def test_dtypes(rng, dtype):
    x = random(rng, (1, 3, 6, 7), dtype)
    check_node(*resize(x, (1, 3, 13, 9)))
    if dtype != "?":
        check_node(
            *resize(x, (1, 3, 13, 9), mode="linear"), relative=1e-3 if dtype == "f2" else 1e-6, absolute=1e-3 if dtype == "f2" else 0
        )


def test_lanes_of_the_target_are_not_assumed(rng):
    for name in ("avx512", "avx2"):
        layout = Blocked(1, Target.describe(name).lanes(np.dtype(np.float32)))
        check_node(*resize(random(rng, (1, 21, 4, 5)), (1, 21, 9, 8), layout, mode="linear"), absolute=2e-6)
