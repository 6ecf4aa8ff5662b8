"""The steps of a Winograd layer: which block of tiles and vectors fills the registers, where V and M lie, in one step or two."""

from __future__ import annotations

import dataclasses as dc
import math
from typing import Any

from ...engine.expression import IDENTITY
from ...engine.ops import Conv
from .conv_winograd import WinogradKernel
from .frequency_product import UNROLL
from .kernel import Address, Argument, Call, Machine, Scratch, Table, grain_for
from .pack import padded_bias
from .product import FLOPS_PER_SECOND, Map

BLOCKS_A_THREAD = 6
"""With so many blocks for each thread, one step does all of a block: its V stays in the cache of the core that made it.

With fewer, threads share the output channels of all blocks, so that they finish together.
"""


@dc.dataclass(frozen=True)
class Work:
    """What is to be multiplied for each frequency."""

    tiles: int
    """Of all images."""
    vectors: int
    """Output vectors."""
    channels: int
    """Those of one phase."""
    phases: int = 1
    """Entries that each block of channels has."""

    def parts(self, lanes: int) -> int:
        """Blocks of channels."""
        return -(-self.channels // lanes)


def register_block(work: Work, registers: int) -> tuple[int, int]:
    """Tiles and output vectors that fill the registers, with few tiles left over."""
    best = (math.inf, 1, 1)
    for vectors in (v for v in range(1, 5) if work.vectors % v == 0):
        for tiles in range(1, min(28, work.tiles) + 1):
            if tiles * vectors + vectors + (1 if vectors > 1 else 2) > registers:
                continue
            step = max(tiles * vectors / 2, (tiles + vectors) / 2, 4) + vectors / tiles
            best = min(best, (-(-work.tiles // tiles) / vectors * step, tiles, vectors))
    return best[1:]


class WinogradSteps:
    """A layer's steps and their memory; `front` bytes of the scratch memory are kept for an input that is made there."""

    def __init__(self, node: Conv, work: Work, kernel: WinogradKernel, machine: Machine, front: int = 0) -> None:
        self.node, self.work, self.kernel, self.machine, self.front = node, work, kernel, machine, front
        self.parts = work.parts(kernel.lanes)
        self.entries = self.parts * work.phases
        self.blocks, self.groups = -(-work.tiles // kernel.tiles), work.vectors // kernel.vectors
        self.v_frequency = 64 * (-(-self.entries * kernel.tiles * kernel.lanes * 4 // 64) | 1)
        self.v_block = kernel.tiling.frequencies * self.v_frequency
        self.is_fused = self.blocks >= BLOCKS_A_THREAD * machine.threads
        self.v_bytes = (machine.threads if self.is_fused else self.blocks) * self.v_block
        self.scratch = Scratch(front + self.v_bytes + machine.threads * kernel.work_bytes, shared=True)

    def calls(self, weight: Table, own: dict[str, Argument]) -> list[Call]:
        """One fused step, or an input step and a product step. weight: (group, frequency, ...); own: what only this kernel takes."""
        arguments = self._numbers() | self._memory() | own
        group = weight.nbytes // weight.shape[0]
        arguments |= {"weight": weight, "weight_frequency": group // weight.shape[1], "weight_group": group}
        kernel, work = self.kernel, self.work
        flops = 2 * kernel.tiling.frequencies * kernel.tiles * work.channels * work.phases * work.vectors * kernel.lanes
        seconds = self.blocks * flops / FLOPS_PER_SECOND
        if self.is_fused:
            return [Call(kernel, arguments, self.blocks, grain_for(self.blocks, seconds, self.machine.threads))]
        silent: Any = {"epilogue": IDENTITY, "extras": ()}
        first = self._half(dc.replace(kernel, mode="input", **silent), arguments, self.blocks * self.parts, 0.1 * seconds)
        return [first, self._half(dc.replace(kernel, mode="product"), arguments, self.blocks * self.groups, seconds)]

    def _half(self, kernel: WinogradKernel, arguments: dict[str, Argument], units: int, seconds: float) -> Call:
        names = {name.rstrip("*") for name in kernel.signature}
        kept = {name: value for name, value in arguments.items() if name in names}
        return Call(kernel, kept, units, grain_for(units, seconds, self.machine.threads))

    def _numbers(self) -> dict[str, Argument]:
        y, lanes = Map.of(self.node.type), self.kernel.lanes
        left_over = self.work.channels - (self.parts - 1) * lanes
        return {
            **{"y": self.node, "y_image": y.image, "y_block": y.block, "bias": padded_bias(self.node.bias, self.node.type.shape[1], lanes)},
            **{"tiles": self.work.tiles, "blocks": self.blocks, "groups": self.groups, "channel_blocks": self.parts},
            **{"entries": self.entries, "entries_full": self.entries - self.work.phases, "channels_last": -(-left_over // UNROLL)},
        }

    def _memory(self) -> dict[str, Argument]:
        """V of every block or, where a step does all of a block, of every thread; then each thread's products."""
        v, work = Address(self.scratch, self.front), Address(self.scratch, self.front + self.v_bytes)
        strides = {"v_block": 0, "v_thread": self.v_block} if self.is_fused else {"v_block": self.v_block, "v_thread": 0}
        return {"v": v, "work": work, "v_frequency": self.v_frequency, "work_thread": self.kernel.work_bytes, **strides}
