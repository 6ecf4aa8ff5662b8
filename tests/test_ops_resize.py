"""Resize in every mode against onnxruntime and, where both follow the text of the specification, against the ONNX package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operator_oracles import check_op, evaluate_op, graph_of, onnx_results, onnxruntime_results, randn

from tilewright.engine.ops import Resize
from tilewright.engine.ops.resize import COORDINATES, interpolation_tables

Random = np.random.Generator
WHOLE = [(1.0, 1.0, 2.0, 3.0), (1.0, 1.0, 0.5, 0.8), (1.0, 1.0, 2.5, 0.4)]
"""Scales that make whole extents of (1, 2, 8, 10)."""
BROKEN = [(1.0, 1.0, 0.62, 0.83), (1.0, 1.0, 0.3, 1.3), (1.0, 1.0, 1.75, 2.13)]
ROI = (0.0, 0.0, 0.2, -0.3, 1.0, 1.0, 1.1, 0.6)
ONNX_NAMES = {"coordinates": "coordinate_transformation_mode", "nearest_rounding": "nearest_mode", "cubic_coefficient": "cubic_coeff_a"}


def check(oracle: Any, x: np.ndarray, scales: Any, opset: int = 19, **attributes: Any) -> None:
    """Our Resize by scales equals the oracle's; ours takes the shape that the oracle makes."""
    given = {ONNX_NAMES.get(k, k): int(v) if isinstance(v, bool) else v for k, v in attributes.items() if k != "roi"}
    roi = np.array(attributes["roi"], np.float32) if "roi" in attributes else None
    expected = oracle("Resize", [x, roi, np.array(scales, np.float32)], opset=opset, **given)
    exact = tuple(float(np.float32(s)) for s in scales)
    check_op(lambda i: Resize(i, shape=expected[0].shape, scales=exact, **attributes), [x], expected, tolerance=1e-5)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scales", WHOLE + BROKEN)
def test_coordinates(rng: Random, mode: str, coordinates: str, scales: Any) -> None:
    attributes = {"roi": ROI, "extrapolation_value": 7.5} if coordinates == "tf_crop_and_resize" else {}
    x = randn(rng, 1, 2, 8, 10)
    check(onnxruntime_results, x, scales, mode=mode, coordinates=coordinates, **attributes)
    if scales in WHOLE and not attributes:
        check(onnx_results, x, scales, mode=mode, coordinates=coordinates)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_result_of_one_element(rng: Random, mode: str, coordinates: str) -> None:
    attributes: dict[str, Any] = {"roi": ROI} if coordinates == "tf_crop_and_resize" else {}
    roi = np.array(ROI, np.float32) if attributes else None
    x, sizes = randn(rng, 1, 2, 5, 6), np.array([1, 2, 1, 1])
    given: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    expected = onnxruntime_results("Resize", [x, roi, None, sizes], opset=19, **given)
    check_op(
        lambda i: Resize(i, shape=(1, 2, 1, 1), scales=(1, 1, 1 / 5, 1 / 6), mode=mode, coordinates=coordinates, **attributes),
        [x],
        expected,
    )


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("scales", WHOLE + BROKEN)
def test_nearest_rounding(rng: Random, rounding: str, coordinates: str, scales: Any) -> None:
    x = randn(rng, 1, 2, 8, 10)
    check(onnxruntime_results, x, scales, coordinates=coordinates, nearest_rounding=rounding)


@pytest.mark.parametrize("scales", WHOLE + BROKEN)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_opset_10(rng: Random, mode: str, scales: Any) -> None:
    x = randn(rng, 1, 2, 8, 10)
    expected = onnxruntime_results("Resize", [x, np.array(scales, np.float32)], opset=10, mode=mode)
    exact = tuple(float(np.float32(s)) for s in scales)
    attributes: dict[str, Any] = {"mode": mode, "coordinates": "asymmetric", "nearest_rounding": "simple"}
    check_op(lambda i: Resize(i, shape=expected[0].shape, scales=exact, **attributes), [x], expected, tolerance=1e-5)


@pytest.mark.parametrize("exclude_outside", [False, True])
@pytest.mark.parametrize("coefficient", [-0.75, -0.5])
@pytest.mark.parametrize("scales", WHOLE + BROKEN)
def test_cubic(rng: Random, scales: Any, coefficient: float, exclude_outside: bool) -> None:
    x = randn(rng, 1, 2, 8, 10)
    attributes = {"mode": "cubic", "cubic_coefficient": coefficient, "exclude_outside": exclude_outside}
    check(onnxruntime_results, x, scales, **attributes)
    check(onnx_results, x, scales, **attributes)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude_outside", [False, True])
@pytest.mark.parametrize("scales", [*WHOLE, (1.0, 1.0, 0.6, 0.3)])
def test_antialias(rng: Random, scales: Any, mode: str, exclude_outside: bool) -> None:
    x = randn(rng, 1, 2, 8, 10)
    for oracle in (onnx_results, onnxruntime_results):
        check(oracle, x, scales, mode=mode, antialias=True, exclude_outside=exclude_outside)


@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 7), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_every_axis_of_any_rank(rng: Random, shape: tuple[int, ...], mode: str) -> None:
    scales = (1.5, 2.25, 0.5, 1.75, 0.75)[: len(shape)]
    check(onnx_results, randn(rng, *shape), scales, mode=mode, coordinates="asymmetric")


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
@pytest.mark.parametrize("mode", ["nearest", "cubic"])
def test_integers_saturate(rng: Random, dtype: Any, mode: str) -> None:
    info = np.iinfo(dtype)
    x = rng.choice([info.min, info.max], (1, 1, 6, 7)).astype(dtype)  # cubic interpolation overshoots between the two
    (result,) = evaluate_op(lambda i: Resize(i, shape=(1, 1, 15, 16), scales=(1, 1, 2.5, 16 / 7), mode=mode), [x])
    assert result.dtype == dtype
    smooth = evaluate_op(lambda i: Resize(i, shape=(1, 1, 15, 16), scales=(1, 1, 2.5, 16 / 7), mode=mode), [x.astype(np.float64)])[0]
    assert (smooth.max() > info.max) == (mode == "cubic")
    np.testing.assert_array_equal(result, np.clip(smooth, info.min, info.max).astype(dtype))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_tables_of_an_axis_that_stays_have_one_tap(rng: Random, mode: str) -> None:
    (node,) = graph_of(lambda i: Resize(i, shape=(1, 5, 14), scales=(1, 1, 2), mode=mode), [randn(rng, 1, 5, 7)]).outputs
    assert isinstance(node, Resize)
    indices, weights = interpolation_tables(node, 1)
    np.testing.assert_array_equal(indices, np.arange(5)[:, None])
    np.testing.assert_array_equal(weights, np.ones((5, 1)))
    assert (indices.dtype, weights.dtype) == (np.int64, np.float64)
    indices, weights = interpolation_tables(node, 2)
    assert indices.shape == weights.shape == (14, {"nearest": 1, "linear": 2, "cubic": 4}[mode])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)


def test_an_extrapolated_position_has_index_minus_one(rng: Random) -> None:
    attributes: dict[str, Any] = {"mode": "linear", "coordinates": "tf_crop_and_resize", "roi": (0.0, -0.5, 1.0, 1.5)}
    (node,) = graph_of(lambda i: Resize(i, shape=(1, 5), scales=(1, 1), **attributes), [randn(rng, 1, 5)]).outputs
    assert isinstance(node, Resize)
    indices, weights = interpolation_tables(node, 1)
    assert (indices < 0).all(axis=1).tolist() == [True, False, False, False, True]
    np.testing.assert_array_equal(weights.sum(axis=1), 1)
