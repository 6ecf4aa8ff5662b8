"""A plain value with few channels as a blocked one, of every s-th pixel each: y[n, (p·s' + q)·c + i, h, w] = x[n, i, s·h + p, s'·w + q].

A convolution of stride s over x is then one of stride 1 over y, whose channels fill vectors. Past the end of x there are zeros.
"""

from __future__ import annotations

import dataclasses as dc
import math
from typing import ClassVar

import numpy as np

from ...engine.graph import Node
from .emit import Emitter, Value
from .kernel import Argument, Call, Kernel, Machine, grain_for
from .strided import picked, transposed

F4 = np.dtype(np.float32)


@dc.dataclass(frozen=True)
class SpaceToDepthKernel(Kernel):
    """One unit is a row of one block of channels."""

    parameters: ClassVar[tuple[str, ...]] = (
        *("x*", "y*", "height", "width", "y_height", "y_width"),
        *("x_channel", "x_image", "y_block", "y_image"),
    )
    lanes: int
    channels: int
    strides: tuple[int, int]

    @property
    def blocks(self) -> int:
        """Blocks of y's channels."""
        return -(-self.channels * math.prod(self.strides) // self.lanes)

    def write(self, k: Emitter) -> None:
        """See Kernel."""
        number = {name: k.argument(name) for name in self.parameters if not name.endswith("*")}
        x, y = k.pointer("x"), k.pointer("y")
        with k.units() as unit:
            rest, row = k.divmod(unit.index, number["y_height"])
            image, block = k.divmod(rest, self.blocks)
            source = k.at(x, k.mul(image, number["x_image"]))
            line = k.mul(k.mul(row, number["y_width"]), self.lanes * 4)
            target = k.at(y, k.add(k.add(k.mul(image, number["y_image"]), k.mul(block, number["y_block"])), line))
            for own in range(self.blocks):
                with k.when(k.b.icmp_signed("==", block, k.integer(own))):
                    self.row(k, number, source, target, row, own)

    def row(self, k: Emitter, number: dict[str, Value], source: Value, target: Value, row: Value, block: int) -> None:
        """Every pixel of a row; the last vector of pixels overlaps the one before."""
        last = k.sub(number["y_width"], self.lanes)
        with k.loop(0, number["y_width"], self.lanes, nonempty=True) as column:
            first = k.minimum(column.index, last)
            lines = self.channel_lines(k, number, source, row, first, block)
            zeros = [k.splat(0.0, k.vector(F4, self.lanes))] * (self.lanes - len(lines))
            for i, pixel in enumerate(transposed(k, lines + zeros, 4)):
                k.store(pixel, target, k.mul(k.add(first, i), self.lanes * 4))

    def channel_lines(self, k: Emitter, number: dict[str, Value], source: Value, row: Value, first: Value, block: int) -> list[Value]:
        """For each channel of the block its values at `lanes` pixels of the row from `first` on."""
        step, step_across = self.strides
        total = self.channels * step * step_across
        loaded: dict[tuple[int, int], list[Value]] = {}
        lines = []
        for channel in range(block * self.lanes, min((block + 1) * self.lanes, total)):
            phase, own = divmod(channel, self.channels)
            down, across = divmod(phase, step_across)
            if (down, own) not in loaded:
                loaded[down, own] = self.load_line(k, number, source, k.add(k.mul(row, step), down), own, k.mul(first, step_across))
            pattern = [divmod(lane * step_across + across, self.lanes) for lane in range(self.lanes)]
            lines.append(picked(k, loaded[down, own], pattern))
        return lines

    def load_line(self, k: Emitter, number: dict[str, Value], source: Value, row: Value, channel: int, start: Value) -> list[Value]:
        """The vectors of x that `lanes` pixels of y need, zero outside of x."""
        offset = k.add(k.mul(number["x_channel"], channel), k.mul(k.add(k.mul(row, number["width"]), start), 4))
        line, vector = k.at(source, offset), k.vector(F4, self.lanes)
        left = k.b.select(k.b.icmp_signed("<", row, number["height"]), k.sub(number["width"], start), k.integer(0))
        vectors = []
        for i in range(self.strides[1]):
            count = k.minimum(k.maximum(k.sub(left, i * self.lanes), 0), self.lanes)
            vectors.append(k.masked_load(line, vector, k.mask_below(count, self.lanes), i * self.lanes * 4))
        return vectors


def folded_size(size: tuple[int, int], strides: tuple[int, int]) -> tuple[int, int]:
    """The height and width of y."""
    return -(-size[0] // strides[0]), -(-size[1] // strides[1])


def fold_taps(weight: np.ndarray, strides: tuple[int, int], pads: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """The weight (k, (p·s' + q)·c + i, taps, taps) of stride 1 that does to y what this one does to x, and the zeros before y."""
    k, c, *kernel = weight.shape
    before = tuple(-(-pad // s) for pad, s in zip(pads, strides, strict=True))
    shift = tuple(b * s - pad for b, pad, s in zip(before, pads, strides, strict=True))
    taps = tuple(-(-(n + first) // s) for n, first, s in zip(kernel, shift, strides, strict=True))
    whole = np.zeros((k, c, *(n * s for n, s in zip(taps, strides, strict=True))), weight.dtype)
    whole[:, :, shift[0] : shift[0] + kernel[0], shift[1] : shift[1] + kernel[1]] = weight
    split = whole.reshape(k, c, taps[0], strides[0], taps[1], strides[1]).transpose(0, 3, 5, 1, 2, 4)
    return split.reshape(k, -1, *taps), (before[0], before[1])


def space_to_depth(x: Node, y: Argument, strides: tuple[int, int], machine: Machine) -> Call:
    """The step that makes y, at least a vector wide."""
    images, channels, height, width = x.type.shape
    lanes = machine.target.lanes(F4)
    kernel = SpaceToDepthKernel(lanes, channels, strides)
    rows, columns = folded_size((height, width), strides)
    block = rows * columns * lanes * 4
    sizes: dict[str, Argument] = {"height": height, "width": width, "y_height": rows, "y_width": columns}
    sizes |= {"x_channel": height * width * 4, "x_image": x.type.nbytes // images, "y_block": block, "y_image": block * kernel.blocks}
    units = images * kernel.blocks * rows
    seconds = images * kernel.blocks * block * 1e-10
    return Call(kernel, {"x": x, "y": y} | sizes, units, grain_for(units, seconds, machine.threads))
