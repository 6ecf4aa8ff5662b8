"""LRN: each pixel's own window of channels, vectors along the pixels of a plane."""

from __future__ import annotations

import dataclasses as dc
import math
from typing import ClassVar

import numpy as np

from ...engine.expression import Operand, apply
from ...engine.ops import LRN
from ..common.llvm_convert import F16, F32, convert
from ..common.llvm_expression import emit_expression
from .emit import Emitter, Value
from .kernel import Call, Kernel, Machine, NoKernel, grain_for, lowers
from .vectors import common_lanes, in_vectors, load_lanes, store_lanes

TILE_BYTES = 4096
SECONDS_PER_VECTOR = 1e-8


@dc.dataclass(frozen=True)
class LRNKernel(Kernel):
    """y[n, c, p] = x[n, c, p] * (bias + alpha/size * sum of x[n, j, p]^2 over j from c - before to c + after) ^ -beta."""

    parameters: ClassVar[tuple[str, ...]] = ("x*", "y*", "channels", "pixels", "tile", "tiles")
    dtype: np.dtype
    size: int
    alpha: float
    beta: float
    bias: float

    def write(self, k: Emitter) -> None:
        x, y = k.pointer("x"), k.pointer("y")
        channels, pixels, tile, tiles = map(k.argument, ("channels", "pixels", "tile", "tiles"))
        lanes = common_lanes(k.target, self.dtype)
        with k.units() as unit:
            plane, number = k.divmod(unit.index, tiles)
            channel = k.b.urem(plane, channels)
            first = k.mul(number, tile)
            last = k.minimum(k.add(first, tile), pixels)
            before = (self.size - 1) // 2
            low = k.sub(k.maximum(k.sub(channel, before), 0), channel)
            high = k.sub(k.minimum(k.add(channel, self.size - before), channels), channel)

            def vector(at: Value, _: int, mask: Value | None) -> None:
                offset = k.mul(k.add(k.mul(plane, pixels), at), self.dtype.itemsize)
                self.pixels(k, k.at(x, offset), k.at(y, offset), (low, high, k.mul(pixels, self.dtype.itemsize)), lanes, mask)

            in_vectors(k, first, last, lanes, vector)

    def pixels(self, k: Emitter, x: Value, y: Value, window: tuple[Value, Value, Value], lanes: int, mask: Value | None) -> None:
        """One vector of pixels; the window is (first channel, end, bytes from one to the next), as seen from the channel at x."""
        low, high, stride = window
        dtype = F32 if self.dtype == F16 else self.dtype
        with k.loop(low, high, carried=[k.splat(0.0, k.vector(dtype, lanes))], nonempty=True) as loop:
            value = convert(k, load_lanes(k, k.at(x, k.mul(loop.index, stride)), self.dtype, lanes, mask), self.dtype, dtype)
            loop.carry([k.fma(value, value, loop.values[0])])
        value = convert(k, load_lanes(k, x, self.dtype, lanes, mask), self.dtype, dtype)
        scale = Operand(1) * (self.alpha / self.size) + self.bias
        result = emit_expression(k, Operand(0) * apply("exp", apply("log", scale) * -self.beta), [value, loop.results[0]], [dtype, dtype])
        store_lanes(k, convert(k, result, dtype, self.dtype), y, self.dtype, mask)


@lowers(LRN)
def lower_lrn(node: LRN, machine: Machine) -> list[Call]:
    """One call: a unit is a part of a plane."""
    x = node.x.type
    if x.layout or node.type.layout:
        raise NoKernel("a normalisation across the channels of a blocked value")
    pixels = math.prod(x.shape[2:])
    tile = min(pixels, TILE_BYTES // x.dtype.itemsize)
    units = x.shape[0] * x.shape[1] * -(-pixels // tile)
    seconds = x.size / common_lanes(machine.target, x.dtype) * SECONDS_PER_VECTOR
    numbers = {"channels": x.shape[1], "pixels": pixels, "tile": tile, "tiles": -(-pixels // tile)}
    kernel = LRNKernel(x.dtype, node.size, node.alpha, node.beta, node.bias)
    return [Call(kernel, {"x": node.x, "y": node} | numbers, units, grain_for(units, seconds, machine.threads))]
