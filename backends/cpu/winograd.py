"""Convolutions as Winograd steps: which layers, with which tiles, in one step or two."""

from __future__ import annotations

import dataclasses as dc
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...engine.expression import IDENTITY
from ...engine.graph import Blocked
from ...engine.ops import Conv
from ..common.geometry import phases
from ..common.problem import ConvProblem
from ..common.winograd import Tiling, WinogradProblem, choose, transformed_weight, worth_measuring
from .conv_winograd import WinogradKernel
from .frequency_product import UNROLL
from .kernel import Address, Argument, Call, Machine, NoKernel, Scratch, Table, grain_for, lowers
from .pack import padded_bias
from .product import F4, FLOPS_PER_SECOND, Map, constant_weight, epilogue_operands
from .space_to_depth import fold_taps, folded_size, space_to_depth

SHARED_BYTES = 8 << 20
"""Transformed inputs up to this size are computed by a step of their own, so that threads can share output channels."""
TILINGS_TO_MEASURE = 4


@dc.dataclass(frozen=True)
class _Layer:
    """A convolution over a blocked value, which is the node's operand or made from it by folding the strides into channels."""

    weight: np.ndarray
    """(k, c, taps, taps)."""
    size: tuple[int, int]
    pads: tuple[int, int]
    """Rows and columns of zeros before the input."""
    strides: tuple[int, int]
    dilations: tuple[int, int]
    folded: tuple[int, int] | None = None
    """The strides that were folded."""

    @property
    def channels(self) -> int:
        return self.weight.shape[1]


@lowers(Conv)
def lower_winograd(node: Conv, machine: Machine) -> list[Call]:
    """NoKernel where the direct algorithm is at least as fast, or the accuracy that was asked for forbids it."""
    weight = constant_weight(node, node.weight, node.bias, machine)
    blocked = Blocked(1, machine.target.lanes(F4))
    both = any(s > 1 and d > 1 for s, d in zip(node.strides, node.dilations, strict=True))
    if node.groups != 1 or len(node.kernel) > 2 or both or node.type.layout != blocked:
        raise NoKernel("Winograd needs a convolution over one or two axes without groups, and strides or dilations along each")
    layer = _layer(node, weight, blocked)
    tiling = asked_tiling(node, _problem(node, layer, blocked.block), machine)
    if tiling is None:
        raise NoKernel("the direct algorithm is faster, or asked for")
    return _Plan(node, layer, tiling, machine).calls()


def asked_tiling(node: Conv, problem: WinogradProblem, machine: Machine) -> Tiling | None:
    """The tiling, or None for the direct algorithm: it changes bits, so the problem knows neither batch nor threads."""
    best = functools.partial(worth_measuring, problem, machine.accuracy, TILINGS_TO_MEASURE)
    return machine.schedules.choose((ConvProblem.of(node), problem), lambda: choose(problem, machine.accuracy), best)


def _layer(node: Conv, weight: np.ndarray, blocked: Blocked) -> _Layer:
    size, strides, dilations = in_plane(node.x.type.shape[2:]), in_plane(node.strides), in_plane(node.dilations)
    pads = in_plane([before for before, _ in node.pads], absent=0)
    if node.x.type.layout == blocked:
        return _Layer(weight.reshape(*weight.shape[:2], *in_plane(node.kernel)), size, pads, strides, dilations)
    if (
        node.x.type.layout
        or max(strides) == 1
        or max(dilations) > 1
        or len(node.kernel) < 2
        or folded_size(size, strides)[1] < blocked.block
    ):
        raise NoKernel("Winograd needs a blocked input, or strides that can be folded into its channels")
    taps, before = fold_taps(weight, strides, pads)
    return _Layer(taps, folded_size(size, strides), before, (1, 1), (1, 1), strides)


def _problem(node: Conv, layer: _Layer, lanes: int) -> WinogradProblem:
    [axes] = phases(node)
    positions = math.prod(sum(len(axis.valid_taps(j)) for j in range(axis.count)) for axis in axes)
    padded = -(-node.type.shape[1] // lanes) * lanes
    height, width = in_plane(node.type.shape[2:])
    multiply_adds = positions * node.x.type.shape[1] * padded
    taps = in_plane(layer.weight.shape[2:])
    return WinogradProblem(layer.channels, padded, height, width, lanes, multiply_adds, taps, layer.strides, layer.dilations)


def in_plane(sizes: Sequence[int], absent: int = 1) -> tuple[int, int]:
    """The sizes along rows and columns; a single axis is that of the columns."""
    *rows, columns = sizes
    return (rows[0] if rows else absent), columns


class _Plan:
    """The numbers of one layer."""

    def __init__(self, node: Conv, layer: _Layer, tiling: Tiling, machine: Machine) -> None:
        self.node, self.layer, self.tiling, self.machine = node, layer, tiling, machine
        self.lanes = machine.target.lanes(F4)
        self.images, outputs = node.type.shape[:2]
        self.height, self.width = in_plane(node.type.shape[2:])
        self.down, self.across = tiling.tiles(self.height, self.width)
        self.total = self.images * self.across * self.down
        self.vectors_all = -(-outputs // self.lanes)
        self.channel_blocks = -(-layer.channels // self.lanes)
        self.tiles, self.vectors = self._block()
        self.blocks, self.groups = -(-self.total // self.tiles), self.vectors_all // self.vectors
        self.x_block = layer.size[0] * layer.size[1] * self.lanes * 4
        self.x_image = self.x_block * self.channel_blocks

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
        outputs, channels = self.layer.weight.shape[:2]
        width, phases = self.vectors * self.lanes, self.tiling.phases
        padded = np.zeros((self.vectors_all * self.lanes, *self.layer.weight.shape[1:]), np.float32)
        padded[:outputs] = self.layer.weight
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
        """One fused step, or an input step and a product step; before them the one that folds strides."""
        v_frequency = 64 * (-(-self.entries * self.tiles * self.lanes * 4 // 64) | 1)
        v_block = self.tiling.frequencies * v_frequency
        epilogue, kinds, extras = epilogue_operands(self.node, self.node.extras, self.node.epilogue, self.lanes)
        kernel = WinogradKernel(self.lanes, self.tiles, self.vectors, "fused", epilogue, kinds, self.tiling)
        flops = 2 * self.tiling.frequencies * self.tiles * self.layer.channels * self.tiling.phases * self.vectors_all * self.lanes
        seconds = flops / FLOPS_PER_SECOND
        is_fused = self.blocks * v_block > SHARED_BYTES
        owners = self.machine.threads if is_fused else self.blocks
        x_bytes = self.images * self.x_image if self.layer.folded else 0
        scratch = Scratch(x_bytes + owners * v_block + self.machine.threads * kernel.work_bytes, shared=True)
        x = Address(scratch) if self.layer.folded else self.node.x
        memory = {"x": x, "v": Address(scratch, x_bytes), "work": Address(scratch, x_bytes + owners * v_block)}
        memory |= {"v_frequency": v_frequency, "work_thread": kernel.work_bytes}
        memory |= {"v_block": 0, "v_thread": v_block} if is_fused else {"v_block": v_block, "v_thread": 0}
        arguments = self._arguments() | extras | memory
        first = [space_to_depth(self.node.x, x, self.layer.folded, self.machine)] if self.layer.folded else []
        if is_fused:
            return [*first, Call(kernel, arguments, self.blocks, grain_for(self.blocks, self.blocks * seconds, self.machine.threads))]
        return [*first, self._half("input", kernel, arguments, seconds), self._half("product", kernel, arguments, seconds)]

    def _half(self, mode: str, kernel: WinogradKernel, arguments: dict[str, Argument], seconds: float) -> Call:
        is_input = mode == "input"
        units = self.blocks * (self.channel_blocks if is_input else self.groups)
        work = self.blocks * seconds * (0.1 if is_input else 1)
        part: Any = dc.replace(kernel, mode=mode, **({"epilogue": IDENTITY, "extras": ()} if is_input else {}))
        kept = {name: value for name, value in arguments.items() if name in {n.rstrip("*") for n in part.signature}}
        return Call(part, kept, units, grain_for(units, work, self.machine.threads))

    def _arguments(self) -> dict[str, Argument]:
        y, node = Map.of(self.node.type), self.node
        packed = self.packed_weight()
        (height, width), (top, left) = self.layer.size, self.layer.pads
        left_over = self.layer.channels - (self.channel_blocks - 1) * self.lanes
        return {
            **{"y": node, "weight": Table(packed), "bias": padded_bias(node.bias, node.type.shape[1], self.lanes)},
            **{"height": height, "width": width, "out_height": self.height, "out_width": self.width},
            **{"pad_top": top, "pad_left": left, "tiles": self.total},
            **{"tiles_across": self.across, "tiles_image": self.across * self.down},
            **{"x_image": self.x_image, "x_block": self.x_block, "y_image": y.image, "y_block": y.block},
            **{"input_parts": self.channel_blocks, "entries": self.entries, "entries_full": self.entries - self.tiling.phases},
            **{"channels_last": -(-left_over // UNROLL), "groups": self.groups, "blocks": self.blocks},
            **{"weight_frequency": packed[0][0].nbytes, "weight_group": packed[0].nbytes},
        }
