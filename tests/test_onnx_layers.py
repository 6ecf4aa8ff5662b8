"""Convolutions, poolings, products, normalisations, reductions, resizes and recurrent layers as ONNX has them, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models import Given, check_against_onnxruntime, node_model, positive, real, weight, whole
from test_onnx_operators import Case, f16, f64, i8, i32, name_of, u8

SAME = ("SAME_UPPER", "SAME_LOWER")
CONVOLUTIONS: list[Case] = [
    ("Conv", 7, [real(2, 3, 9), weight(real(4, 3, 3))], {}),
    ("Conv", 11, [real(2, 4, 9, 8), weight(real(6, 2, 3, 2)), weight(real(6))], {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ("Conv", 11, [real(1, 2, 9, 8), weight(real(3, 2, 3, 3))], {"dilations": [2, 2], "kernel_shape": [3, 3], "auto_pad": "VALID"}),
    *(("Conv", 11, [real(1, 2, 10, 7), weight(real(3, 2, 4, 3))], {"strides": [2, 3], "auto_pad": mode}) for mode in SAME),
    ("Conv", 11, [real(1, 2, 5, 6, 4), weight(real(3, 2, 2, 3, 2))], {"pads": [1, 0, 1, 0, 1, 0]}),
    ("ConvTranspose", 7, [real(1, 4, 5), weight(real(4, 3, 3)), weight(real(3))], {"strides": [2], "pads": [1, 0]}),
    ("ConvTranspose", 11, [real(1, 4, 5, 6), weight(real(4, 3, 3, 2))], {"group": 2, "strides": [2, 3], "output_padding": [1, 2]}),
    ("ConvTranspose", 11, [real(1, 2, 5, 6), weight(real(2, 3, 3, 2))], {"dilations": [2, 1], "strides": [3, 2], "auto_pad": "VALID"}),
    *(("ConvTranspose", 11, [real(1, 2, 5, 6), weight(real(2, 3, 4, 4))], {"strides": [3, 2], "auto_pad": mode}) for mode in SAME),
    ("ConvTranspose", 11, [real(1, 2, 5, 6), weight(real(2, 3, 4, 5))], {"strides": [2, 2], "output_shape": [9, 14]}),
    ("ConvTranspose", 11, [real(1, 2, 4), weight(real(2, 3, 4))], {"strides": [2], "output_shape": [7], "auto_pad": "SAME_UPPER"}),
]
POOLINGS: list[Case] = [
    ("MaxPool", 7, [real(2, 3, 9)], {"kernel_shape": [3]}),
    ("MaxPool", 8, [real(2, 3, 9, 8)], {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ("MaxPool", 12, [real(1, 2, 9, 8)], {"kernel_shape": [3, 3], "dilations": [2, 1], "strides": [2, 2], "ceil_mode": 1}),
    *(("MaxPool", 12, [real(1, 2, 9, 8)], {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": mode}) for mode in SAME),
    ("MaxPool", 12, [whole(-99, 99, 1, 2, 5, 5, dtype=i8)], {"kernel_shape": [2, 2]}),
    ("AveragePool", 7, [real(2, 3, 9, 8)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", 11, [real(2, 3, 9, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 2], "ceil_mode": 1}),
    ("AveragePool", 11, [real(2, 3, 9, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("AveragePool", 19, [real(2, 3, 9, 8)], {"kernel_shape": [3, 2], "dilations": [2, 3]}),
    *(("LpPool", 11, [real(2, 3, 9, 8)], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "p": p}) for p in (1, 2, 3)),
    ("LpPool", 18, [real(1, 2, 9, 8)], {"kernel_shape": [2, 2], "dilations": [2, 1]}),
    ("GlobalAveragePool", 7, [real(2, 3, 4, 5)], {}),
    ("GlobalMaxPool", 7, [real(2, 3, 4)], {}),
    *(("GlobalLpPool", 7, [real(2, 3, 4, 5)], {"p": p}) for p in (1, 2, 3)),
]
PRODUCTS: list[Case] = [
    ("MatMul", 7, [real(3, 4), real(4, 5)], {}),
    ("MatMul", 9, [real(2, 1, 3, 4), real(5, 4, 2)], {}),
    ("MatMul", 13, [real(4), real(4, 5)], {}),
    ("MatMul", 13, [real(2, 3, 4), real(4)], {}),
    ("MatMul", 13, [real(4), real(4)], {}),
    ("Gemm", 7, [real(3, 4), weight(real(4, 5)), weight(real(5))], {}),
    ("Gemm", 9, [real(4, 3), weight(real(5, 4)), weight(real(1, 5))], {"transA": 1, "transB": 1}),
    ("Gemm", 11, [real(3, 4), weight(real(4, 5)), weight(real(3, 1))], {"alpha": 0.5, "beta": -2.0}),
    ("Gemm", 11, [real(3, 4), weight(real(4, 5)), real()], {}),
    ("Gemm", 13, [real(3, 4), real(4, 5)], {"alpha": 0.3}),
    ("Einsum", 12, [real(3, 4), real(4, 5)], {"equation": "ij,jk->ik"}),
    ("Einsum", 12, [real(2, 3, 4), real(2, 5, 4)], {"equation": "bij, bkj -> bik"}),
    ("Einsum", 12, [real(3, 4), real(3, 4)], {"equation": "ij,ij"}),
    ("Einsum", 12, [real(3, 5, 5)], {"equation": "...ii->...i"}),
    ("Einsum", 12, [real(2, 3, 4)], {"equation": "abc->cb"}),
    ("Einsum", 12, [real(2, 3), real(4, 3), real(4, 5)], {"equation": "ab,cb,cd->ad"}),
    ("Einsum", 12, [real(2, 5, 3, 4), real(2, 5, 4, 6)], {"equation": "...ij,...jk->...ik"}),
    ("MatMulInteger", 10, [whole(0, 255, 3, 4, dtype=u8), whole(0, 255, 4, 5, dtype=u8), weight(7, u8), weight(9, u8)], {}),
    ("ConvInteger", 10, [whole(0, 255, 1, 2, 5, 5, dtype=u8), weight(whole(0, 255, 3, 2, 3, 3, dtype=u8)), weight(5, u8)], {}),
]
NORMALIZATIONS: list[Case] = [
    *(("BatchNormalization", v, [real(2, 3, 4, 5), *(weight(real(3)) for _ in range(3)), weight(positive(3))], {}) for v in (7, 9, 14)),
    ("BatchNormalization", 15, [real(4, 3), *(weight(real(3)) for _ in range(3)), weight(positive(3))], {"epsilon": 0.1}),
    ("LRN", 13, [real(2, 7, 4, 5)], {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 1.5}),
    ("LayerNormalization", 17, [real(2, 3, 4), weight(real(4)), weight(real(4))], {}),
    ("LayerNormalization", 17, [real(2, 3, 4), weight(real(3, 4))], {"axis": 1, "epsilon": 0.01}),
    ("InstanceNormalization", 7, [real(2, 3, 4, 5), weight(real(3)), weight(real(3))], {"epsilon": 0.01}),
    ("GroupNormalization", 18, [real(2, 6, 3, 4), weight(real(2)), weight(real(2))], {"num_groups": 2}),
    ("GroupNormalization", 21, [real(2, 6, 3, 4), weight(real(6)), weight(real(6))], {"num_groups": 3}),
    *(("LpNormalization", 7, [real(3, 4, 5)], {"p": p, "axis": 1}) for p in (1, 2)),
    ("MeanVarianceNormalization", 13, [real(2, 3, 4, 5)], {}),
    ("MeanVarianceNormalization", 13, [real(2, 3, 4, 5)], {"axes": [1, 2]}),
    *((op, 7, [real(2, 3, 4)], {}) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *((op, 11, [real(2, 3, 4, 5)], {"axis": 2}) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *((op, 13, [real(2, 3, 4)], {"axis": 1}) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    ("Softmax", 11, [real(2, 5, 1, 1)], {"axis": 1}),
]
REDUCTIONS = tuple(f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"))
OVER_AXES: list[Case] = [
    *((op, 7, [positive(2, 3, 4)], {"axes": [1]}) for op in REDUCTIONS),
    *((op, 11, [positive(2, 3, 4)], {"axes": [0, -1], "keepdims": 0}) for op in REDUCTIONS),
    *((op, 18, [positive(2, 3, 4), weight([-1, 0])], {}) for op in REDUCTIONS),
    *((op, 18, [positive(2, 3, 4)], {"keepdims": 0}) for op in REDUCTIONS),
    ("ReduceSum", 13, [real(2, 3, 4), weight([], np.int64)], {"noop_with_empty_axes": 1}),
    ("ReduceSum", 13, [whole(-9, 9, 3, 4), weight([1])], {}),
    *((op, 13, [whole(-4, 9, 3, 4, dtype=i32)], {"axis": 1}) for op in ("ArgMax", "ArgMin")),
    ("ArgMax", 7, [real(3, 4)], {"keepdims": 0}),
    ("ArgMax", 12, [whole(0, 3, 3, 9, dtype=i32)], {"axis": -1, "select_last_index": 1}),
    *(("CumSum", 14, [real(3, 4), weight(-1)], {"exclusive": e, "reverse": r}) for e in (0, 1) for r in (0, 1)),
]
RESIZES: list[Case] = [
    ("Upsample", 7, [real(1, 2, 3, 4)], {"scales": [1.0, 1.0, 2.0, 3.0]}),
    ("Upsample", 9, [real(1, 2, 3, 4), weight([1.0, 1.0, 2.5, 2.0])], {"mode": "linear"}),
    ("Resize", 10, [real(1, 2, 6, 8), weight([1.0, 1.0, 0.5, 0.75])], {}),
    ("Resize", 10, [real(1, 2, 3, 4), weight([1.0, 1.0, 2.0, 1.6])], {"mode": "linear"}),
    ("Resize", 11, [real(1, 2, 3, 4), weight([], "f4"), weight([1.0, 1.0, 2.0, 1.5])], {}),
    ("Resize", 11, [real(1, 2, 3, 4), weight([], "f4"), weight([], "f4"), weight([1, 2, 7, 5])], {"mode": "linear"}),
    ("Resize", 11, [real(1, 1, 4, 5), weight([], "f4"), weight([1.0, 1.0, 2.0, 1.4])],
     {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}),
    *(("Resize", 13, [real(1, 2, 5, 4), None, None, weight([1, 2, 3, 7])], {"mode": mode, "coordinate_transformation_mode": c})
      for mode in ("nearest", "linear", "cubic") for c in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")),
    ("Resize", 13, [real(1, 1, 4, 4), weight([0.0, 0, 0.3, 0.2, 1, 1, 0.8, 1.3]), None, weight([1, 1, 3, 5])],
     {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}),
    ("Resize", 13, [real(1, 1, 4, 4), None, weight([1.0, 1.0, 1.5, 2.0])], {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}),
    ("Resize", 18, [real(1, 2, 6, 9), None, None, weight([3, 4])], {"axes": [2, 3], "mode": "linear", "antialias": 1}),
    *(("Resize", 18, [real(1, 2, 6, 9), None, None, weight([4, 4])], {"axes": [2, 3], "keep_aspect_ratio_policy": p})
      for p in ("not_larger", "not_smaller")),
    ("Resize", 19, [real(1, 2, 6, 9), None, weight([0.7, 0.6])],
     {"axes": [2, 3], "mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}),
]  # fmt: skip


def recurrent(op: str, gates: int, directions: int = 1, time: int = 5, batch: int = 3, features: int = 4, h: int = 6) -> list[Given | None]:
    """x, weights and bias of a recurrent layer."""
    shapes = ((directions, gates * h, features), (directions, gates * h, h), (directions, 2 * gates * h))
    return [real(time, batch, features), *(weight(real(*shape)) for shape in shapes)]


RECURRENT: list[tuple[Case, int]] = [
    (("LSTM", 7, recurrent("LSTM", 4), {"hidden_size": 6}), 3),
    (("LSTM", 14, recurrent("LSTM", 4, 2), {"hidden_size": 6, "direction": "bidirectional"}), 3),
    (("LSTM", 14, [*recurrent("LSTM", 4), None, real(1, 3, 6), real(1, 3, 6), weight(real(1, 18))], {"hidden_size": 6}), 3),
    (("LSTM", 14, [*recurrent("LSTM", 4), weight([5, 2, 3], i32)], {"hidden_size": 6, "direction": "reverse"}), 3),
    (("GRU", 7, recurrent("GRU", 3), {"hidden_size": 6}), 2),
    (("GRU", 14, recurrent("GRU", 3, 2), {"hidden_size": 6, "direction": "bidirectional", "linear_before_reset": 1}), 2),
    (("GRU", 14, recurrent("GRU", 3), {"hidden_size": 6, "clip": 0.8, "activations": ["HardSigmoid", "Relu"]}), 2),
    (("RNN", 14, recurrent("RNN", 1)[:3], {"hidden_size": 6, "activations": ["Affine"], "activation_alpha": [0.3]}), 2),
]
SEVEN_BITS = (-63, 64)
"""Larger weights of 8 bits saturate in onnxruntime on processors without VNNI, where it adds pairs of products in 16 bits."""
QUANTIZED: list[Case] = [
    ("QuantizeLinear", 10, [real(3, 40), weight(0.02, "f4"), weight(100, u8)], {}),
    ("QuantizeLinear", 13, [real(3, 4), weight(positive(4)), weight(whole(-9, 9, 4, dtype=i8))], {"axis": -1}),
    ("QuantizeLinear", 13, [real(3, 4), weight(0.01, "f4")], {}),
    ("DequantizeLinear", 10, [whole(0, 255, 3, 4, dtype=u8), weight(0.3, "f4"), weight(100, u8)], {}),
    ("DequantizeLinear", 13, [whole(-99, 99, 3, 4, dtype=i8), weight(positive(3)), weight(whole(-9, 9, 3, dtype=i8))], {"axis": 0}),
    ("DequantizeLinear", 13, [whole(-9999, 9999, 3, 4, dtype=i32), weight(0.3, "f4")], {}),
    ("DequantizeLinear", 21, [whole(-99, 99, 3, 6, dtype=i8), weight(positive(3, 2))], {"axis": 1, "block_size": 3}),
    ("DynamicQuantizeLinear", 11, [real(3, 4)], {}),
    ("QLinearMatMul", 10, [whole(0, 255, 3, 4, dtype=u8), weight(0.02, "f4"), weight(120, u8), whole(0, 255, 4, 5, dtype=u8),
                           weight(0.03, "f4"), weight(130, u8), weight(0.1, "f4"), weight(128, u8)], {}),
    ("QLinearConv", 10, [whole(0, 255, 1, 2, 6, 6, dtype=u8), weight(0.02, "f4"), weight(120, u8),
                         weight(whole(*SEVEN_BITS, 3, 2, 3, 3, dtype=i8)), weight(positive(3)), weight([0, 0, 0], i8),
                         weight(5.0, "f4"), weight(128, u8), weight(whole(-99, 99, 3, dtype=i32))], {"pads": [1, 1, 0, 1]}),
]  # fmt: skip
HALF: list[Case] = [
    ("Relu", 14, [real(3, 4, dtype=f16)], {}),
    ("LayerNormalization", 17, [real(3, 40, dtype=f16), weight(real(40, dtype=f16)), weight(real(40, dtype=f16))], {}),
    ("Softmax", 13, [real(3, 4, dtype=f16)], {}),
    ("Add", 14, [real(3, 4, dtype=f16), weight(real(4, dtype=f16))], {}),
]
DOUBLE: list[Case] = [("MatMul", 13, [real(3, 4, dtype=f64), real(4, 5, dtype=f64)], {}), ("Exp", 13, [real(3, 4, dtype=f64)], {})]


LAYERS = [*CONVOLUTIONS, *POOLINGS, *PRODUCTS, *NORMALIZATIONS, *OVER_AXES, *RESIZES, *QUANTIZED, *DOUBLE]


@pytest.mark.parametrize("case", LAYERS, ids=name_of)
def test_layer(rng: np.random.Generator, case: Case) -> None:
    op, opset, operands, attributes = case
    check_against_onnxruntime(*node_model(rng, op, operands, opset, outputs=3 if "Dynamic" in op else 1, **attributes), tolerance=1e-5)


@pytest.mark.parametrize("case", HALF, ids=name_of)
def test_half_precision(rng: np.random.Generator, case: Case) -> None:
    op, opset, operands, attributes = case
    check_against_onnxruntime(*node_model(rng, op, operands, opset, **attributes), tolerance=2e-3)


@pytest.mark.parametrize(("case", "outputs"), RECURRENT, ids=lambda value: name_of(value) if isinstance(value, tuple) else "")
def test_recurrent(rng: np.random.Generator, case: Case, outputs: int) -> None:
    op, opset, operands, attributes = case
    check_against_onnxruntime(*node_model(rng, op, operands, opset, outputs, **attributes), tolerance=1e-5)


@pytest.mark.parametrize("storage_order", [0, 1])
def test_max_pool_positions(rng: np.random.Generator, storage_order: int) -> None:
    attributes = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 0, 1], "storage_order": storage_order}
    check_against_onnxruntime(*node_model(rng, "MaxPool", [real(2, 3, 6, 5)], 12, 2, **attributes), tolerance=0)


def test_max_unpool_undoes_max_pool(rng: np.random.Generator) -> None:
    positions = weight([[[[0, 3, 9], [12, 14, 23]]]])
    check_against_onnxruntime(*node_model(rng, "MaxUnpool", [real(1, 1, 2, 3), positions], 11, kernel_shape=[2, 2], strides=[2, 2]))


@pytest.mark.parametrize("opset", [7, 10, 11])
def test_top_k(rng: np.random.Generator, opset: int) -> None:
    operands, attributes = ([real(4, 9)], {"k": 3}) if opset < 10 else ([real(4, 9), weight([3])], {})
    attributes |= {"largest": 0, "axis": 0} if opset == 11 else {}
    check_against_onnxruntime(*node_model(rng, "TopK", operands, opset, 2, **attributes), tolerance=0)


@pytest.mark.parametrize(("opset", "attributes", "given"), [
    (7, {"axis": 1}, []), (7, {"axis": 1, "split": [2, 1, 3]}, []), (13, {"axis": -1}, [weight([1, 4, 1])]),
    (18, {"axis": 1, "num_outputs": 3}, []), (18, {"axis": 0, "num_outputs": 3}, []),
])  # fmt: skip
def test_split(rng: np.random.Generator, opset: int, attributes: dict[str, Any], given: list[Given]) -> None:
    check_against_onnxruntime(*node_model(rng, "Split", [real(5, 6), *given], opset, 3, **attributes), tolerance=0)


def test_layer_normalization_gives_its_statistics(rng: np.random.Generator) -> None:
    check_against_onnxruntime(*node_model(rng, "LayerNormalization", [real(3, 40), weight(real(40)), weight(real(40))], 17, 3), 1e-5)


def test_dropout_mask(rng: np.random.Generator) -> None:
    check_against_onnxruntime(*node_model(rng, "Dropout", [real(3, 4)], 13, 2), tolerance=0)
