"""Kernels as machine code: every architecture, what a cubin says of itself, the cache, and errors in clear words."""

from __future__ import annotations

import dataclasses as dc
import pathlib
import sys

import numpy as np
import pytest
from cuda_harness import TextKernel, check_compiles, needs_nvrtc

from tilewright.backends.cuda import cubin, nvrtc
from tilewright.backends.cuda.architecture import ARCHITECTURES, architecture
from tilewright.backends.cuda.cubin import compile_kernel, compile_kernels
from tilewright.backends.cuda.kernel import Parameter
from tilewright.engine.errors import CompilerBug, MachineError, ModelError
from tilewright.engine.knobs import knobs

F4 = np.dtype(np.float32)
X, Y = Parameter("x", F4), Parameter("y", F4, written=True)
COPY = TextKernel((X, Y), "y[threadIdx.x] = x[threadIdx.x];")
ALL_WRAPPERS = """
  SHARED_MEMORY(memory);
  float c[4] = {0, 0, 0, 0};
  uint32 a[4], b[4];
  cp_async16(memory + 16 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x < 20);
  cp_async4(memory + 512 + 4 * threadIdx.x, x + threadIdx.x, true);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  ldmatrix_x4(a, memory + 16 * threadIdx.x);
  ldmatrix_x4(b, memory + 16 * threadIdx.x);
  mma_f16(c, a, b);
  float v = round_to_tf32(c[0]) + widen(narrow<float16>(c[1])) + widen(narrow<bfloat16>(c[2]));
  v += widen(narrow_to_float16(1.5)) + shuffle_xor(v, 1) + shuffle_xor((int)threadIdx.x, 2);
  __threadfence();
  v += load_shared_by_blocks(x) + load_shared_by_blocks((const float4*)x).w;
  __syncwarp();
  y[threadIdx.x] = v;
"""
TENSOR_WRAPPERS = """
  float c[4] = {0, 0, 0, 0};
  uint32 a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
  mma_tf32(c, a, b);
  mma_bf16(c, a, b);
  UNROLL_BY(2) for (int i = 0; i < 4; i++) split_tf32(a + i, b);
  a[0] = pack_bfloat16(a[1], b[1]);
  mma_bf16(c, a, b);
  y[threadIdx.x] = c[0] + x[0];
"""


@needs_nvrtc
def test_every_wrapper_compiles_for_every_architecture() -> None:
    check_compiles(TextKernel((X, Y), ALL_WRAPPERS, bytes_shared=1024))
    check_compiles(TextKernel((X, Y), TENSOR_WRAPPERS), [a for a in ARCHITECTURES.values() if a.supports("bf16")])


@needs_nvrtc
def test_the_compiler_knows_every_architecture() -> None:
    assert set(ARCHITECTURES) <= nvrtc.nvrtc().architectures


@needs_nvrtc
def test_resources_are_read_from_the_cubin() -> None:
    values = "\n".join(f"float a{i} = x[threadIdx.x + 32 * {i}];" for i in range(60))
    later = "__syncthreads();\n" + "\n".join(f"y[threadIdx.x + 32 * {i}] = a{i} * a{(i * 7 + 3) % 60};" for i in range(60))
    small, large = (compile_kernel(TextKernel((X, Y), text), ARCHITECTURES["sm_90"]) for text in (COPY.text, values + later))
    assert 4 <= small.resources.registers < 32 and large.resources.registers > 60
    assert small.resources.stack == 0 and not small.excess()
    local = "float a[99]; for (int i = 0; i < 999; i++) a[(int)x[i]] = x[i + 99]; y[0] = a[(int)x[threadIdx.x]];"
    stacked = compile_kernel(TextKernel((X, Y), local), ARCHITECTURES["sm_90"])
    assert stacked.resources.stack >= 256 and "B of stack" in stacked.excess()
    assert "of shared memory" in compile_kernel(TextKernel((X, Y), COPY.text, bytes_shared=70000), ARCHITECTURES["sm_75"]).excess()


@needs_nvrtc
def test_spills_are_counted() -> None:
    kept = "".join(f"float a{i} = x[threadIdx.x + 1024 * {i}];" for i in range(90))
    mixed = "".join(f"a{i} = a{i} * x[t] + a{(i + 1) % 90};" for i in range(90))
    given = "".join(f"y[threadIdx.x + 1024 * {i}] = a{i};" for i in range(90))
    text = f"{kept} for (int t = 0; t < 1000; t++) {{ {mixed} }} {given}"
    spilling = compile_kernel(TextKernel((X, Y), text, threads_of_block=1024), ARCHITECTURES["sm_90"])
    assert spilling.resources.spills > 0 and "spilled" in spilling.excess()


@needs_nvrtc
def test_a_cubin_is_compiled_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with knobs(cache_dir=str(tmp_path)):
        first = compile_kernel(COPY, ARCHITECTURES["sm_90"])
        with monkeypatch.context() as patched:
            patched.setattr(nvrtc.Nvrtc, "compile", None)
            assert compile_kernel(COPY, ARCHITECTURES["sm_90"]) == first
            assert compile_kernel(COPY, dc.replace(ARCHITECTURES["sm_90"], multiprocessors=7)).code == first.code
        other = compile_kernel(COPY, ARCHITECTURES["sm_80"])
        assert other.code != first.code and len(list(tmp_path.glob("*.o"))) == 2
        for file in tmp_path.glob("*.o"):
            file.write_bytes(file.read_bytes()[:-1] + b"?")
        assert compile_kernel(COPY, ARCHITECTURES["sm_90"]).code == first.code


@needs_nvrtc
def test_kernels_compiled_at_the_same_time_are_the_same() -> None:
    kernels = [TextKernel((X, Y), f"y[threadIdx.x] = expf(x[threadIdx.x] + {n});") for n in range(12)]
    with knobs(cache_dir="off"):
        together = compile_kernels(kernels, ARCHITECTURES["sm_90"])
        assert together == [compile_kernel(kernel, ARCHITECTURES["sm_90"]) for kernel in kernels]
    assert len({one.code for one in together}) == 12


@needs_nvrtc
def test_one_that_does_not_compile_keeps_no_other_from_it(tmp_path: pathlib.Path) -> None:
    good = [TextKernel((X, Y), f"y[0] = {n};") for n in range(5)]
    with knobs(cache_dir=str(tmp_path)), pytest.raises(CompilerBug):
        compile_kernels([TextKernel((X, Y), "nonsense;"), *good], ARCHITECTURES["sm_90"])
    assert len(list(tmp_path.glob("*.o"))) == len(good)


@needs_nvrtc
def test_text_that_does_not_compile_is_our_bug() -> None:
    with pytest.raises(CompilerBug, match=r"(?s)does not compile for sm_90.*kernel\(\d\).*nonsense"):
        compile_kernel(TextKernel((X, Y), "y[0] = nonsense;"), ARCHITECTURES["sm_90"])


def test_without_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(nvrtc, "SYSTEM_NAMES", ("libnvrtc-that-is-not-there.so",))
    monkeypatch.setattr(nvrtc, "_toolkits", list)
    with pytest.raises(MachineError, match=r'pip install "tilewright\[cuda13\]"'):
        nvrtc.nvrtc.__wrapped__()


def test_a_compiler_that_is_newer_than_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = ["libnvrtc.so.13", "libnvrtc.so.12"]
    monkeypatch.setattr(nvrtc, "_wheels", lambda: wheels)
    monkeypatch.setattr(nvrtc, "_toolkits", list)
    monkeypatch.setattr(nvrtc, "SYSTEM_NAMES", ())
    monkeypatch.setattr(nvrtc, "_load", lambda path: path)
    monkeypatch.setattr(nvrtc.Nvrtc, "version", property(lambda self: f"{self._library[-2:]}.4"))
    choose = nvrtc.nvrtc.__wrapped__
    assert [choose(driver).version for driver in (None, 13, 12, 14)] == ["13.4", "13.4", "12.4", "13.4"]
    with pytest.raises(MachineError, match=r"NVRTC 13\.4 makes .* CUDA 11, does not run: take a newer driver"):
        choose(11)
    wheels.pop()
    with pytest.raises(MachineError, match=r'NVRTC 13\.4 .* pip install "tilewright\[cuda12\]", or take a newer driver'):
        choose(12)


def test_architectures() -> None:
    assert architecture("sm_90").shared_per_block == 232448 and architecture("sm_75").shared == 65536
    assert not architecture("sm_75").supports("tf32") and architecture("sm_75").supports("fp16") and architecture("sm_86").supports("bf16")
    assert architecture("sm_86").resident(128, 64, 48 * 1024) == 2 and architecture("sm_86").resident(128, 64, 50 * 1024) == 1
    assert architecture("sm_75").resident(512, 32, 0) == 2 and architecture("sm_75").resident(128, 168, 8 * 1024) == 3
    small = dc.replace(architecture("sm_90"), multiprocessors=7)
    assert small.name == "sm_90" and len({architecture("sm_90"), small, dc.replace(small)}) == 2
    assert architecture("sm_80").registers_for(1024) == 64 and architecture("sm_80").registers_for(128) == 255
    with pytest.raises(ModelError, match="sm_75, sm_80"):
        architecture("sm_60")


def test_sections_of_no_cubin() -> None:
    with pytest.raises(Exception, match="unpack"):
        cubin.sections(b"\x7fELF")
