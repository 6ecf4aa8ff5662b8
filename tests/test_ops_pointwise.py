"""Every pointwise function against onnxruntime or a formula, and what can be done with expressions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operator_oracles import check_op, evaluate_op, onnxruntime_results, randn

from tilewright.engine import expression as ex
from tilewright.engine.errors import ModelError
from tilewright.engine.expression import FUNCTIONS, IDENTITY, Convert, Expression, Literal, Operand, apply
from tilewright.engine.ops import Pointwise, cast, pointwise

Random = np.random.Generator
REAL = {"max": "Max", "min": "Min", "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}
INTEGER = {"bit_and": "BitwiseAnd", "bit_or": "BitwiseOr", "bit_xor": "BitwiseXor", "remainder": "Mod"}
ONE = {
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "exp": "Exp", "tanh": "Tanh",
    "erf": "Erf", "sin": "Sin", "cos": "Cos", "tan": "Tan", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh",
    "relu": "Relu", "reciprocal": "Reciprocal", "sigmoid": "Sigmoid", "hard_swish": "HardSwish", "softplus": "Softplus",
    "softsign": "Softsign", "mish": "Mish", "gelu": "Gelu",
}  # fmt: skip
POSITIVE = {"sqrt": "Sqrt", "log": "Log"}
SMALL = {"asin": "Asin", "acos": "Acos", "atanh": "Atanh"}
COMPARE = {"less": "Less", "less_equal": "LessOrEqual", "equal": "Equal"}
LOGIC = {"and": "And", "or": "Or", "xor": "Xor"}
ELSEWHERE = {
    "pow", "fmod", "shift_left", "shift_right", "bit_not", "acosh", "log1p", "is_nan", "is_inf", "not", "where", "clip",
    "leaky_relu", "elu", "hard_sigmoid", "silu", "gelu_tanh",
}  # fmt: skip


def check(function: str, op_type: str, *arrays: np.ndarray, literals: tuple[float, ...] = (), **attributes: Any) -> None:
    """The function of the arrays (and literals) equals the ONNX operator of the arrays."""
    expected = onnxruntime_results(op_type, arrays, **attributes)
    check_op(lambda *nodes: pointwise(function, *nodes, *literals), arrays, expected, tolerance=4e-6)


def test_every_function_is_tested_here() -> None:
    tables = (REAL, INTEGER, ONE, POSITIVE, SMALL, COMPARE, LOGIC)
    assert {name for table in tables for name in table} | ELSEWHERE == FUNCTIONS.keys()


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_two_operands_broadcast(rng: Random, name: str, dtype: Any) -> None:
    a, b = (randn(rng, 4, 1, 5) * 99).astype(dtype), (randn(rng, 3, 1) * 9).astype(dtype)
    b[b == 0] = 7
    check(name, REAL[name], a, b)


@pytest.mark.parametrize("name", INTEGER)
def test_integers(rng: Random, name: str) -> None:
    a, b = rng.integers(-99, 99, (4, 1, 5)), rng.integers(1, 9, (3, 1)) * rng.choice([-1, 1], (3, 1))
    check(name, INTEGER[name], a, b)


def test_integer_division_truncates() -> None:
    a, b = np.array([7, -7, 7, -7, 6, -6]), np.array([2, 2, -2, -2, 3, 3])
    check_op(lambda x, y: pointwise("div", x, y), [a, b], [np.array([3, -3, -3, 3, 2, -2])])


@pytest.mark.parametrize("name", ONE)
def test_one_operand(rng: Random, name: str) -> None:
    x = np.concatenate([randn(rng, 60) * 3, np.array([0.5, 1.5, -0.5, -2.5, 0.0, 9.0, -9.0], np.float32)])
    check(name, ONE[name], x[x != 0] if name == "reciprocal" else x)


@pytest.mark.parametrize("name", POSITIVE)
def test_positive_operand(rng: Random, name: str) -> None:
    check(name, POSITIVE[name], rng.random((3, 20), np.float32) * 50 + 1e-3)


@pytest.mark.parametrize("name", SMALL)
def test_operand_between_minus_one_and_one(rng: Random, name: str) -> None:
    check(name, SMALL[name], (rng.random((3, 20)) * 1.98 - 0.99).astype(np.float32))


@pytest.mark.parametrize("name", COMPARE)
def test_comparisons(rng: Random, name: str) -> None:
    a, b = rng.integers(0, 4, (5, 6)).astype(np.float32), rng.integers(0, 4, 6).astype(np.float32)
    check(name, COMPARE[name], a, b)


@pytest.mark.parametrize("name", LOGIC)
def test_logic(rng: Random, name: str) -> None:
    check(name, LOGIC[name], rng.random((5, 6)) < 0.5, rng.random(6) < 0.5)


def test_functions_with_operands_of_their_own(rng: Random) -> None:
    x, bits = randn(rng, 5, 6) * 4, rng.random((5, 6)) < 0.5
    check("not", "Not", bits)
    check("where", "Where", bits, x, randn(rng, 6))
    check("pow", "Pow", np.abs(x), randn(rng, 6))
    check("fmod", "Mod", x, randn(rng, 6) + 3, fmod=1)
    check("acosh", "Acosh", np.abs(x) + 1)
    odd = np.array([1.0, np.nan, np.inf, -np.inf, 0.0], np.float32)
    check("is_nan", "IsNaN", odd)
    check("is_inf", "IsInf", odd)
    whole = rng.integers(0, 200, 9).astype(np.uint8)
    check("bit_not", "BitwiseNot", whole)
    check("shift_left", "BitShift", whole, np.arange(9, dtype=np.uint8) % 8, direction="LEFT")
    check("shift_right", "BitShift", whole, np.arange(9, dtype=np.uint8) % 8, direction="RIGHT")


def test_functions_with_parameters(rng: Random) -> None:
    x = randn(rng, 50) * 4
    check("leaky_relu", "LeakyRelu", x, literals=(0.3,), alpha=0.3)
    check("elu", "Elu", x, literals=(0.7,), alpha=0.7)
    check("hard_sigmoid", "HardSigmoid", x, literals=(0.3, 0.4), alpha=0.3, beta=0.4)
    check("gelu_tanh", "Gelu", x, approximate="tanh")
    low, high = np.float32(-1.5), np.float32(2.5)
    expected = onnxruntime_results("Clip", [x, np.asarray(low), np.asarray(high)])
    check_op(lambda i: pointwise("clip", i, -1.5, 2.5), [x], expected)


@pytest.mark.parametrize(("name", "formula"), [("log1p", lambda x: math.log(1 + x)), ("silu", lambda x: x / (1 + math.exp(-x)))])
def test_functions_without_an_onnx_operator(rng: Random, name: str, formula: Callable[[float], float]) -> None:
    x = np.abs(randn(rng, 30)) * 4
    check_op(lambda i: pointwise(name, i), [x], [np.array([formula(float(v)) for v in x], np.float32)])


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "tanh", "silu", "mish", "elu", "gelu", "erf"])
def test_large_arguments_give_no_nan(name: str) -> None:
    x = np.array([-1e4, -90.0, 90.0, 1e4, -np.inf, np.inf], np.float32)
    extra = (1.0,) if FUNCTIONS[name].arity == 2 else ()
    (result,) = evaluate_op(lambda i: pointwise(name, i, *extra), [x[:4]])
    assert np.isfinite(result).all()
    if name in ("sigmoid", "tanh", "erf"):
        (ends,) = evaluate_op(lambda i: pointwise(name, i), [x[4:]])
        assert ends.tolist() == [0.0 if name == "sigmoid" else -1.0, 1.0]


def test_erf_is_exact_in_float64() -> None:
    x = np.linspace(-6, 6, 201)
    (result,) = evaluate_op(lambda i: pointwise("erf", i), [x])
    np.testing.assert_allclose(result, [math.erf(v) for v in x], rtol=4e-15)


@pytest.mark.parametrize("target", [np.int32, np.uint8, np.bool_, np.float16, np.float64])
def test_cast(rng: Random, target: Any) -> None:
    x = np.abs(randn(rng, 40)) * 60
    x[::5] = 0
    (result,) = evaluate_op(lambda i: cast(i, np.dtype(target)), [x])
    np.testing.assert_array_equal(result, x.astype(target))
    assert result.dtype == target


def test_expand_leaves_primitives_only(rng: Random) -> None:
    x = [rng.standard_normal(9) for _ in range(3)]
    for name, function in FUNCTIONS.items():
        expression = apply(name, *map(Operand, range(function.arity)))
        expanded = ex.expand(expression)
        inner = [e for e in ex.walk(expanded) if isinstance(e, ex.Apply)]
        assert inner and all(FUNCTIONS[e.function].definition is None for e in inner)
        if function.definition is not None:
            np.testing.assert_array_equal(ex.evaluate(expression, x), ex.evaluate(expanded, x))


def test_substitute_and_render() -> None:
    expression = (IDENTITY + Operand(1)) * 2 - apply("max", Operand(1), 0.25)
    assert str(expression) == "($0 + $1) * 2 - max($1, 0.25)"
    swapped = ex.substitute(expression, [Operand(1), Convert(IDENTITY, np.dtype(np.float32))])
    assert str(swapped) == "($1 + float32($0)) * 2 - max(float32($0), 0.25)"
    assert str(IDENTITY - (IDENTITY - 1)) == "$0 - ($0 - 1)"
    assert str((IDENTITY < 0) / -IDENTITY) == "($0 < 0) / neg($0)"
    assert str(1 - IDENTITY) == "1 - $0" and str(2 / (3 + 4 * IDENTITY)) == "2 / (3 + 4 * $0)"


def test_flops_count_every_function_once() -> None:
    assert ex.flops(IDENTITY) == 0
    assert ex.flops((IDENTITY + 1) * IDENTITY) == 2
    assert ex.flops(apply("exp", IDENTITY) + apply("relu", IDENTITY)) == FUNCTIONS["exp"].flops + 2


F32, I64, BOOL = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)


@pytest.mark.parametrize(
    ("expression", "dtypes", "expected"),
    [
        (IDENTITY + 1, [F32], F32),
        (Operand(1) > IDENTITY, [I64, I64], BOOL),
        (apply("where", Operand(0), Operand(1), 0.5), [BOOL, F32], F32),
        (Convert(IDENTITY, F32) + Operand(1), [I64, F32], F32),
        (Literal(1), [], None),
        (apply("is_nan", IDENTITY), [F32], BOOL),
    ],
)
def test_result_dtype(expression: Expression, dtypes: list[np.dtype], expected: np.dtype | None) -> None:
    assert ex.result_dtype(expression, dtypes) == expected


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x, i, b: pointwise("add", x, i), "expected operands of one dtype, got float32 and int64"),
        (lambda x, i, b: pointwise("and", x, x), "and: expected bool operands, got float32"),
        (lambda x, i, b: pointwise("not", x), "not: expected bool operands, got float32"),
        (lambda x, i, b: pointwise("where", x, x, x), "where: expected a bool condition, got float32"),
        (lambda x, i, b: pointwise("sqroot", x), "no pointwise function sqroot of 1 arguments"),
        (lambda x, i, b: pointwise("add", x), "no pointwise function add of 1 arguments"),
        (lambda x, i, b: Pointwise((x,), expression=Literal(1)), "reads no operand"),
        (lambda x, i, b: pointwise("add", x, cast(b, F32)), "do not broadcast"),
    ],
)
def test_expressions_that_do_not_fit(rng: Random, build: Callable[..., Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        evaluate_op(build, [randn(rng, 3), np.arange(3), np.array([True, False])])
