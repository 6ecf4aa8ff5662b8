"""Convolutions for the tests of tiled products: cases, nodes of random numbers, and their check in the emulator."""

from __future__ import annotations

import dataclasses as dc
import math
from typing import Any

import numpy as np
import pytest
from cpu_harness import assert_close, expected, operand
from cuda_harness import NodeRun

from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.conv_implicit_gemm import ImplicitGemmKernel
from tilewright.backends.cuda.convolution import lower_convolution
from tilewright.backends.cuda.emulator.launch import BASIC, Schedule
from tilewright.backends.cuda.gemm_call import with_tile
from tilewright.backends.cuda.kernel import Call, Machine
from tilewright.backends.cuda.schedule import GemmProblem, Tile, fitting
from tilewright.engine.expression import Expression, Operand, apply
from tilewright.engine.graph import Constant, Node
from tilewright.engine.ops import Conv, ConvTranspose
from tilewright.engine.tensor import Blocked

F2, F4 = np.dtype(np.float16), np.dtype(np.float32)
SM_90 = ARCHITECTURES["sm_90"]
TOLERANCE = {"fp32": 1e-5, "tf32x3": 1e-5, "tf32": 3e-3, "fp16": 1e-2, "bf16": 1e-2}
"""Of the largest result."""
SUM, FIRST, SECOND = Operand(0), Operand(1), Operand(2)
RELU = apply("relu", SUM)


@dc.dataclass(frozen=True)
class Case:
    """A convolution."""

    channels: int
    outputs: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    batch: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1
    epilogue: Expression = SUM
    extras: tuple[str, ...] = ()
    bias: bool = True
    transposed: bool = False
    more: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        marks = [f"{'t' if self.transposed else ''}{self.batch}x{self.channels}x{'x'.join(map(str, self.size))}", f"k{self.outputs}"]
        marks += ["x".join(map(str, self.kernel)), f"s{self.stride}p{self.pad}d{self.dilation}g{self.groups}", *self.extras]
        return "-".join(marks) + ("-" + "-".join(f"{n}{v}" for n, v in self.more) if self.more else "")


PRECISIONS = tuple(TOLERANCE)


def shared_by(precision: str) -> Tile:
    """A small tile of each kind."""
    return Tile(32, 32, {"fp32": 32, "fp16": 64}.get(precision, 32), 3, (8, 8) if precision == "fp32" else (2, 1))


def node_of(case: Case, precision: str, rng: np.random.Generator) -> tuple[Conv | ConvTranspose, dict[Node, np.ndarray]]:
    """The node over channels-last operands, and random values of these."""
    dtype = F2 if precision == "fp16" else F4
    unit = 16 // dtype.itemsize

    def last(array: np.ndarray) -> tuple[Node, np.ndarray]:
        return operand("x", array, Blocked(1, -(-array.shape[1] // unit) * unit)), array

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    x, value = last(random(case.batch, case.channels, *case.size))
    first, second = (case.channels, case.outputs) if case.transposed else (case.outputs, case.channels)
    weight = random(first, second // case.groups, *case.kernel)
    weight = (weight / math.sqrt(weight.size / case.outputs)).astype(dtype)
    spatial = len(case.size)
    given = {
        "strides": (case.stride,) * spatial, "pads": ((case.pad, case.pad),) * spatial, "dilations": (case.dilation,) * spatial,
        "groups": case.groups, **dict(case.more),
    }  # fmt: skip
    kind = ConvTranspose if case.transposed else Conv
    bias = Constant(data=random(case.outputs)) if case.bias else None
    shape = kind(x, Constant(data=weight), **given).type.shape
    values = {x: value}
    extras = []
    for name in case.extras:
        of = {"full": shape, "channel": (shape[0], shape[1], *[1] * spatial), "one": (1,), "pixel": (shape[0], 1, *shape[2:])}[name]
        extra, array = (operand("e", random(1)), random(1)) if name == "one" else last(random(*of))
        if name == "pixel":
            extra = operand("e", array)
        values[extra] = array
        extras.append(extra)
    layout = Blocked(1, -(-shape[1] // unit) * unit)
    node = kind(x, Constant(data=weight), bias, tuple(extras), epilogue=case.epilogue, layout=layout, **given)
    return node, values


def check(case: Case, precision: str, tile: Tile | None = None, schedules: tuple[Schedule, ...] = BASIC) -> list[Call]:
    """Assert that the kernels give what NumPy gives in float64, and the same bits in every schedule."""
    node, values = node_of(case, precision, np.random.default_rng(7))
    machine = Machine(SM_90, precision)
    calls = lower_convolution(node, machine)
    if tile is not None:
        calls = [with_tile(kernel_of(call), call.arguments, tile) for call in calls]
    run = NodeRun(node, values, machine, calls)
    (wanted,) = expected(node, values)
    found = [run.run(schedule)[0] for schedule in schedules]
    assert_close(found[0], wanted, 0, TOLERANCE[precision] * float(np.abs(wanted).max()), str(case))
    for schedule, other in zip(schedules, found, strict=True):
        assert other.tobytes() == found[0].tobytes(), f"{case}: {schedule} gives other bits than {schedules[0]}"
    return run.calls


def kernel_of(call: Call) -> ImplicitGemmKernel:
    assert isinstance(call.kernel, ImplicitGemmKernel)
    return call.kernel


def sampled(cases: list[Any], every: int) -> list[Any]:
    """All cases, of which CI runs a part."""
    return [
        pytest.param(*case, marks=[] if i % every == 0 else pytest.mark.sweep, id="-".join(map(str, case))) for i, case in enumerate(cases)
    ]


def candidate_tiles() -> list[tuple[str, Tile]]:
    problem = {p: GemmProblem(p, 1000, 1000, 1000) for p in PRECISIONS}
    return [(p, t) for p in PRECISIONS for t in fitting(problem[p], SM_90) if t.splits == 1]
