"""Convolution, transposed convolution and matrix product against onnxruntime, and their epilogues against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operator_oracles import assert_close, check_op, evaluate_op, onnxruntime_results, randn

from tilewright.engine.expression import IDENTITY, Operand, apply
from tilewright.engine.ops import Conv, ConvTranspose, MatMul

Random = np.random.Generator
CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 11), (5, 3, 4), {}),
    ((1, 3, 9, 8), (4, 3, 3, 3), {"pads": ((1, 1), (1, 1))}),
    ((2, 4, 9, 12), (6, 2, 3, 2), {"groups": 2, "strides": (2, 3), "pads": ((0, 1), (2, 0))}),
    ((1, 5, 7, 9), (5, 1, 3, 3), {"groups": 5, "dilations": (2, 1), "pads": ((2, 2), (1, 1))}),
    ((1, 3, 7, 9), (6, 1, 1, 3), {"groups": 3, "strides": (1, 2), "dilations": (1, 3), "pads": ((0, 0), (3, 1))}),
    ((2, 4, 5, 6), (7, 4, 1, 1), {"strides": (2, 2)}),
    ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"strides": (1, 2, 1), "pads": ((1, 0), (0, 1), (1, 1)), "dilations": (2, 1, 1)}),
]
TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 6), (3, 5, 4), {"strides": (3,), "output_padding": (1,)}),
    ((1, 3, 5, 4), (3, 2, 3, 3), {}),
    ((2, 4, 5, 6), (4, 3, 3, 2), {"groups": 2, "strides": (2, 3), "pads": ((1, 0), (0, 1)), "output_padding": (1, 2)}),
    ((1, 6, 4, 5), (6, 1, 4, 4), {"groups": 6, "strides": (2, 2), "pads": ((1, 1), (1, 1))}),
    ((1, 2, 5, 7), (2, 3, 2, 3), {"dilations": (3, 2), "strides": (1, 2), "pads": ((2, 1), (1, 3))}),
    ((1, 2, 3, 4, 5), (2, 3, 2, 3, 2), {"strides": (2, 1, 2), "pads": ((0, 1), (1, 0), (1, 1))}),
]


def onnx_convolution(attributes: dict[str, Any]) -> dict[str, Any]:
    """Our names of attributes → ONNX's."""
    given = {n: list(attributes[n]) for n in ("strides", "dilations", "output_padding") if n in attributes}
    if "pads" in attributes:
        given["pads"] = [p[0] for p in attributes["pads"]] + [p[1] for p in attributes["pads"]]
    return given | {"group": attributes.get("groups", 1)}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("shape", "weight", "attributes"), CONVOLUTIONS)
def test_conv(rng: Random, shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any], bias: bool) -> None:
    arrays = [randn(rng, *shape), randn(rng, *weight), *([randn(rng, weight[0])] if bias else [])]
    expected = onnxruntime_results("Conv", arrays, **onnx_convolution(attributes))
    check_op(lambda *n: Conv(*n, **attributes), arrays, expected, tolerance=5e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("shape", "weight", "attributes"), TRANSPOSED)
def test_conv_transpose(rng: Random, shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any], bias: bool) -> None:
    outputs = weight[1] * attributes.get("groups", 1)
    arrays = [randn(rng, *shape), randn(rng, *weight), *([randn(rng, outputs)] if bias else [])]
    expected = onnxruntime_results("ConvTranspose", arrays, **onnx_convolution(attributes))
    check_op(lambda *n: ConvTranspose(*n, **attributes), arrays, expected, tolerance=5e-6)


def test_conv_transpose_is_the_adjoint_of_conv(rng: Random) -> None:
    """<conv(x), y> = <x, conv_transpose(y)>."""
    attributes: dict[str, Any] = {"strides": (2, 3), "pads": ((1, 0), (2, 1)), "dilations": (1, 2), "groups": 2}
    x, weight = rng.standard_normal((2, 4, 9, 12)), rng.standard_normal((6, 2, 3, 2))
    (forward,) = evaluate_op(lambda *n: Conv(*n, **attributes), [x, weight])
    y = rng.standard_normal(forward.shape)
    spare = tuple(
        (n + sum(p) - (k - 1) * d - 1) % s
        for n, p, k, d, s in zip((9, 12), attributes["pads"], (3, 2), attributes["dilations"], attributes["strides"], strict=True)
    )
    (back,) = evaluate_op(lambda *n: ConvTranspose(*n, output_padding=spare, **attributes), [y, weight])
    np.testing.assert_allclose((forward * y).sum(), (x * back).sum(), rtol=1e-12)


@pytest.mark.parametrize(("a", "b"), [((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 1, 3, 5), (4, 5, 6)), ((3, 5), (2, 5, 1))])
def test_matmul(rng: Random, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    arrays = [randn(rng, *a), randn(rng, *b)]
    check_op(MatMul, arrays, onnxruntime_results("MatMul", arrays))


def test_matmul_with_bias_is_gemm(rng: Random) -> None:
    arrays = [randn(rng, 3, 5), randn(rng, 5, 4), randn(rng, 4)]
    check_op(MatMul, arrays, onnxruntime_results("Gemm", arrays))


def test_matmul_of_integers(rng: Random) -> None:
    arrays = [rng.integers(-9, 9, (3, 5)).astype(np.int32), rng.integers(-9, 9, (5, 4)).astype(np.int32)]
    check_op(MatMul, arrays, onnxruntime_results("MatMul", arrays))


EPILOGUE = apply("max", IDENTITY * Operand(1) + Operand(2), 0)


def test_the_epilogue_sees_result_and_extras_in_order(rng: Random) -> None:
    x, weight, bias = randn(rng, 1, 3, 5, 6), randn(rng, 4, 3, 3, 2), randn(rng, 4)
    scale, residual = randn(rng, 4, 1, 1), randn(rng, 1, 4, 3, 5)
    (plain,) = onnxruntime_results("Conv", [x, weight, bias])
    check_op(
        lambda i, w, b, s, r: Conv(i, w, b, (s, r), epilogue=EPILOGUE),
        [x, weight, bias, scale, residual],
        [np.maximum(plain * scale + residual, 0)],
        tolerance=1e-5,
    )


def test_the_epilogue_of_a_transposed_convolution(rng: Random) -> None:
    x, weight, scale, residual = randn(rng, 1, 3, 4, 5), randn(rng, 3, 4, 2, 2), randn(rng, 1), randn(rng, 1, 4, 5, 6)
    (plain,) = onnxruntime_results("ConvTranspose", [x, weight])
    (result,) = evaluate_op(lambda i, w, s, r: ConvTranspose(i, w, extras=(s, r), epilogue=EPILOGUE), [x, weight, scale, residual])
    assert_close(result, np.maximum(plain * scale + residual, 0), 1e-5)


def test_the_epilogue_of_a_matrix_product(rng: Random) -> None:
    a, b, bias, scale, residual = randn(rng, 2, 3, 5), randn(rng, 5, 4), randn(rng, 4), randn(rng, 4), randn(rng, 2, 3, 4)
    (result,) = evaluate_op(lambda *n: MatMul(n[0], n[1], n[2], (n[3], n[4]), epilogue=EPILOGUE), [a, b, bias, scale, residual])
    assert_close(result, np.maximum((a @ b + bias) * scale + residual, 0), 1e-5)
