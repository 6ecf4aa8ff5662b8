"""Mistakes planted in the text of the tiled product itself: the emulator, or the numbers, tell each of them."""

from __future__ import annotations

import dataclasses as dc

import numpy as np
import pytest
from cpu_harness import expected
from cuda_harness import NodeRun, needs_compiler
from cuda_products import FIRST, SM_90, SUM, Case, kernel_of, node_of, shared_by

from tilewright.backends.cuda.conv_implicit_gemm import ImplicitGemmKernel
from tilewright.backends.cuda.convolution import lower_convolution
from tilewright.backends.cuda.emulator.launch import THOROUGH, KernelFault, Schedule
from tilewright.backends.cuda.gemm_call import with_tile
from tilewright.backends.cuda.kernel import Call, Machine
from tilewright.engine.expression import apply

pytestmark = needs_compiler
CASE = Case(20, 18, (5, 6), (3, 3), batch=2, pad=1, epilogue=apply("relu", SUM) + FIRST, extras=("full",))
"""With tails of positions, of channels and of K, and a border on every side."""
WAIT = "    cp_async_wait<1>();\n    __syncthreads();\n"
BUGS = {
    "no barrier in the main loop": (WAIT, "    cp_async_wait<1>();\n"),
    "waits for one group too few": ("cp_async_wait<1>", "cp_async_wait<2>"),
    "does not commit": ("    cp_async_commit();\n    const", "    const"),
    "reads above the first row": ("(uint32)(x_at0[i] + r0) < 5u", "(x_at0[i] + r0) < 5"),
    "reads below the last row": ("(uint32)(x_at0[i] + r0) < 5u", "(x_at0[i] + r0) >= 0"),
    "reads beside the first column": ("(uint32)(x_at1[i] + r1) < 6u", "(x_at1[i] + r1) < 6"),
    "reads weights behind the last channel": (" && first_column + row < 18", ""),
    "reads behind K": ("k < 180", "k < 999"),
    "stores behind the last position": ("if (m < 60)", "if (m < 999)"),
    "stores behind the last channel": ("if (n < ", "if (n - 4 < "),
    "reads at another place than it copied to": ("left + (", "left + 16 + ("),
    "reads the wrong stage": ("reading = reading + 1 == 3 ? 0", "reading = reading + 1 == 2 ? 0"),
    "no barrier before the ticket": ("  __threadfence();\n  __syncthreads();\n", "  __threadfence();\n"),
    "no barrier behind the ticket": ("arrived + tile, 1u);\n  __syncthreads();\n", "arrived + tile, 1u);\n"),
    "everybody finishes": ("  if (*ticket != 1) return;\n", ""),
    "the counter stays": ("  if (thread == 0) arrived[tile] = 0;\n", ""),
    "sums in the order of arrival": ("(all + (z *", "(all + ((z + blockIdx.z) % 2 *"),
}
DEPTH = {"fp32": "180", "fp16": "216"}
MANY = (*THOROUGH, *(Schedule("random", seed % 2 == 0, seed) for seed in range(14, 100)))
"""Some races need luck."""


@dc.dataclass(frozen=True)
class BrokenKernel(ImplicitGemmKernel):
    """A kernel with one piece of its text replaced."""

    old: str = ""
    new: str = ""

    def body(self) -> str:
        text = super().body()
        assert self.old in text, f"{self.old!r} is not in\n{text}"
        return text.replace(self.old, self.new)


def problems(precision: str, old: str = "", new: str = "", splits: int = 2) -> str:
    """What the first schedule that notices anything says."""
    node, values = node_of(CASE, precision, np.random.default_rng(3))
    machine = Machine(SM_90, precision)
    (whole,) = lower_convolution(node, machine)
    call = with_tile(kernel_of(whole), whole.arguments, dc.replace(shared_by(precision), depth=32, splits=splits))
    fields = {field.name: getattr(call.kernel, field.name) for field in dc.fields(call.kernel)}
    run = NodeRun(node, values, machine, [Call(BrokenKernel(**fields, old=old, new=new), call.arguments)])
    (wanted,) = expected(node, values)
    bits = set[bytes]()
    for schedule in MANY if old else THOROUGH:
        try:
            (found,) = run.run(schedule)
        except (KernelFault, AssertionError) as fault:
            return str(fault) or "assertion"
        bits.add(found.tobytes())
        if not np.abs(found - wanted).max() <= 1e-2 * np.abs(wanted).max():
            return "wrong numbers"
        if len(bits) > 1:
            return "other bits"
    return ""


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_kernel_itself_is_right(precision: str) -> None:
    assert problems(precision) == ""


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.sweep)])
def test_bug_is_caught(bug: str, precision: str) -> None:
    """The sum of two numbers is the same in either order, and float16 hides in which order three are added."""
    old, new = BUGS[bug]
    splits = 3 if bug == "no barrier before the ticket" else 2
    if bug == "sums in the order of arrival":
        if precision == "fp16":
            return
        splits, new = 3, new.replace("% 2", "% 3")
    assert problems(precision, old.replace("180", DEPTH[precision]), new, splits), f"nothing noticed: {bug}"
