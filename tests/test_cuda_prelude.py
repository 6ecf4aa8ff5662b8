"""The wrappers of the prelude in the emulator, against what PTX defines. On a GPU benchmarks/gpu.py runs the same cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_harness import TextKernel, needs_compiler, run_kernel

from tilewright.backends.cuda.kernel import Parameter

pytestmark = needs_compiler
F2, F4, U2, U4 = (np.dtype(t) for t in (np.float16, np.float32, np.uint16, np.uint32))


def parameters(**dtypes: np.dtype) -> tuple[Parameter, ...]:
    """The last one is written."""
    last = list(dtypes)[-1]
    return tuple(Parameter(name, dtype, written=name == last) for name, dtype in dtypes.items())


def to_brain(x: np.ndarray) -> np.ndarray:
    """float32 as the bits of bfloat16, rounded to nearest even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_brain(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("name", ["f16", "bf16", "tf32"])
def test_matrix_products(name: str, rng: np.random.Generator) -> None:
    """Fragments as PTX orders them: a row-major, b column-major, with pairs of 16-bit elements in a word."""
    k = 16 if name in ("f16", "bf16") else 8
    a, b, c = rng.standard_normal((16, k)), rng.standard_normal((k, 8)), rng.standard_normal((16, 8)).astype(np.float32)
    encode: Any = {"f16": lambda x: x.astype(F2).view(U2), "bf16": to_brain}.get(name, lambda x: x.astype(F4).view(U4))
    decode: Any = {"f16": lambda x: x.view(F2), "bf16": from_brain}.get(name, lambda x: x.view(F4))
    a_bits, b_bits = encode(a), np.ascontiguousarray(encode(b).T)
    words = k * a_bits.itemsize // 4
    text = f"""
      int row = threadIdx.x / 4, column = threadIdx.x % 4;
      uint32 a_part[4] = {{a[row * {words} + column], a[(row + 8) * {words} + column],
                          a[row * {words} + column + 4], a[(row + 8) * {words} + column + 4]}};
      uint32 b_part[2] = {{b[row * {words} + column], b[row * {words} + column + 4]}};
      float* at[4];
      float sum[4];
      for (int i = 0; i < 4; i++) sum[i] = *(at[i] = c + (row + i / 2 * 8) * 8 + column * 2 + i % 2);
      mma_{name}(sum, a_part, b_part);
      for (int i = 0; i < 4; i++) *at[i] = sum[i];"""
    kernel = TextKernel(parameters(a=U4, b=U4, c=F4), text)
    given = {"a": a_bits.view(U4).reshape(16, words), "b": b_bits.view(U4).reshape(8, words), "c": c}
    found = run_kernel(kernel, given)["c"]
    wanted = decode(a_bits).astype(np.float64) @ decode(b_bits).T.astype(np.float64) + c
    relative = {"f16": 1e-6, "bf16": 1e-6, "tf32": 3e-3}[name]
    assert np.abs(found - wanted).max() <= relative * np.abs(wanted).max()


def test_parts_of_floats(rng: np.random.Generator) -> None:
    """A float is the sum of its TF32 number and a rest; two floats become one word of bfloat16."""
    x = np.concatenate([rng.standard_normal(60) * 1e3, [0, -0.0, np.inf, 1 + 2**-8]]).astype(F4)
    text = """
      for (int i = threadIdx.x; i < 64; i += 32) {
        high[i] = x[i];
        split_tf32(high + i, rest + i);
        pairs[i] = pack_bfloat16(x[i], x[63 - i]);
      }"""
    written = tuple(Parameter(name, U4, written=True) for name in ("high", "rest", "pairs"))
    given = {"x": x.view(U4), **{p.name: np.zeros(64, U4) for p in written}}
    found = run_kernel(TextKernel((Parameter("x", U4), *written), text), given)
    assert not (found["high"] & 0x1FFF).any()
    finite = np.isfinite(x)
    np.testing.assert_array_equal((found["high"].view(F4) + found["rest"].view(F4))[finite], x[finite])
    np.testing.assert_array_equal(found["pairs"], to_brain(x) | np.left_shift(to_brain(x[::-1]).astype(U4), 16))


def test_ldmatrix(rng: np.random.Generator) -> None:
    matrices = rng.integers(0, 1 << 16, (4, 8, 8), np.uint16)
    text = """
      SHARED_MEMORY(memory);
      ((uint4*)memory)[threadIdx.x] = ((const uint4*)x)[threadIdx.x];
      __syncthreads();
      uint32 parts[4];
      ldmatrix_x4(parts, memory + 16 * threadIdx.x);
      for (int i = 0; i < 4; i++) y[32 * i + threadIdx.x] = parts[i];"""
    kernel = TextKernel(parameters(x=U2, y=U4), text, bytes_shared=512)
    found = run_kernel(kernel, {"x": matrices, "y": np.zeros((4, 32), U4)})["y"]
    wanted = matrices.reshape(4, 8, 4, 2).astype(U4)
    np.testing.assert_array_equal(found.reshape(4, 8, 4), wanted[..., 0] + 65536 * wanted[..., 1])


def test_shuffles(rng: np.random.Generator) -> None:
    x = rng.standard_normal(64).astype(F4)
    text = "float v = x[threadIdx.x]; y[threadIdx.x] = shuffle_xor(v, 5) * 100 + shuffle_xor((int)threadIdx.x, 16);"
    found = run_kernel(TextKernel(parameters(x=F4, y=F4), text, threads_of_block=64), {"x": x, "y": np.zeros(64, F4)})["y"]
    lanes = np.arange(64)
    wanted = x[lanes ^ 5] * np.float32(100) + (lanes ^ 16).astype(F4)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "name"), [(np.float64, "double"), (np.int64, "int64"), (np.uint64, "uint64")])
def test_shuffles_of_wide_elements(dtype: type, name: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 1 << 52, 64).astype(dtype)
    text = f"{name} v = x[threadIdx.x]; y[threadIdx.x] = shuffle_xor(v, 9);"
    given = parameters(x=np.dtype(dtype), y=np.dtype(dtype))
    found = run_kernel(TextKernel(given, text, threads_of_block=64), {"x": x, "y": np.zeros_like(x)})["y"]
    np.testing.assert_array_equal(found, x[np.arange(64) ^ 9])


def test_narrow_floats() -> None:
    """Every float16 and every bfloat16 survives; ties round to even; what is too large becomes infinite."""
    bits = np.arange(1 << 16, dtype=U2)
    text = """
      for (int i = threadIdx.x; i < 65536; i += 32) {
        y[i] = narrow<float16>(widen(float16{x[i]})).bits;
        z[i] = narrow<bfloat16>(widen(bfloat16{x[i]})).bits;
      }"""
    kernel = TextKernel((*parameters(x=U2, y=U2), Parameter("z", U2, written=True)), text)
    found = run_kernel(kernel, {"x": bits, "y": bits, "z": bits})
    same = np.isnan(bits.view(F2)) | (found["y"] == bits)
    assert same.all() and np.isnan(found["y"][np.isnan(bits.view(F2))].view(F2)).all()
    nan = np.isnan(from_brain(bits))
    assert (nan | (found["z"] == bits)).all() and np.isnan(from_brain(found["z"][nan])).all()


def test_rounding_to_narrow_floats(rng: np.random.Generator) -> None:
    x = np.concatenate([rng.standard_normal(400) * 1e3, [1 + 2**-8, 1 + 3 * 2**-8, 65519.9, 65520, 1e-8, 3e38, -np.inf]]).astype(F4)
    text = f"""
      for (int i = threadIdx.x; i < {x.size}; i += 32) {{
        y[i] = narrow<float16>(x[i]).bits;
        z[i] = narrow<bfloat16>(x[i]).bits;
        t[i] = round_to_tf32(x[i]);
      }}"""
    written = tuple(Parameter(name, dtype, written=True) for name, dtype in (("y", U2), ("z", U2), ("t", F4)))
    given = {"x": x, "y": np.zeros(x.size, U2), "z": np.zeros(x.size, U2), "t": x}
    found = run_kernel(TextKernel((Parameter("x", F4), *written), text), given)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found["y"].view(F2), x.astype(F2))
    np.testing.assert_array_equal(found["z"], to_brain(x))
    finite = np.isfinite(x)
    assert (np.abs(found["t"][finite] - x[finite]) <= np.abs(x[finite]) * 2**-11).all() and not (found["t"].view(U4) & 0x1FFF).any()
