"""Expression trees as LLVM values: every function, every dtype, special values, conversions."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from cpu_harness import TARGETS, assert_close, load_kernels, operand, run_node
from expression_samples import (
    ABSOLUTE,
    CANCELLING,
    DTYPES,
    FLOATS,
    INTEGERS,
    RELATIVE,
    SIGMOID_ENDS,
    SPECIAL,
    convertible,
    judge,
    kinds,
    operands,
)

from tilewright.backends.common.llvm_functions import EMITTERS
from tilewright.backends.cpu.codegen import binding, target_machine
from tilewright.backends.cpu.kernel import Machine, NoKernel, lower
from tilewright.backends.cpu.pointwise import PointwiseKernel
from tilewright.backends.cpu.target import Target
from tilewright.engine.expression import FUNCTIONS, Convert, Expression, Literal, Operand, apply
from tilewright.engine.ops import Pointwise

X, Y, Z = map(Operand, range(3))


def compute(expression: Expression, arrays: list[np.ndarray], target: str) -> np.ndarray:
    """The expression over operands of one shape, by a kernel."""
    inputs = [operand(f"x{i}", a) for i, a in enumerate(arrays)]
    return run_node(Pointwise(tuple(inputs), expression=expression), dict(zip(inputs, arrays, strict=True)), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_function(function: str, target: str, rng: np.random.Generator) -> None:
    tried = 0
    for dtype in DTYPES:
        if dtype.kind not in kinds(function):
            continue
        arrays = operands(rng, function, dtype)
        expression = apply(function, *map(Operand, range(len(arrays))))
        # NumPy rounds integers by way of float64, which has no room for the largest.
        whole = function == "round" and dtype.kind != "f"
        found, wanted = compute(expression, arrays, target), arrays[0] if whole else judge(expression, arrays)
        absolute = 2e-7 * {2: 1000, 4: 1, 8: 1e-7}[dtype.itemsize] * 4 if function in CANCELLING else ABSOLUTE.get(dtype.itemsize, 0)
        absolute = SIGMOID_ENDS if function == "sigmoid" and dtype.itemsize == 4 else absolute
        relative = RELATIVE.get(dtype.itemsize, 0.0) * (2 if function in CANCELLING else 1)
        assert_close(found, wanted.astype(found.dtype) if found.dtype.kind != "f" else wanted, relative, absolute, f"{function} of {dtype}")
        tried += 1
    assert tried


def test_every_primitive_is_emitted() -> None:
    assert set(EMITTERS) == {name for name, f in FUNCTIONS.items() if f.definition is None} | {"sigmoid"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_conversion(source: np.dtype, target: str, rng: np.random.Generator) -> None:
    for wanted in DTYPES:
        values = convertible(rng, source, wanted)
        with np.errstate(over="ignore"):
            expected = values.astype(wanted)
        found = compute(Convert(X, wanted), [values], target)
        np.testing.assert_array_equal(found, expected, err_msg=f"{source} to {wanted}")


@pytest.mark.parametrize("target", TARGETS)
def test_float64_to_float16_rounds_once(target: str) -> None:
    halves = np.arange(1, 0x7BFF, 7, dtype=np.uint16).view(np.float16).astype(np.float64)
    ties = (halves + np.nextafter(halves.astype(np.float16), np.float16(np.inf)).astype(np.float64)) / 2
    values = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, np.inf), -ties])
    np.testing.assert_array_equal(compute(Convert(X, np.dtype(np.float16)), [values], target), values.astype(np.float16))


ACCURATE = ["exp", "log", "log1p", "tanh", "erf", "sigmoid", "sqrt", "sin", "atan", "reciprocal"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("function", ACCURATE)
def test_accuracy(function: str, target: str, rng: np.random.Generator) -> None:
    """Relative errors over the whole range of float32, for random bits as for moderate and for tiny arguments."""
    count = 20000
    bits = rng.integers(0, 1 << 32, count, np.uint32).view(np.float32)
    moderate = rng.uniform(-110, 95, count).astype(np.float32)
    tiny = (rng.uniform(-4, 4, count) * np.exp(rng.uniform(-20, 0, count))).astype(np.float32)
    values = np.concatenate([bits[np.isfinite(bits) & ((function != "sin") | (np.abs(bits) < 1e5))], moderate, tiny])
    wanted = judge(apply(function, X), [values])
    found = compute(apply(function, X), [values], target)
    # What is below the normal numbers is exact to the spacing of the subnormal ones; sigmoid, being a reciprocal, ends there.
    absolute = SIGMOID_ENDS if function == "sigmoid" else 3e-45
    assert_close(found, wanted, {"log": 1.2e-7, "sqrt": 6e-8, "reciprocal": 6e-8}.get(function, 2.4e-7), absolute, function)


GATED = {"silu": apply("silu", X), "mul": X * apply("sigmoid", X), "mul turned": apply("sigmoid", X) * X}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("expression", GATED.values(), ids=GATED)
def test_gate_is_accurate_everywhere(expression: Expression, target: str, rng: np.random.Generator) -> None:
    """x * sigmoid(x) keeps its relative accuracy also where it is tiny, and its limits beyond."""
    values = np.concatenate([rng.uniform(-80, 80, 20000), rng.standard_normal(20000), SPECIAL]).astype(np.float32)
    assert_close(compute(expression, [values], target), judge(expression, [values]), 2.4e-7, 6e-37)
    huge = np.array([-89.0, -100.0, -1e30, -3e38, 100.0, 3e38, math.inf, math.nan, -math.inf, 0.0, -0.0], np.float32)
    wanted = np.array([0.0, 0.0, 0.0, 0.0, 100.0, 3e38, math.inf, math.nan, math.nan, 0.0, -0.0], np.float32)
    np.testing.assert_array_equal(compute(expression, [huge], target), wanted)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gate_of_another_value(dtype: np.dtype, target: str, rng: np.random.Generator) -> None:
    """The gate need not be the gated value; one that is a literal; one that is read twice."""
    x, y = ((rng.standard_normal(333) * 3).astype(dtype) for _ in range(2))
    gate = apply("sigmoid", Y)
    for expression in (X * gate, gate * X, 0.75 * gate, X * apply("sigmoid", Literal(0.5)), apply("max", X * gate, gate)):
        assert_close(compute(expression, [x, y], target), judge(expression, [x, y]), RELATIVE[dtype.itemsize], 2 * ABSOLUTE[dtype.itemsize])


@pytest.mark.parametrize("target", ["avx512", "avx2"])
def test_gate_is_one_division(target: str) -> None:
    """In the loop and in the masked end: a division, a look-up of the power of two, seven multiply-adds, no further product."""
    text = assembly(emitted(apply("silu", X), [FLOATS[1]], target), target)
    assert len(re.findall(r"\bvdivps\b", text)) == 2
    assert len(re.findall(r"\bvperm(?:d|ps)\b", text)) == 2
    assert len(re.findall(r"\bvfn?m(?:add|sub)\d+ps\b", text)) == 2 * 7
    assert not re.search(r"\bvmulps\b", text)


@pytest.mark.parametrize("target", TARGETS)
def test_power(target: str, rng: np.random.Generator) -> None:
    """Every pair of special values, and random ones."""
    a, b = (np.ravel(v).astype(np.float32) for v in np.meshgrid([*SPECIAL, 7.0, -7.0], [*SPECIAL, 7.0, -7.0, 2.5]))
    x = np.concatenate([a, np.exp(rng.standard_normal(500) * 8), -np.exp(rng.standard_normal(500))]).astype(np.float32)
    y = np.concatenate([b, rng.standard_normal(500) * 3, rng.integers(-9, 9, 500)]).astype(np.float32)
    for dtype in (np.float32, np.float64):
        arrays = [x.astype(dtype), y.astype(dtype)]
        assert_close(compute(apply("pow", X, Y), arrays, target), judge(apply("pow", X, Y), arrays), 1.2e-7, 1e-45)
    for exponent in (-1, 1, 2, 3, 0.5, 0, 2.5):
        assert_close(
            compute(apply("pow", X, exponent), [x], target), judge(apply("pow", X, exponent), [x]), 1.8e-7, 1e-44, f"** {exponent}"
        )


@pytest.mark.parametrize("target", TARGETS)
def test_negative_integer_exponents(target: str) -> None:
    base, exponent = (np.ravel(v).astype(np.int32) for v in np.meshgrid(range(-3, 4), range(-3, 0)))
    wanted = np.where(base == 1, 1, np.where(base == -1, np.where(exponent % 2 == 0, 1, -1), 0))
    np.testing.assert_array_equal(compute(apply("pow", X, Y), [base, exponent], target), wanted)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_division_never_traps(dtype: np.dtype, target: str) -> None:
    """Every pair of edge values: by zero it gives zero, and the smallest number divided by -1 wraps around to itself."""
    limits = np.iinfo(dtype)
    edges = np.array([limits.min, limits.min + 1, 0, 1, 7, limits.max] + ([-1, -7] if dtype.kind == "i" else []), dtype)
    arrays = [np.ravel(v) for v in np.meshgrid(edges, edges)]
    for function in ("div", "fmod", "remainder"):
        found = compute(apply(function, X, Y), arrays, target)
        np.testing.assert_array_equal(found, judge(apply(function, X, Y), arrays), err_msg=function)


@pytest.mark.parametrize("target", TARGETS)
def test_float_to_integer_through_a_tree(target: str, rng: np.random.Generator) -> None:
    x = (rng.standard_normal(77) * 40).astype(np.float32)
    expression = Convert(apply("round", X * 4), np.dtype(np.int32)) + Convert(X < 0, np.dtype(np.int32)) * 1000
    np.testing.assert_array_equal(compute(expression, [x], target), np.rint(x * 4).astype(np.int32) + (x < 0) * 1000)


@pytest.mark.parametrize("target", TARGETS)
def test_literals_take_the_dtype_of_what_is_around_them(target: str, rng: np.random.Generator) -> None:
    x = rng.integers(-50, 50, 45, np.int8)
    chosen = apply("where", X < 3, 2, apply("add", 3, 4))
    np.testing.assert_array_equal(compute(X + chosen, [x], target), x + np.where(x < 3, 2, 7).astype(np.int8))
    flag = apply("where", apply("less", 1, 2), X, 0)
    np.testing.assert_array_equal(compute(flag, [x], target), x)
    both = apply("and", X < 9, True)
    np.testing.assert_array_equal(compute(both, [x], target), x < 9)
    np.testing.assert_array_equal(
        compute(Convert(Literal(2.75), np.dtype(np.int32)) + Convert(X, np.dtype(np.int32)), [x], target), x + np.int32(2)
    )


def emitted(expression: Expression, dtypes: list[np.dtype], target: str) -> PointwiseKernel:
    load_kernels()
    inputs = tuple(operand(f"x{i}", np.zeros(4096, d)) for i, d in enumerate(dtypes))
    (call,) = lower(Pointwise(inputs, expression=expression), Machine(Target.describe(target), 1))
    assert isinstance(call.kernel, PointwiseKernel)
    return call.kernel


def assembly(kernel: PointwiseKernel, name: str) -> str:
    target = Target.describe(name)
    machine = target_machine(target)
    module = binding().parse_assembly(kernel.emit(target))
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    return machine.emit_assembly(module)


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "neon"])
def test_relu_is_one_instruction(target: str) -> None:
    """One maximum for each vector, unmasked and masked; no comparison of floats."""
    text = assembly(emitted(apply("relu", X), [FLOATS[1]], target), target)
    assert len(re.findall(r"\bvmaxps\b", text)) == 2
    assert not re.search(r"vcmp\w*ps|vblendv", text)


def test_shared_parts_are_emitted_once() -> None:
    """The definition of mish reads softplus once; a user's tree that repeats an object is walked once, however deep."""
    target = Target.describe("avx2")
    text = emitted(apply("mish", X), [FLOATS[1]], "avx2").emit(target)
    assert text.count("llvm.copysign") == 3, "a declaration, and tanh in the loop and in the masked end"
    deep: Expression = X
    for _ in range(12):
        deep = deep * deep
    from tilewright.backends.common.llvm_expression import emit_expression
    from tilewright.backends.cpu.emit import Emitter

    k = Emitter("test", (), target)
    value = k.splat(k.b.sitofp(k.integer(1), k.vector(FLOATS[1]).element), k.vector(FLOATS[1]))
    emit_expression(k, deep, [value], [FLOATS[1]])
    assert k.text().count("fmul") == 12


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_declines_what_no_function_is_for(dtype: str) -> None:
    load_kernels()
    x = operand("x", np.zeros(5, dtype))
    for expression in (apply("exp", X), apply("silu", X)):
        with pytest.raises(NoKernel, match=f"of {dtype}"):
            lower(Pointwise((x,), expression=expression), Machine(Target.describe("avx2"), 1))


@pytest.mark.parametrize("function", ["silu", "pow", "log1p", "max", "div", "remainder"])
def test_compiles_for_neon(function: str) -> None:
    arity = FUNCTIONS[function].arity
    for dtype in (FLOATS[1], FLOATS[2]):
        assert "ret" in assembly(emitted(apply(function, *map(Operand, range(arity))), [dtype] * arity, "neon"), "neon")
