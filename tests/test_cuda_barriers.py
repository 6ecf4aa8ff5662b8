"""Every barrier of the kernels in which threads work together is needed, and the emulator notices when one is missing."""

from __future__ import annotations

import dataclasses as dc

import numpy as np
import pytest
from cuda_cases import calls_of, channels_last, given
from cuda_harness import NodeRun, needs_compiler

from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.emulator.launch import BASIC
from tilewright.backends.cuda.kernel import Call, Extent, Kernel, Machine, Parameter
from tilewright.engine.graph import Node
from tilewright.engine.ops import ArgReduce, CumSum, Reduce, Reorder, Softmax

pytestmark = needs_compiler
F4 = np.float32
BARRIER = "__syncthreads();"
SHAPES = {"tiles": (2, 40, 5, 9), "sums": (1, 40, 6, 7), "positions": (2, 3, 3000), "running sums": (3, 70, 5), "softmax": (1, 900, 5)}


@dc.dataclass(frozen=True)
class WithoutBarrier(Kernel):
    """A kernel without its barrier of this number."""

    whole: Kernel
    number: int

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self.whole.parameters

    @property
    def grid(self) -> Extent:
        return self.whole.grid

    @property
    def block(self) -> Extent:
        return self.whole.block

    @property
    def shared(self) -> int:
        return self.whole.shared

    def body(self) -> str:
        parts = self.whole.body().split(BARRIER)
        return BARRIER.join(parts[: self.number + 1]) + BARRIER.join(parts[self.number + 1 :])


def case(name: str) -> tuple[Node, dict[Node, np.ndarray]]:
    x, values = given(SHAPES[name])
    match name:
        case "tiles":
            return Reorder(x, layout=channels_last(F4, 40)), values
        case "sums":
            return Reduce(x, kind="sum", axes=(1,)), values
        case "positions":
            return ArgReduce(x, kind="max", axis=2), values
        case "running sums":
            return CumSum(x, axis=1), values
    return Softmax(x, axis=1), values


def is_noticed(run: NodeRun, right: bytes) -> bool:
    """Whether a schedule gives something else, or an error."""
    try:
        return any(run.run(schedule)[0].tobytes() != right for schedule in BASIC)
    except AssertionError:
        return True


@pytest.mark.parametrize("name", SHAPES)
def test_no_barrier_can_go(name: str) -> None:
    node, values = case(name)
    (call,) = calls_of(node)
    machine = Machine(ARCHITECTURES["sm_90"])
    barriers = call.kernel.body().count(BARRIER)
    right = NodeRun(node, values, machine).run(BASIC[0])[0].tobytes()
    assert barriers >= 1
    for number in range(barriers):
        broken = NodeRun(node, values, machine, [Call(WithoutBarrier(call.kernel, number), call.arguments)])
        assert is_noticed(broken, right), f"nobody misses barrier {number} of {barriers}"
