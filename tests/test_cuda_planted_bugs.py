"""The emulator notices what it is for: a tiled kernel that is right passes every schedule, and each of these mistakes is caught."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from cuda_harness import TextKernel, check_compiles, needs_compiler, needs_nvrtc, run_kernel

from tilewright.backends.cuda.emulator.launch import THOROUGH, KernelFault, Schedule
from tilewright.backends.cuda.kernel import Parameter

pytestmark = needs_compiler
POSITIONS, CHANNELS, OUTPUTS, TAPS, SPLITS, STAGES, TILES = 45, 64, 16, 3, 2, 3, 3
STEPS = TAPS * CHANNELS // 16 // SPLITS
F4, U4 = np.dtype(np.float32), np.dtype(np.uint32)
PARAMETERS = (
    Parameter("x", F4),
    Parameter("w", F4),
    Parameter("y", F4, written=True),
    Parameter("partial", F4, written=True),
    Parameter("counter", U4, written=True),
)
TEXT = f"""
  // y[m, k] = relu(sum of x[m + r - 1, c] * w[k, r, c]): tiles of 16 positions, 16 channels of one tap a step, the steps split in two
  SHARED_MEMORY(memory);
  const int thread = threadIdx.x, row = thread / 4, chunk = thread % 4;
  const int tile = blockIdx.x / {SPLITS}, split = blockIdx.x % {SPLITS}, m0 = tile * 16;
  auto place = [&](int row, int chunk) {{ return row * 64 + ((chunk ^ row / 2) & 3) * 16; }};
  auto load = [&](int step, int stage) {{
    const int tap = step / {CHANNELS // 16}, c = step % {CHANNELS // 16} * 16 + chunk * 4, m = m0 + row + tap - 1;
    const bool inside = m >= 0 && m < {POSITIONS};
    cp_async16(memory + stage * 2048 + place(row, chunk), x + (inside ? m * {CHANNELS} + c : 0), inside);
    cp_async16(memory + stage * 2048 + 1024 + place(row, chunk), w + (row * {TAPS} + tap) * {CHANNELS} + c, true);
  }};
  for (int s = 0; s < {STAGES - 1}; s++) {{
    load(split * {STEPS} + s, s);
    cp_async_commit();
  }}
  float sum[4] = {{0.f, 0.f, 0.f, 0.f}};
  for (int step = 0; step < {STEPS}; step++) {{
    cp_async_wait<{STAGES - 2}>();
    __syncthreads();
    if (step + {STAGES - 1} < {STEPS}) load(split * {STEPS} + step + {STAGES - 1}, (step + {STAGES - 1}) % {STAGES});
    cp_async_commit();
    const unsigned char* a = memory + step % {STAGES} * 2048;
    UNROLL for (int i = 0; i < 4; i++) {{
      const float4 right = *(const float4*)(a + 1024 + place(thread % 16, i));
      UNROLL for (int j = 0; j < 4; j++) {{
        const float4 left = *(const float4*)(a + place(thread / 16 * 4 + j, i));
        sum[j] += left.x * right.x + left.y * right.y + left.z * right.z + left.w * right.w;
      }}
    }}
  }}
  UNROLL for (int j = 0; j < 4; j++) {{
    const int m = m0 + thread / 16 * 4 + j, k = thread % 16;
    if (m < {POSITIONS}) partial[(split * {POSITIONS} + m) * {OUTPUTS} + k] = sum[j];
  }}
  __threadfence();
  __syncthreads();
  uint32* flag = (uint32*)(memory + {(STEPS - 1) % STAGES} * 2048 + 1024);  // where the last step's weights are
  if (thread == 0) {{
    *flag = atomicAdd(counter + tile, 1u);
    if (*flag == {SPLITS - 1}) counter[tile] = 0;
  }}
  __syncthreads();
  if (*flag != {SPLITS - 1}) return;
  UNROLL for (int j = 0; j < 4; j++) {{
    const int m = m0 + thread / 16 * 4 + j, k = thread % 16;
    if (m >= {POSITIONS}) continue;
    float total = 0.f;
    for (int s = 0; s < {SPLITS}; s++) total += load_shared_by_blocks(partial + (s * {POSITIONS} + m) * {OUTPUTS} + k);
    y[m * {OUTPUTS} + k] = maximum(total, 0.f);
  }}
"""
WAIT = f"    cp_async_wait<{STAGES - 2}>();\n    __syncthreads();\n"
PREFETCH = f"    if (step + {STAGES - 1} < {STEPS}) load(split * {STEPS} + step + {STAGES - 1}, (step + {STAGES - 1}) % {STAGES});\n"
COMMIT_WHERE_LOADED = PREFETCH.replace("load(", "{ load(").replace(";\n", "; cp_async_commit(); }\n")
BUGS = {
    "no barrier in the main loop": (WAIT, WAIT.replace("    __syncthreads();\n", "")),
    "prefetch before the barrier": (WAIT + PREFETCH, WAIT.replace("    __sync", PREFETCH + "    __sync")),
    "waits for one group too few": (f"wait<{STAGES - 2}>", f"wait<{STAGES - 1}>"),
    "does not wait for copies": (f"    cp_async_wait<{STAGES - 2}>();\n", ""),
    "commits only where it loads": (PREFETCH + "    cp_async_commit();\n", COMMIT_WHERE_LOADED),
    "too few buffers": (f"step % {STAGES} * 2048", f"step % {STAGES - 1} * 2048"),
    "no barrier before the flag reuses shared memory": ("  __threadfence();\n  __syncthreads();\n", "  __threadfence();\n"),
    "flag is read without a barrier": ("  }\n  __syncthreads();\n  if (*flag", "  }\n  if (*flag"),
    "counter is left behind": (f"    if (*flag == {SPLITS - 1}) counter[tile] = 0;\n", ""),
    "does not look at the flag": (f"  if (*flag != {SPLITS - 1}) return;\n", ""),
    "reads in front of the input": ("m >= 0 && m <", "m <"),
    "reads behind the input": (f"m >= 0 && m < {POSITIONS}", "m >= 0"),
    "writes behind the result": (f"    if (m >= {POSITIONS}) continue;\n", ""),
    "writes behind its partial sums": (f"    if (m < {POSITIONS}) partial", "    partial"),
    "idle threads end early": ("  float sum[4]", f"  if (m0 + row >= {POSITIONS}) return;\n  float sum[4]"),
    "barriers in two branches": ("    __syncthreads();\n", "    if (row < 8) __syncthreads();\n    else\n      __syncthreads();\n"),
    "barrier in one branch": ("    __syncthreads();\n", "    if (row < 8) __syncthreads();\n"),
    "another swizzle where it reads": ("a + place(thread / 16 * 4 + j, i)", "a + place(thread / 16 * 4 + j, i ^ (j == 3))"),
    "misaligned vector in shared memory": ("(a + 1024 + place(thread % 16, i))", "(a + 1028 + place(thread % 16, i))"),
    "misaligned asynchronous copy": ("m * 64 + c : 0", "m * 64 + c + 1 : 0"),
    "uninitialised shared memory": ("1024 + place(row, chunk), w", "1024 + place(row & 7, chunk), w"),
    "copy to behind shared memory": ("load(split * 6 + s, s)", "load(split * 6 + s, s + 2)"),
    "sums in the order of arrival": (
        f"for (int s = 0; s < {SPLITS}; s++) total += load_shared_by_blocks(partial + (s * ",
        f"for (int s = 0; s < {SPLITS}; s++) total = total * 1.0000005f + load_shared_by_blocks(partial + ((s + split) % {SPLITS} * ",
    ),
}  # fmt: skip


def kernel(text: str = TEXT) -> TextKernel:
    return TextKernel(PARAMETERS, text, threads_of_block=64, blocks=TILES * SPLITS, bytes_shared=STAGES * 2048)


@functools.cache
def given() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, w, and y in float64."""
    rng = np.random.default_rng(7)
    x, w = (rng.standard_normal(shape).astype(F4) for shape in ((POSITIONS, CHANNELS), (OUTPUTS, TAPS, CHANNELS)))
    padded = np.pad(x.astype(np.float64), ((1, 1), (0, 0)))
    y = sum(padded[r : r + POSITIONS] @ w[:, r].T.astype(np.float64) for r in range(TAPS))
    return x, w, np.maximum(y, 0)


def run(text: str, schedule: Schedule) -> tuple[bytes, str]:
    """(the bits of the result, what is wrong with it)."""
    x, w, wanted = given()
    garbage = np.full((POSITIONS, OUTPUTS), np.nan, F4)
    arrays = {"x": x, "w": w, "y": garbage, "partial": np.stack([garbage] * SPLITS), "counter": np.zeros(TILES, U4)}
    try:
        found = run_kernel(kernel(text), arrays, schedule)
    except KernelFault as fault:
        return b"", str(fault)
    wrong = not np.abs(found["y"] - wanted).max() < 1e-4
    left = "the counter is not zero" if found["counter"].any() else ""
    return found["y"].tobytes(), "wrong numbers" if wrong else left


def test_the_kernel_is_right_in_every_schedule() -> None:
    outcomes = {run(TEXT, schedule) for schedule in THOROUGH}
    assert len(outcomes) == 1 and outcomes.pop()[1] == ""


@needs_nvrtc
def test_the_kernel_compiles_for_every_architecture() -> None:
    check_compiles(kernel())


@pytest.mark.parametrize("bug", BUGS)
def test_bug_is_caught(bug: str) -> None:
    old, new = BUGS[bug]
    assert old in TEXT
    broken = TEXT.replace(old, new)
    bits = set[bytes]()
    for schedule in THOROUGH:
        found, problem = run(broken, schedule)
        bits.add(found)
        if problem or len(bits) > 1:
            return
    pytest.fail(f"nothing noticed: {bug}")
