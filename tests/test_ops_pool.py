"""Pooling in every combination of kernel, strides, pads, dilations and rounding against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operator_oracles import check_op, evaluate_op, onnxruntime_results, randn

from tilewright.engine.ops import ArgMaxPool, AveragePool, MaxPool
from tilewright.engine.ops.pool import output_extent

Random = np.random.Generator
WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 17), {"kernel": (3,)}),
    ((2, 3, 9, 14), {"kernel": (3, 2), "strides": (2, 3)}),
    ((1, 4, 11, 8), {"kernel": (3, 3), "strides": (2, 2), "pads": ((1, 0), (2, 1))}),
    ((1, 4, 11, 8), {"kernel": (3, 3), "strides": (2, 2), "pads": ((1, 1), (1, 1)), "ceil_mode": True}),
    ((2, 1, 7, 7), {"kernel": (2, 2), "strides": (3, 3), "pads": ((0, 1), (1, 0)), "ceil_mode": True}),
    ((1, 2, 6, 6), {"kernel": (1, 3), "strides": (4, 2), "pads": ((0, 0), (1, 1)), "ceil_mode": True}),
    ((1, 2, 13, 15), {"kernel": (3, 2), "dilations": (2, 3), "pads": ((2, 1), (1, 1)), "strides": (2, 1)}),
    ((1, 2, 12, 15), {"kernel": (3, 3), "dilations": (2, 2), "pads": ((1, 2), (0, 1)), "strides": (3, 2), "ceil_mode": True}),
    ((1, 2, 5, 6, 7), {"kernel": (2, 3, 2), "strides": (1, 2, 2), "pads": ((0, 1), (1, 1), (0, 0))}),
]


def onnx_window(attributes: dict[str, Any]) -> dict[str, Any]:
    """Our names of window attributes → ONNX's."""
    given = {"kernel_shape": list(attributes["kernel"])} | {n: list(attributes[n]) for n in ("strides", "dilations") if n in attributes}
    if "pads" in attributes:
        given["pads"] = [p[0] for p in attributes["pads"]] + [p[1] for p in attributes["pads"]]
    return given | {n: int(attributes[n]) for n in ("ceil_mode", "count_include_pad") if n in attributes}


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
def test_max_pool(rng: Random, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    x = randn(rng, *shape) - 5  # below zero, so that a pad of zeros would win
    check_op(lambda i: MaxPool(i, **attributes), [x], onnxruntime_results("MaxPool", [x], **onnx_window(attributes)))


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
def test_arg_max_pool(rng: Random, shape: tuple[int, ...], attributes: dict[str, Any], column_major: bool) -> None:
    x = rng.integers(-9, -5, shape).astype(np.float32)  # few values, so that there are ties
    given = onnx_window(attributes) | {"storage_order": int(column_major)}
    _, expected = onnxruntime_results("MaxPool", [x], 2, **given)
    check_op(lambda i: ArgMaxPool(i, column_major=column_major, **attributes), [x], [expected])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_max_pool_of_integers(rng: Random, dtype: Any) -> None:
    x = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).min + 50, (1, 3, 7, 9)).astype(dtype)
    attributes = {"kernel": (3, 3), "pads": ((1, 1), (1, 1)), "strides": (2, 2)}
    check_op(lambda i: MaxPool(i, **attributes), [x], onnxruntime_results("MaxPool", [x], **onnx_window(attributes)))


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
def test_average_pool(rng: Random, shape: tuple[int, ...], attributes: dict[str, Any], count_include_pad: bool) -> None:
    x, attributes = randn(rng, *shape) + 3, attributes | {"count_include_pad": count_include_pad}
    check_op(lambda i: AveragePool(i, **attributes), [x], onnxruntime_results("AveragePool", [x], **onnx_window(attributes)))


def test_output_extent_drops_a_window_that_starts_in_the_end_padding() -> None:
    assert output_extent(5, kernel=2, stride=2, pads=(0, 0), dilation=1, ceil_mode=False) == 2
    assert output_extent(5, kernel=2, stride=2, pads=(0, 0), dilation=1, ceil_mode=True) == 3
    assert output_extent(4, kernel=1, stride=2, pads=(0, 1), dilation=1, ceil_mode=True) == 2  # the third would start at 4
    assert output_extent(9, kernel=3, stride=2, pads=(1, 1), dilation=2, ceil_mode=True) == 4


def test_a_window_without_elements_is_the_neutral_element(rng: Random) -> None:
    x = randn(rng, 1, 1, 1)
    attributes = {"kernel": (2,), "dilations": (2,), "pads": ((1, 1),)}  # the only window reads both pads and skips x
    assert evaluate_op(lambda i: MaxPool(i, **attributes), [x])[0].item() == -np.inf
    assert evaluate_op(lambda i: AveragePool(i, **attributes), [x])[0].item() == 0
    assert evaluate_op(lambda i: ArgMaxPool(i, **attributes), [x])[0].item() == -1
