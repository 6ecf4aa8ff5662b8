"""Expression trees as CUDA text: every function, every dtype, special values, conversions, in the emulator; and NVRTC takes the text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from cpu_harness import assert_close
from cuda_harness import TextKernel, check_compiles, needs_compiler, needs_nvrtc, run_kernel
from expression_samples import (
    ABSOLUTE,
    CANCELLING,
    DTYPES,
    FLOATS,
    RELATIVE,
    SIGMOID_ENDS,
    convertible,
    judge,
    kinds,
    operands,
    samples,
)

from tilewright.backends.common.cuda_expression import loaded, print_expression, register_type, stored, unsupported
from tilewright.backends.common.cuda_functions import PRINTERS
from tilewright.backends.common.kinds import BFLOAT16
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.cubin import compile_kernel
from tilewright.backends.cuda.kernel import Parameter
from tilewright.engine.expression import FUNCTIONS, Convert, Expression, Literal, Operand, apply, result_dtype, walk

X, Y, Z = map(Operand, range(3))
BOOL, F4, I4 = (np.dtype(t) for t in (bool, np.float32, np.int32))
Case = tuple[Expression, list[np.ndarray]]


def kernel_of(cases: Sequence[Case]) -> TextKernel:
    """All expressions in one kernel, which compiles faster than a kernel for each: case i reads x<i>_<j> and writes y<i>."""
    parameters, text = list[Parameter](), list[str]()
    for i, (expression, arrays) in enumerate(cases):
        dtypes = [a.dtype for a in arrays]
        result = result_dtype(expression, dtypes)
        assert result is not None
        names = [f"x{i}_{j}" for j in range(len(arrays))]
        parameters += [Parameter(n, d) for n, d in zip(names, dtypes, strict=True)]
        parameters.append(Parameter(f"y{i}", result, written=True))
        text.append(f"for (int i = threadIdx.x; i < {arrays[0].size}; i += 32) {{")
        text += [f"const {register_type(d)} v{n} = {loaded(f'{n}[i]', d)};" for n, d in zip(names, dtypes, strict=True)]
        printed = print_expression(expression, [f"v{n}" for n in names], dtypes)
        text += [*printed.statements, f"y{i}[i] = {stored(printed.value, result)};", "}"]
    return TextKernel(tuple(parameters), "\n".join(text))


def compute(cases: Sequence[Case]) -> list[np.ndarray]:
    """What the emulator gives for each case."""
    arrays: dict[str, np.ndarray] = {}
    kernel = kernel_of(cases)
    for i, (_, given) in enumerate(cases):
        arrays |= {f"x{i}_{j}": a for j, a in enumerate(given)}
    sizes = {f"y{i}": given[0].size for i, (_, given) in enumerate(cases)}
    arrays |= {p.name: np.zeros(sizes[p.name], p.dtype) for p in kernel.parameters if p.written}
    found = run_kernel(kernel, arrays)
    return [found[f"y{i}"] for i in range(len(cases))]


def functions_of(dtype: np.dtype) -> list[str]:
    return [name for name in FUNCTIONS if dtype.kind in kinds(name)]


def every_function(rng: np.random.Generator, dtype: np.dtype) -> list[Case]:
    names = functions_of(dtype)
    return [(apply(name, *map(Operand, range(FUNCTIONS[name].arity))), operands(rng, name, dtype)) for name in names]


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_function(dtype: np.dtype, rng: np.random.Generator) -> None:
    cases = every_function(rng, dtype)
    for name, (expression, arrays), found in zip(functions_of(dtype), cases, compute(cases), strict=True):
        whole = name == "round" and dtype.kind != "f"  # NumPy rounds integers by way of float64, which has no room for the largest
        wanted = arrays[0] if whole else judge(expression, arrays)
        absolute = 2e-7 * {2: 1000, 4: 1, 8: 1e-7}[dtype.itemsize] * 4 if name in CANCELLING else ABSOLUTE.get(dtype.itemsize, 0)
        absolute = SIGMOID_ENDS if name == "sigmoid" and dtype.itemsize == 4 else absolute
        relative = RELATIVE.get(dtype.itemsize, 0.0) * (2 if name in CANCELLING else 1)
        assert_close(found, wanted.astype(found.dtype) if found.dtype.kind != "f" else wanted, relative, absolute, f"{name} of {dtype}")


@needs_nvrtc
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_function_compiles(dtype: np.dtype, rng: np.random.Generator) -> None:
    cases = every_function(rng, dtype)
    assert not any(unsupported(expression, [a.dtype for a in arrays]) for expression, arrays in cases)
    assert compile_kernel(kernel_of(cases), ARCHITECTURES["sm_75"]).code


def test_every_primitive_is_printed() -> None:
    assert set(PRINTERS) == {name for name, f in FUNCTIONS.items() if f.definition is None}


@needs_compiler
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_conversion(source: np.dtype, rng: np.random.Generator) -> None:
    cases: list[Case] = [(Convert(X, wanted), [convertible(rng, source, wanted)]) for wanted in DTYPES]
    for (expression, (values,)), found in zip(cases, compute(cases), strict=True):
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(found, values.astype(found.dtype), err_msg=f"{expression} of {source}")


@needs_compiler
def test_literals_take_the_dtype_of_what_they_meet(rng: np.random.Generator) -> None:
    cases: list[Case] = []
    for dtype in DTYPES:
        x = samples(rng, dtype)
        if dtype.kind == "f":
            numbers = [0.1, -0.1, 1e-30, 3, -0.0, math.inf, -math.inf, math.nan]
            cases += [(apply("where", apply("is_nan", X), number, X * number), [x]) for number in numbers]
        elif dtype != BOOL:
            cases += [(X + number, [x]) for number in (1, int(np.iinfo(dtype).max), int(np.iinfo(dtype).min))]
    cases.append((apply("and", X < 9, True), [samples(rng, F4)]))
    cases.append((Convert(Literal(2.75), I4) + Convert(X, I4), [rng.uniform(-9, 9, 50).astype(F4)]))
    for (expression, arrays), found in zip(cases, compute(cases), strict=True):
        with np.errstate(all="ignore"):
            wanted = judge(expression, arrays)
        assert_close(found, wanted.astype(found.dtype) if found.dtype.kind != "f" else wanted, 1e-3 if found.itemsize == 2 else 2e-7, 6e-8)


@needs_compiler
def test_constant_exponents_and_gates(rng: np.random.Generator) -> None:
    x, y = ((rng.standard_normal(333) * 3).astype(F4) for _ in range(2))
    gate = apply("sigmoid", Y)
    trees = [apply("pow", X, n) for n in (-1, 1, 2, 3, 0.5, 0, 2.5)]
    trees += [X * gate, gate * X, 0.75 * gate, X * apply("sigmoid", Literal(0.5)), apply("max", X * gate, gate)]
    cases: list[Case] = [(tree, [x, y] if Y in set(walk(tree)) else [x]) for tree in trees]
    for (tree, arrays), found in zip(cases, compute(cases), strict=True):
        assert_close(found, judge(tree, arrays), 3e-7, 1e-37, str(tree))


@needs_compiler
def test_bfloat16_is_carried_as_float(rng: np.random.Generator) -> None:
    x = (rng.standard_normal(100) * 5).astype(F4)
    bits = ((x.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    exact = (bits.astype(np.uint32) << 16).view(F4)
    (found,) = compute([(apply("silu", X), [bits.view(BFLOAT16)])])
    wanted = exact / (1 + np.exp(-exact))
    error = (found.view(np.uint16).astype(np.uint32) << 16).view(F4) - wanted
    assert (np.abs(error) <= 2**-8 * np.abs(wanted)).all()
    (doubled,) = compute([(Convert(X * 2, F4), [bits.view(BFLOAT16)])])
    np.testing.assert_array_equal(doubled, 2 * exact)


def test_shared_parts_are_printed_once() -> None:
    deep: Expression = X
    for _ in range(12):
        deep = deep * deep
    assert len(print_expression(deep, ["x"], [F4]).statements) == 12
    assert sum("tanhf" in line for line in print_expression(apply("mish", X), ["x"], [F4]).statements) == 1


def test_declines_what_no_function_is_for() -> None:
    for name in ("int32", "uint8", "bool"):
        assert unsupported(apply("silu", X), [np.dtype(name)]).endswith(f"of {name}")
    assert not unsupported(apply("silu", X), [BFLOAT16])


def test_text_is_made_of_numbers_and_known_names_only() -> None:
    """What reaches the text of a kernel from a model is numbers."""
    tree = apply("clip", X * 0.1 + 3, -math.inf, 6)
    assert print_expression(tree, ["x"], FLOATS[1:2]).statements == (
        "const float t0 = (x * 0.1f);",
        "const float t1 = (t0 + 3.0f);",
        "const float t2 = maximum<float>(t1, (float)(-bits_to_float(0x7F800000u)));",
        "const float t3 = minimum<float>(t2, 6.0f);",
    )


@needs_nvrtc
def test_an_epilogue_costs_no_stack() -> None:
    check_compiles(kernel_of([(apply("gelu", X + Y), [np.zeros(64, F4)] * 2)]), [ARCHITECTURES["sm_90"]])
