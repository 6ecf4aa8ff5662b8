"""Convolutions as Winograd steps: which layers, with which tiles, in one step or two."""

from __future__ import annotations

import dataclasses as dc
import functools
import math
from collections.abc import Sequence

import numpy as np

from ...engine.ops import Conv
from ...engine.tensor import Blocked
from ..common.geometry import phases
from ..common.problem import ConvProblem
from ..common.winograd import Tiling, WinogradProblem, choose, transformed_weight, worth_measuring
from .conv_winograd import WinogradKernel
from .kernel import Address, Call, LateTable, Machine, NoKernel, lowers
from .product import F4, constant_weight, epilogue_operands
from .space_to_depth import fold_taps, folded_size, space_to_depth
from .winograd_steps import WinogradSteps, Work, register_block

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
    return _calls(node, layer, tiling, machine)


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


def _calls(node: Conv, layer: _Layer, tiling: Tiling, machine: Machine) -> list[Call]:
    """The steps of a layer; where strides are folded, before them the one that does so."""
    lanes, (images, outputs) = machine.target.lanes(F4), node.type.shape[:2]
    height, width = in_plane(node.type.shape[2:])
    down, across = tiling.tiles(height, width)
    work = Work(images * down * across, -(-outputs // lanes), layer.channels, tiling.phases)
    tiles, vectors = register_block(work, machine.target.registers)
    epilogue, kinds, extras = epilogue_operands(node, node.extras, node.epilogue, lanes)
    kernel = WinogradKernel(lanes, tiling, tiles, vectors, "fused", epilogue, kinds)
    x_block = layer.size[0] * layer.size[1] * lanes * 4
    x_image = x_block * work.parts(lanes)
    steps = WinogradSteps(node, work, kernel, machine, front=images * x_image if layer.folded else 0)
    x = Address(steps.scratch) if layer.folded else node.x
    own = {
        **{"x": x, "x_image": x_image, "x_block": x_block, "height": layer.size[0], "width": layer.size[1]},
        **{"out_height": height, "out_width": width, "pad_top": layer.pads[0], "pad_left": layer.pads[1]},
        **{"tiles_across": across, "tiles_image": down * across, **extras},
    }
    first = [space_to_depth(node.x, x, layer.folded, machine)] if layer.folded else []
    return [*first, *steps.calls(packed_weight(layer.weight, tiling, work, vectors, lanes), own)]


def packed_weight(weight: np.ndarray, tiling: Tiling, work: Work, vectors: int, lanes: int) -> LateTable:
    """(group, frequency, channel block, phase, channel of the block, k of the group)."""
    channels, width = weight.shape[1], vectors * lanes
    whole, rest = divmod(channels, lanes)

    def fill(target: np.ndarray) -> None:
        for start, group in zip(range(0, len(weight), width), target, strict=True):
            part = transformed_weight(weight[start : start + width], tiling)
            by_channel = group.transpose(0, 1, 3, 2, 4)[..., : part.shape[-1]]
            by_channel[:, :whole] = part[:, : whole * lanes].reshape(len(part), whole, lanes, *part.shape[2:])
            if rest:
                by_channel[:, whole, :rest] = part[:, whole * lanes :]

    shape = (work.vectors // vectors, tiling.frequencies, work.parts(lanes), work.phases, lanes, width)
    return LateTable(shape, F4, fill)
