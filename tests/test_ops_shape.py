"""Data movement against onnxruntime: reshapes, slices, pads, gathers and scatters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operator_oracles import check_op, graph_of, onnx_results, onnxruntime_results, randn

from tilewright.engine.ops import (
    Concat,
    Expand,
    Gather,
    GatherElements,
    GatherND,
    Pad,
    Reshape,
    ScatterElements,
    ScatterND,
    Slice,
    Transpose,
)

Random = np.random.Generator
DTYPES = [np.float32, np.int64, np.uint8, np.bool_]


def values(rng: Random, dtype: Any, *shape: int) -> np.ndarray:
    """Random elements of any dtype."""
    return (rng.random(shape) < 0.5) if dtype == np.bool_ else rng.integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_reshape(rng: Random, dtype: Any) -> None:
    x = values(rng, dtype, 3, 4, 5)
    check_op(lambda i: Reshape(i, shape=(5, 1, 12)), [x], onnxruntime_results("Reshape", [x, np.array([5, 1, 12])]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("permutation", [(1, 0, 2, 3), (0, 2, 3, 1), (3, 0, 2, 1)])
def test_transpose(rng: Random, permutation: tuple[int, ...], dtype: Any) -> None:
    x = values(rng, dtype, 2, 3, 4, 5)
    check_op(lambda i: Transpose(i, permutation=permutation), [x], onnxruntime_results("Transpose", [x], perm=permutation))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(rng: Random, axis: int) -> None:
    arrays = [randn(rng, *(n if k == axis else s for k, s in enumerate((2, 3, 4)))) for n in (5, 1, 0, 2)]
    check_op(lambda *n: Concat(n, axis=axis), arrays, onnxruntime_results("Concat", arrays, axis=axis))


@pytest.mark.parametrize(
    ("starts", "sizes", "steps", "ends"),
    [
        ((1, 0, 2), (3, 5, 4), (1, 1, 1), (4, 5, 6)),
        ((0, 4, 6), (3, 3, 4), (2, -2, -2), (6, -9, -9)),
        ((5, 1, 0), (1, 0, 7), (-3, 1, 1), (4, 1, 7)),
    ],
)
def test_slice(rng: Random, starts: Any, sizes: Any, steps: Any, ends: Any) -> None:
    x = randn(rng, 6, 5, 7)
    expected = onnxruntime_results("Slice", [x, *map(np.array, (starts, ends, range(3), steps))])
    check_op(lambda i: Slice(i, starts=starts, sizes=sizes, steps=steps), [x], expected)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [((0, 0), (2, 1), (3, 0)), ((1, 2), (0, 0), (4, 5))])
def test_pad(rng: Random, mode: str, pads: Any) -> None:
    x = randn(rng, 3, 4, 6)
    given = [x, np.array([p[0] for p in pads] + [p[1] for p in pads])] + ([np.array(1.5, np.float32)] if mode == "constant" else [])
    expected = onnxruntime_results("Pad", given, mode=mode)
    value = 1.5 if mode == "constant" else 0
    check_op(lambda i: Pad(i, pads=pads, mode=mode, value=value), [x], expected)
    node = graph_of(lambda i: Pad(i, pads=pads, mode=mode, value=value), [x]).outputs[0]
    assert isinstance(node, Pad)
    for axis, row in ((axis, node.sources(axis)) for axis in range(3)):
        moved = np.where((row < 0).reshape([-1 if k == axis else 1 for k in range(3)]), value, np.take(x, row, axis))
        alone = tuple(pad if k == axis else (0, 0) for k, pad in enumerate(pads))
        check_op(lambda i, alone=alone: Pad(i, pads=alone, mode=mode, value=value), [x], [moved.astype(np.float32)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 4, 3, 5), (1, 4, 1, 5)])
def test_expand(rng: Random, shape: tuple[int, ...], dtype: Any) -> None:
    x = values(rng, dtype, 4, 1, 5)
    check_op(lambda i: Expand(i, shape=shape), [x], onnxruntime_results("Expand", [x, np.array(shape)]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("axis", "shape"), [(0, (3,)), (1, (2, 3)), (2, ()), (1, (0,))])
def test_gather(rng: Random, axis: int, shape: tuple[int, ...], dtype: Any, index_dtype: Any) -> None:
    x = values(rng, dtype, 3, 4, 5)
    indices = np.asarray(rng.integers(-x.shape[axis], x.shape[axis], shape), index_dtype)
    check_op(lambda i, j: Gather(i, j, axis=axis), [x, indices], onnxruntime_results("Gather", [x, indices], axis=axis))


@pytest.mark.parametrize(("axis", "shape"), [(0, (7, 4, 5)), (1, (2, 9, 3)), (2, (3, 1, 2))])
def test_gather_elements(rng: Random, axis: int, shape: tuple[int, ...]) -> None:
    x = randn(rng, 3, 4, 5)
    indices = rng.integers(-x.shape[axis], x.shape[axis], shape)
    expected = onnxruntime_results("GatherElements", [x, indices], axis=axis)
    check_op(lambda i, j: GatherElements(i, j, axis=axis), [x, indices], expected)


@pytest.mark.parametrize(
    ("shape", "batch_dims"), [((4, 2), 0), ((3, 2), 0), ((2, 5, 3), 0), ((3, 6, 1), 1), ((3, 2), 1), ((3, 4, 2, 1), 2), ((3, 4, 2), 2)]
)
def test_gather_nd(rng: Random, shape: tuple[int, ...], batch_dims: int) -> None:
    x = randn(rng, 3, 4, 5, 6)
    extents = np.array(x.shape[batch_dims : batch_dims + shape[-1]])
    indices = rng.integers(-extents, extents, shape)
    expected = onnxruntime_results("GatherND", [x, indices], batch_dims=batch_dims)
    check_op(lambda i, j: GatherND(i, j, batch_dims=batch_dims), [x, indices], expected)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize(("axis", "shape"), [(0, (6, 4, 5)), (1, (2, 7, 3)), (2, (3, 1, 9))])
def test_scatter_elements(rng: Random, axis: int, shape: tuple[int, ...], reduction: str) -> None:
    x, updates = randn(rng, 3, 4, 5), randn(rng, *shape)
    indices = rng.integers(-x.shape[axis], x.shape[axis], shape)  # repeated, so that updates meet
    expected = onnxruntime_results("ScatterElements", [x, indices, updates], opset=18, axis=axis, reduction=reduction)
    check_op(lambda *n: ScatterElements(*n, axis=axis, reduction=reduction), [x, indices, updates], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_elements_puts(rng: Random, dtype: Any) -> None:
    x, updates = values(rng, dtype, 3, 6, 5), values(rng, dtype, 2, 4, 5)
    indices = np.argsort(rng.random((2, 6, 5)), axis=1)[:, :4]  # no position twice
    expected = onnxruntime_results("ScatterElements", [x, indices, updates], axis=1)
    check_op(lambda *n: ScatterElements(*n, axis=1), [x, indices, updates], expected)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("shape", [(7, 1), (3, 2), (2, 4, 3)])
def test_scatter_nd(rng: Random, shape: tuple[int, ...], reduction: str) -> None:
    x = randn(rng, 8, 4, 5)
    extents = np.array(x.shape[: shape[-1]])
    indices = rng.integers(-extents, extents, shape)
    if reduction == "none":
        indices[..., 0] = rng.permutation(8)[: indices[..., 0].size].reshape(shape[:-1])  # no position twice
    updates = randn(rng, *shape[:-1], *x.shape[shape[-1] :])
    given = [x, indices, updates]
    expected = onnxruntime_results("ScatterND", given, opset=18, reduction=reduction)
    check_op(lambda *n: ScatterND(*n, reduction=reduction), given, expected)
    check_op(lambda *n: ScatterND(*n, reduction=reduction), given, onnx_results("ScatterND", given, opset=18, reduction=reduction))
