"""Every ONNX operator with a converter, in every form that opsets from 7 on give it, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models import Given, check_against_onnxruntime, flags, node_model, positive, real, weight, whole

Case = tuple[str, int, list[Given | None], dict[str, Any]]

f16, f64, i8, u8, i32, u32 = np.float16, np.float64, np.int8, np.uint8, np.int32, np.uint32
UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Elu",
    "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Neg",
    "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt",
    "Tan", "Tanh", "ThresholdedRelu", "Celu", "Mish", "Gelu", "Shrink",
)  # fmt: skip
BOUNDED = {"Acos": (0.9, 0), "Asin": (0.9, 0), "Atanh": (0.9, 0), "Acosh": (1, 1.5), "Log": (1, 0.1), "Sqrt": (1, 0)}


def numbers(op: str) -> Given:
    """Operands inside the domain of a function, among them values that it rounds or cuts."""
    scale, shift = BOUNDED.get(op, (3, None))
    return Given(lambda rng: (rng.random((3, 5, 7)) * scale + shift if shift is not None else rng.normal(0, scale, (3, 5, 7))).astype("f4"))


ELEMENTWISE: list[Case] = [
    *((op, 20, [numbers(op)], {}) for op in UNARY),
    *((op, 7, [numbers(op)], {}) for op in UNARY if op in ("Elu", "HardSigmoid", "LeakyRelu", "Selu", "Relu", "Exp")),
    ("Elu", 17, [real(4, 5)], {"alpha": 0.3}),
    ("LeakyRelu", 17, [real(4, 5)], {"alpha": -0.2}),
    ("HardSigmoid", 17, [real(4, 5)], {"alpha": 0.4, "beta": 0.1}),
    ("Selu", 17, [real(4, 5)], {"alpha": 1.2, "gamma": 0.7}),
    ("Celu", 17, [real(4, 5)], {"alpha": 0.6}),
    ("ThresholdedRelu", 17, [real(4, 5)], {"alpha": 0.6}),
    ("Shrink", 17, [real(4, 5)], {"lambd": 0.4, "bias": 0.3}),
    ("Gelu", 20, [real(4, 5)], {"approximate": "tanh"}),
    ("IsInf", 17, [Given(lambda rng: np.array([np.inf, -np.inf, 1, np.nan], "f4"))], {"detect_negative": 0}),
    ("IsInf", 17, [Given(lambda rng: np.array([np.inf, -np.inf, 1, np.nan], "f4"))], {"detect_positive": 0}),
    ("Abs", 17, [whole(-9, 9, 7)], {}),
    ("Neg", 17, [whole(-9, 9, 7, dtype=i32)], {}),
    ("Not", 17, [flags(2, 9)], {}),
    ("BitwiseNot", 18, [whole(-99, 99, 7, dtype=i32)], {}),
    *((op, 7, [real(2, 3, 4), real(3, 1)], {}) for op in ("Add", "Sub", "Mul", "Div")),
    ("Div", 14, [whole(-20, 20, 5, 6), whole(1, 7, 6)], {}),
    ("Div", 14, [whole(-20, 20, 5, 6, dtype=i32), whole(-7, 0, 6, dtype=i32)], {}),
    *((op, 17, [whole(-3, 3, 4, 5), whole(-3, 3, 5)], {}) for op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")),
    *((op, 9, [real(4, 5), real(5)], {}) for op in ("Less", "Greater")),
    *((op, 7, [flags(4, 5), flags(5)], {}) for op in ("And", "Or", "Xor")),
    *((op, 18, [whole(-99, 99, 4, 5, dtype=i32), whole(-99, 99, 5, dtype=i32)], {}) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    *(("BitShift", 11, [whole(0, 99, 6, dtype=u32), whole(0, 5, 6, dtype=u32)], {"direction": d}) for d in ("LEFT", "RIGHT")),
    ("Mod", 13, [whole(-20, 20, 9), whole(1, 7, 9)], {}),
    ("Mod", 13, [whole(-20, 20, 9), whole(-7, 0, 9)], {"fmod": 1}),
    ("Mod", 13, [real(9), positive(9)], {"fmod": 1}),
    ("Pow", 7, [positive(4, 5), real(5)], {}),
    ("Pow", 15, [positive(4, 5), whole(-2, 4, 5)], {}),
    ("Pow", 15, [whole(1, 9, 4, 5), weight(0.5)], {}),
    ("Pow", 15, [whole(-4, 4, 5), whole(0, 4, 5, dtype=i32)], {}),
    ("PRelu", 7, [real(2, 3, 4, 5), weight(real(3, 1, 1))], {}),
    ("PRelu", 16, [real(2, 3), weight(real(1))], {}),
    *((op, 8, [real(2, 3), real(3), real(1, 1)], {}) for op in ("Max", "Min", "Mean", "Sum")),
    *((op, 13, [real(2, 3)], {}) for op in ("Max", "Mean", "Sum")),
    ("Max", 13, [whole(-9, 9, 5), whole(-9, 9, 5)], {}),
    ("Where", 16, [flags(4, 1), real(4, 5), real(5)], {}),
    ("Where", 9, [flags(4), whole(0, 9, 4), whole(0, 9, 4)], {}),
    *(("Cast", 13, [Given(lambda rng: rng.normal(0, 9, (3, 4)).astype("f4"))], {"to": to}) for to in (1, 6, 7, 9, 10, 11)),
    ("Cast", 13, [flags(5)], {"to": 1}),
    ("Cast", 9, [whole(0, 300, 9)], {"to": 2}),
    ("CastLike", 19, [real(4), whole(0, 2, 1)], {}),
    ("CastLike", 19, [real(4), real(1)], {}),
    ("Clip", 7, [real(4, 5)], {"min": -0.5, "max": 0.7}),
    ("Clip", 7, [real(4, 5)], {}),
    ("Clip", 10, [real(4, 5)], {"max": 0.2}),
    ("Clip", 11, [real(4, 5), weight(-0.3), weight(0.6)], {}),
    ("Clip", 13, [real(4, 5), None, weight(0.6)], {}),
    ("Clip", 13, [real(4, 5), real(), None], {}),
    ("Clip", 13, [whole(-9, 9, 8), weight(-3), whole(2, 5)], {}),
    ("Dropout", 7, [real(4, 5)], {"ratio": 0.4}),
    ("Dropout", 12, [real(4, 5), weight(0.7), weight(False)], {}),
]

SHAPES: list[Case] = [
    ("Flatten", 7, [real(2, 3, 4)], {}),
    ("Flatten", 13, [real(2, 3, 4)], {"axis": -1}),
    ("Flatten", 9, [real(2, 3, 4)], {"axis": 0}),
    ("Flatten", 9, [real(2, 3, 4)], {"axis": 3}),
    ("Reshape", 7, [real(2, 3, 4), weight([0, -1])], {}),
    ("Reshape", 14, [real(2, 3, 4), weight([4, 0, 2])], {}),
    ("Reshape", 14, [real(0, 3), weight([3, 0])], {"allowzero": 1}),
    ("Squeeze", 7, [real(1, 3, 1, 4)], {"axes": [2]}),
    ("Squeeze", 11, [real(1, 3, 1, 4)], {"axes": [-2, 0]}),
    ("Squeeze", 13, [real(1, 3, 1, 4), weight([0])], {}),
    ("Squeeze", 13, [real(1, 3, 1, 4)], {}),
    ("Unsqueeze", 7, [real(3, 4)], {"axes": [0, 3]}),
    ("Unsqueeze", 13, [real(3, 4), weight([-1, 1])], {}),
    ("Transpose", 7, [real(2, 3, 4)], {}),
    ("Transpose", 13, [real(2, 3, 4)], {"perm": [1, 2, 0]}),
    ("Concat", 7, [real(2, 3), real(2, 4)], {"axis": 1}),
    ("Concat", 13, [real(2, 3), real(1, 3), weight(real(4, 3))], {"axis": -2}),
    ("Slice", 7, [real(5, 6)], {"starts": [1, -3], "ends": [99, -1]}),
    ("Slice", 9, [real(5, 6)], {"starts": [1], "ends": [4], "axes": [1]}),
    ("Slice", 10, [real(5, 6), weight([-2]), weight([-99]), weight([-1]), weight([-2])], {}),
    ("Slice", 13, [real(5, 6), weight([-99, 5]), weight([99, 0]), weight([1, 0]), weight([2, -1])], {}),
    ("Slice", 13, [real(5, 6), weight([3]), weight([2])], {}),
    ("Slice", 13, [real(5, 6), weight([1], i32), weight([3], i32), None, weight([1], i32)], {}),
    ("Pad", 7, [real(2, 3, 4)], {"pads": [0, 1, 2, 1, 0, 3], "value": 0.5}),
    ("Pad", 7, [real(2, 3, 4)], {"pads": [0, 1, 2, 1, 0, 3], "mode": "reflect"}),
    ("Pad", 11, [real(3, 4), weight([1, 0, 0, 2]), weight(2.5)], {}),
    ("Pad", 13, [real(3, 4), weight([1, -1, -1, 2])], {}),
    ("Pad", 13, [real(3, 4), weight([1, 2, 0, 2])], {"mode": "edge"}),
    ("Pad", 18, [real(3, 4, 5), weight([1, 2, 0, 2]), None, weight([-1, 0])], {"mode": "reflect"}),
    ("Pad", 19, [real(3, 4), weight([1, 2, 2, 1])], {"mode": "wrap"}),
    ("Pad", 13, [whole(0, 9, 3, 4), weight([0, 1, 1, 0]), weight(-7)], {}),
    ("Expand", 8, [real(3, 1), weight([2, 1, 4])], {}),
    ("Expand", 13, [real(2, 3), weight([1, 1])], {}),
    ("Tile", 7, [real(2, 3), weight([2, 3])], {}),
    ("Tile", 13, [real(2, 3), weight([1, 1])], {}),
    *(("DepthToSpace", 13, [real(2, 12, 3, 5)], {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")),
    ("DepthToSpace", 7, [real(1, 9, 2, 3)], {"blocksize": 3}),
    ("SpaceToDepth", 7, [real(2, 3, 4, 6)], {"blocksize": 2}),
    ("Trilu", 14, [real(2, 4, 5)], {}),
    ("Trilu", 14, [real(2, 4, 5), weight(-1)], {"upper": 0}),
    ("Trilu", 14, [whole(1, 9, 4, 5), weight(2)], {"upper": 1}),
    ("Shape", 7, [real(2, 3, 4)], {}),
    ("Shape", 15, [real(2, 3, 4)], {"start": -2}),
    ("Shape", 15, [real(2, 3, 4)], {"start": 0, "end": -1}),
    ("Size", 13, [real(2, 3, 4)], {}),
    ("ConstantOfShape", 9, [weight([2, 3])], {}),
    ("Range", 11, [weight(3), weight(11), weight(3)], {}),
    ("Range", 11, [weight(2.5), weight(-1.0), weight(-0.75)], {}),
    ("EyeLike", 9, [real(3, 5)], {"k": 1}),
    ("EyeLike", 9, [real(5, 3)], {"k": -1, "dtype": 7}),
    ("NonZero", 13, [weight([[0, 2, 0], [1, 0, 3]])], {}),
    ("Compress", 11, [real(3, 4), weight([True, False, True])], {"axis": 0}),
    ("Compress", 11, [real(3, 4), weight([False, True, False, True, True])], {}),
    ("OneHot", 11, [whole(-3, 6, 2, 3), weight(5), weight([0.5, 2.0])], {}),
    ("OneHot", 11, [whole(0, 4, 2, 3), weight(4), weight([0, 1])], {"axis": 1}),
    ("OneHot", 9, [Given(lambda rng: np.array([0, 2, 1], "f4")), weight(3.0), weight([0.0, 1.0])], {"axis": 0}),
    ("ReverseSequence", 10, [real(5, 3, 2), whole(1, 5, 3)], {}),
    ("ReverseSequence", 10, [real(3, 5), whole(1, 5, 3)], {"time_axis": 1, "batch_axis": 0}),
    ("Gather", 7, [real(4, 5), whole(0, 4, 2, 3)], {}),
    ("Gather", 11, [real(4, 5), whole(-5, 5, 3)], {"axis": -1}),
    ("Gather", 13, [real(4, 5), weight(2)], {"axis": 1}),
    ("GatherElements", 13, [real(3, 4), whole(-3, 3, 2, 4)], {}),
    ("GatherND", 12, [real(3, 4, 5), whole(0, 3, 2, 2)], {}),
    ("GatherND", 12, [real(3, 4, 5), whole(0, 4, 3, 2, 1)], {"batch_dims": 1}),
    ("Scatter", 9, [real(3, 4), weight([[0, 1, 2, 0]]), real(1, 4)], {}),
    ("ScatterElements", 11, [real(3, 4), weight([[1, -1]]), real(1, 2)], {"axis": 1}),
    *(("ScatterElements", 18, [real(3, 4), whole(0, 3, 5, 4), real(5, 4)], {"reduction": r}) for r in ("add", "mul", "max", "min")),
    ("ScatterND", 11, [real(4, 3), weight([[2], [0]]), real(2, 3)], {}),
    ("ScatterND", 16, [real(4, 3), weight([[2], [2]]), real(2, 3)], {"reduction": "add"}),
]  # fmt: skip


def name_of(case: Case) -> str:
    op, opset, _, attributes = case
    return "-".join([op, str(opset), *(f"{name}={value}" for name, value in attributes.items())])


@pytest.mark.parametrize("case", ELEMENTWISE, ids=name_of)
def test_elementwise(rng: np.random.Generator, case: Case) -> None:
    op, opset, operands, attributes = case
    check_against_onnxruntime(*node_model(rng, op, operands, opset, **attributes), tolerance=5e-6)


@pytest.mark.parametrize("case", SHAPES, ids=name_of)
def test_data_movement(rng: np.random.Generator, case: Case) -> None:
    op, opset, operands, attributes = case
    check_against_onnxruntime(*node_model(rng, op, operands, opset, **attributes), tolerance=0)
