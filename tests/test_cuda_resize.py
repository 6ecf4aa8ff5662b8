"""Resize on the emulated GPU: modes, coordinates, several passes, plain and with channels last."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from cpu_harness import operand
from cuda_cases import channels_last, given
from cuda_harness import check_node, needs_compiler

from tilewright.engine.graph import Node
from tilewright.engine.ops import Resize
from tilewright.engine.ops.resize import COORDINATES, MODES

pytestmark = needs_compiler
F2, F4, F8 = np.float16, np.float32, np.float64
CASES = list(itertools.product(MODES, COORDINATES))


def options(coordinates: str, rank: int) -> dict[str, Any]:
    cut = (0.0,) * (rank - 2) + (-0.2, 0.1) + (1.0,) * (rank - 2) + (1.3, 0.8)
    return {"coordinates": coordinates, "roi": cut if coordinates.startswith("tf") else None, "extrapolation_value": 2.5}


def check_mode(mode: str, coordinates: str, layout: bool) -> None:
    x, values = given((2, 6, 7, 9), F4, channels_last(F4, 6) if layout else None)
    for height, width in ((13, 5), (7, 18)):
        scales = (1.0, 1.0, height / 7, width / 9)
        node = Resize(x, shape=(2, 6, height, width), scales=scales, mode=mode, layout=x.layout, **options(coordinates, 4))
        check_node(node, values, 1e-5, 1e-3)


@pytest.mark.parametrize(("mode", "coordinates"), CASES[::3])
def test_modes(mode: str, coordinates: str) -> None:
    check_mode(mode, coordinates, True)


@pytest.mark.sweep
@pytest.mark.parametrize(("mode", "coordinates"), CASES)
@pytest.mark.parametrize("layout", [False, True])
def test_all_modes(mode: str, coordinates: str, layout: bool) -> None:
    check_mode(mode, coordinates, layout)


@pytest.mark.parametrize("layout", [False, True])
def test_antialiasing_goes_axis_by_axis(layout: bool) -> None:
    x, values = given((1, 3, 50, 41), F4, channels_last(F4, 3) if layout else None)
    node = Resize(x, shape=(1, 3, 11, 6), scales=(1.0, 1.0, 11 / 50, 6 / 41), mode="cubic", antialias=True, layout=x.layout)
    assert len(check_node(node, values, 1e-5, 1e-3)) == 2
    x, values = given((9, 8, 10))
    node = Resize(x, shape=(4, 5, 7), scales=(4 / 9, 5 / 8, 0.7), mode="linear", antialias=True, exclude_outside=True)
    assert len(check_node(node, values, 1e-5, 1e-3)) == 3


@pytest.mark.parametrize("dtype", [F2, F8, np.uint8, np.int16, np.int64, bool])
def test_elements(dtype: Any, rng: np.random.Generator) -> None:
    data = (rng.standard_normal((1, 9, 5, 6)) * 70).astype(dtype)
    for layout in (None, channels_last(dtype, 9)):
        x = operand("x", data, layout)
        values: dict[Node, np.ndarray] = {x: data}
        scaled: dict[str, Any] = {"shape": (1, 9, 10, 9), "scales": (1.0, 1.0, 2.0, 1.5), "layout": layout}
        check_node(Resize(x, **scaled), values, 0)
        if dtype is not bool:
            check_node(Resize(x, mode="cubic", **scaled), values, 2e-3 if dtype == F2 else 1e-9, 1e-1 if dtype == F2 else 1e-9)


def test_one_dimension_and_nothing_changed() -> None:
    x, values = given((11,))
    check_node(Resize(x, shape=(30,), scales=(30 / 11,), mode="linear"), values, 1e-5, 1e-3)
    x, values = given((2, 3))
    check_node(Resize(x, shape=(2, 3), scales=(1.0, 1.0)), values, 0)
