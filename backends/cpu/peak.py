"""The arithmetic ceiling of this machine: multiply-adds a second on registers alone, by the same threads that run models."""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar

import numpy as np

from . import codegen
from .arena import Arena
from .emit import Emitter
from .kernel import Kernel, Machine
from .program import Program, ProgramStep

CHAINS = 12
"""Independent multiply-adds in flight: enough for two pipes of latency four, and few enough for 16 registers."""
STEPS = 2000
"""Links of each chain in one unit of work."""


@dc.dataclass(frozen=True)
class PeakKernel(Kernel):
    """One unit does CHAINS * STEPS vector multiply-adds on registers."""

    parameters: ClassVar[tuple[str, ...]] = ("y*",)
    dtype: str = "float32"

    def write(self, k: Emitter) -> None:
        kind = k.vector(np.dtype(self.dtype))
        y = k.pointer("y")
        factor = k.load(y, kind)
        with k.units():
            chains = [k.load(y, kind, 64 * i) for i in range(CHAINS)]
            with k.loop(0, STEPS, carried=chains, nonempty=True) as loop:
                loop.carry([k.fma(factor, value, value) for value in loop.values])
            for i, value in enumerate(loop.results):
                k.store(value, k.at(y, k.mul(k.thread, 64 * CHAINS)), 64 * i)


class Peak:
    """`measure()` gives operations a second; made once, measured as often as there is something to compare with."""

    def __init__(self, machine: Machine) -> None:
        kernel = PeakKernel()
        address = codegen.load([kernel], machine.target)[kernel.symbol]
        self._memory = Arena(64 * CHAINS * (machine.threads + 1))
        self.units = 40 * machine.threads
        self.flops = 2 * CHAINS * STEPS * self.units * machine.target.lanes(np.dtype(np.float32))
        self._program = Program([ProgramStep(address, (0, 0), self.units, 5)], machine.threads)

    def measure(self) -> float:
        """Multiply-adds count two operations; the best of three runs of about a millisecond, as threads have to wake up first."""
        return self.flops / min(seconds for _ in range(3) for seconds in self._program.time_steps([self._memory.address]))
