"""Convolutions as Winograd steps: which layers, with which tiles, in one step or two."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...engine.graph import Blocked
from ...engine.ops import Conv
from ..common.geometry import phases
from ..common.winograd import Tiling, WinogradProblem, choose, transformed_weight
from .conv_winograd import UNROLL, WinogradKernel
from .kernel import Address, Argument, Call, Machine, NoKernel, Scratch, Table, grain_for, lowers
from .pack import padded_bias
from .product import F4, FLOPS_PER_SECOND, Map, constant_weight, epilogue_operands

SHARED_BYTES = 8 << 20
"""Transformed inputs up to this size are computed by a step of their own, so that threads can share output channels."""


@lowers(Conv)
def lower_winograd(node: Conv, machine: Machine) -> list[Call]:
    """NoKernel where the direct algorithm is at least as fast, or the accuracy that was asked for forbids it."""
    weight = constant_weight(node, node.weight, node.bias, machine)
    blocked = Blocked(1, machine.target.lanes(F4))
    simple = node.groups == 1 and len(node.kernel) <= 2 and set(node.dilations) == {1}
    if not simple or node.x.type.layout != blocked or node.type.layout != blocked:
        raise NoKernel("Winograd needs a convolution over one or two axes without groups and dilation")
    tiling = choose(_problem(node, machine), machine.accuracy)
    if tiling is None:
        raise NoKernel("the direct algorithm is faster, or asked for")
    return _Plan(node, weight, tiling, machine).calls()


def _problem(node: Conv, machine: Machine) -> WinogradProblem:
    [axes] = phases(node)
    positions = math.prod(sum(len(axis.valid_taps(j)) for j in range(axis.count)) for axis in axes)
    channels, lanes = node.x.type.shape[1], machine.target.lanes(F4)
    padded = -(-node.type.shape[1] // lanes) * lanes
    height, width = in_plane(node.type.shape[2:])
    taps, steps = in_plane(node.kernel), in_plane(node.strides)
    return WinogradProblem(channels, padded, height, width, lanes, positions * channels * padded, taps, steps)


def in_plane(sizes: Sequence[int], absent: int = 1) -> tuple[int, int]:
    """The sizes along rows and columns; a single axis is that of the columns."""
    *rows, columns = sizes
    return (rows[0] if rows else absent), columns


class _Plan:
    """The numbers of one layer."""

    def __init__(self, node: Conv, weight: np.ndarray, tiling: Tiling, machine: Machine) -> None:
        self.node, self.weight, self.tiling, self.machine = node, weight, tiling, machine
        self.lanes = machine.target.lanes(F4)
        self.images, outputs = node.type.shape[:2]
        self.height, self.width = in_plane(node.type.shape[2:])
        self.down, self.across = -(-self.height // tiling.m[0]), -(-self.width // tiling.m[1])
        self.total = self.images * self.across * self.down
        self.vectors_all = -(-outputs // self.lanes)
        self.channel_blocks = -(-node.x.type.shape[1] // self.lanes)
        self.tiles, self.vectors = self._block()
        self.blocks, self.groups = -(-self.total // self.tiles), self.vectors_all // self.vectors

    @property
    def entries(self) -> int:
        """Channel blocks of all phases."""
        return self.channel_blocks * self.tiling.phases

    def _block(self) -> tuple[int, int]:
        """Tiles and output vectors that fill the registers, with few tiles left over."""
        registers, best = self.machine.target.registers, (math.inf, 1, 1)
        for vectors in (v for v in range(1, 5) if self.vectors_all % v == 0):
            for tiles in range(1, min(28, self.total) + 1):
                if tiles * vectors + vectors + (1 if vectors > 1 else 2) > registers:
                    continue
                step = max(tiles * vectors / 2, (tiles + vectors) / 2, 4) + vectors / tiles
                best = min(best, (-(-self.total // tiles) / vectors * step, tiles, vectors))
        return best[1:]

    def packed_weight(self) -> np.ndarray:
        """(group, frequency, channel block, phase, channel of the block, k of the group)."""
        outputs, channels = self.weight.shape[:2]
        width, phases = self.vectors * self.lanes, self.tiling.phases
        padded = np.zeros((self.vectors_all * self.lanes, *self.weight.shape[1:2], *in_plane(self.weight.shape[2:])), np.float32)
        padded[:outputs] = self.weight.reshape(outputs, *padded.shape[1:])
        shape = (self.groups, self.tiling.frequencies, self.channel_blocks, phases, self.lanes, width)
        packed = np.zeros(shape, np.float32)
        by_channel = packed.transpose(1, 2, 4, 3, 0, 5)
        whole, rest = divmod(channels, self.lanes)
        for frequencies, part in transformed_weight(padded, self.tiling):
            split = part.reshape(len(part), channels, phases, self.groups, width)
            full = split[:, : whole * self.lanes]
            by_channel[frequencies, :whole] = full.reshape(len(part), whole, self.lanes, *split.shape[2:])
            if rest:
                by_channel[frequencies, whole, :rest] = split[:, whole * self.lanes :]
        return packed

    def calls(self) -> list[Call]:
        """One fused step, or an input step and a product step."""
        pixel = self.lanes * 4
        v_frequency = 64 * (-(-self.entries * self.tiles * pixel // 64) | 1)
        v_block = self.tiling.frequencies * v_frequency
        epilogue, kinds, extras = epilogue_operands(self.node, self.node.extras, self.node.epilogue, self.lanes)
        kernel = WinogradKernel(self.lanes, self.tiling, self.tiles, self.vectors, "fused", epilogue, kinds)
        arguments = self._arguments() | extras | {"v_frequency": v_frequency, "work_thread": kernel.work_bytes}
        channels = self.node.x.type.shape[1] * self.tiling.phases
        flops = 2 * self.tiling.frequencies * self.tiles * channels * self.vectors_all * self.lanes
        seconds = flops / FLOPS_PER_SECOND
        if self.blocks * v_block > SHARED_BYTES:
            scratch = Scratch(v_block + kernel.work_bytes)
            fused = arguments | {"v": scratch, "work": scratch_part(scratch, v_block), "v_block": 0}
            fused |= {"v_thread": scratch.nbytes, "work_thread": scratch.nbytes}
            return [Call(kernel, fused, self.blocks, grain_for(self.blocks, self.blocks * seconds, self.machine.threads))]
        shared = Scratch(self.blocks * v_block + self.machine.threads * kernel.work_bytes, shared=True)
        two = arguments | {"v": shared, "work": scratch_part(shared, self.blocks * v_block), "v_block": v_block, "v_thread": 0}
        return [self._half("input", kernel, two, seconds), self._half("product", kernel, two, seconds)]

    def _half(self, mode: str, kernel: WinogradKernel, arguments: dict[str, Argument], seconds: float) -> Call:
        is_input = mode == "input"
        units = self.blocks * (self.channel_blocks if is_input else self.groups)
        work = self.blocks * seconds * (0.1 if is_input else 1)
        part: Any = dc.replace(kernel, mode=mode, **({"epilogue": WinogradKernel.epilogue, "extras": ()} if is_input else {}))
        kept = {name: value for name, value in arguments.items() if name in {n.rstrip("*") for n in part.signature}}
        return Call(part, kept, units, grain_for(units, work, self.machine.threads))

    def _arguments(self) -> dict[str, Argument]:
        x, y, node = Map.of(self.node.x.type), Map.of(self.node.type), self.node
        packed = self.packed_weight()
        (height, width), (top, left) = in_plane(node.x.type.shape[2:]), in_plane([before for before, _ in node.pads], 0)
        left_over = node.x.type.shape[1] - (self.channel_blocks - 1) * self.lanes
        return {
            **{"x": node.x, "y": node, "weight": Table(packed), "bias": padded_bias(node.bias, node.type.shape[1], self.lanes)},
            **{"height": height, "width": width, "out_height": self.height, "out_width": self.width},
            **{"pad_top": top, "pad_left": left, "tiles": self.total},
            **{"tiles_across": self.across, "tiles_image": self.across * self.down},
            **{"x_image": x.image, "x_block": x.block, "y_image": y.image, "y_block": y.block},
            **{"channel_blocks": self.channel_blocks, "entries": self.entries, "entries_full": self.entries - self.tiling.phases},
            **{"channels_last": -(-left_over // UNROLL), "groups": self.groups, "blocks": self.blocks},
            **{"weight_frequency": packed[0][0].nbytes, "weight_group": packed[0].nbytes},
        }


def scratch_part(scratch: Scratch, offset: int) -> Argument:
    """The scratch memory from `offset` on."""
    return Address(scratch, offset)
