"""transpose(f(x, extras), channels in front of pixels)  =>  planes(x, extras, expression=f): pixels are taken apart while they are computed

So the bytes of a picture become the plain float32 value that a first convolution reads in one pass over memory.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence
from typing import ClassVar

import llvmlite.ir as ir
import numpy as np

from ...engine import expression as ex
from ...engine.expression import Expression
from ...engine.graph import Node, Uses, op
from ...engine.ops import Pointwise, Transpose
from ...engine.tensor import TensorType
from ..common.llvm_convert import to_register
from ..common.llvm_expression import emit_expression, unsupported
from .emit import Emitter, Value, scalar_type
from .kernel import Argument, Call, Kernel, Machine, grain_for, lowers
from .pointwise import SECONDS_PER_BYTE, SECONDS_PER_FLOP
from .space import UNIT_SECONDS
from .strided import picked
from .vectors import common_lanes, load_splat, store_lanes

MOST_CHANNELS = 4


@op
class Planes(Node):
    """y[n, c, p...] = expression(values[0][n, p..., c], ...); values are of the whole shape, or one number, or one for each channel."""

    values: tuple[Node, ...]
    _: dc.KW_ONLY
    expression: Expression

    @property
    def interleaved(self) -> TensorType:
        """The result before it is taken apart."""
        return Pointwise(self.values, expression=self.expression).type

    def infer(self) -> TensorType:
        before = self.interleaved
        return TensorType(before.dtype, (before.shape[0], before.shape[-1], *before.shape[1:-1]))

    def reference(self, values: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.moveaxis(np.asarray(ex.evaluate(self.expression, values)), -1, 1)

    def flops(self) -> int:
        return self.type.size * ex.flops(self.expression)


def read_planes(graph_node: Node, uses: Uses) -> Node | None:
    """The rule above, for a transpose that alone reads a pointwise region over pixels of a few channels."""
    if not isinstance(graph_node, Transpose) or not isinstance(region := graph_node.x, Pointwise) or uses[region] > 1:
        return None
    rank, kinds = region.type.rank, [o.type for o in region.inputs]
    if graph_node.permutation != (0, rank - 1, *range(1, rank - 1)) or not 2 <= region.type.shape[-1] <= MOST_CHANNELS:
        return None
    taken = all(_is_pixels(kind, region.type) or _is_by_channel(kind) for kind in kinds)
    if not taken or not any(_is_pixels(kind, region.type) for kind in kinds) or unsupported(region.expression, [k.dtype for k in kinds]):
        return None
    return Planes(region.inputs, expression=region.expression, origin=tuple(dict.fromkeys((*region.origin, *graph_node.origin))))


def _is_pixels(kind: TensorType, whole: TensorType) -> bool:
    return kind.shape == whole.shape and kind.dtype.kind in "iuf" and kind.dtype != np.float16


def _is_by_channel(kind: TensorType) -> bool:
    return math.prod(kind.shape[:-1]) == 1


@dc.dataclass(frozen=True)
class PlanesKernel(Kernel):
    """One unit is a run of pixels of one image."""

    sizes: ClassVar[tuple[str, ...]] = ("pixels", "tile", "tiles")
    expression: Expression
    dtypes: tuple[np.dtype, ...]
    """Those of the operands, then that of the result."""
    steps: tuple[int | None, ...]
    """How many elements an operand moves on from channel to channel, 0 or 1; None: it is pixels."""
    channels: int

    @property
    def signature(self) -> tuple[str, ...]:
        return (*(f"x{i}*" for i in range(len(self.steps))), "y*", *self.sizes)

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer:
    """Emits one PlanesKernel."""

    def __init__(self, spec: PlanesKernel, k: Emitter) -> None:
        self.spec, self.k = spec, k
        self.lanes = common_lanes(k.target, *spec.dtypes)
        self.pixels, self.tile, self.tiles = map(k.argument, spec.sizes)
        self.operands = [k.pointer(f"x{i}") for i in range(len(spec.steps))]

    def write(self) -> None:
        k = self.k
        with k.units() as unit:
            image, part = k.divmod(unit.index, self.tiles)
            passed = k.mul(k.mul(image, self.pixels), self.spec.channels)
            bases = [k.at(o, k.mul(passed, d.itemsize)) for o, d in zip(self.operands, self.spec.dtypes, strict=False)]
            target = k.at(k.pointer("y"), k.mul(passed, self.spec.dtypes[-1].itemsize))
            first = k.mul(part, self.tile)
            last = k.minimum(k.add(first, self.tile), self.pixels)
            whole = k.sub(last, k.b.urem(k.sub(last, first), k.integer(self.lanes)))
            with k.loop(first, whole, self.lanes) as loop:
                self.vectors(bases, target, loop.index, None)
            with k.when(k.b.icmp_signed("<", whole, last)):
                self.vectors(bases, target, whole, k.sub(last, whole))

    def vectors(self, bases: Sequence[Value], target: Value, pixel: Value, left: Value | None) -> None:
        """`lanes` pixels, or those that are left, in every channel."""
        k, (*dtypes, result), channels = self.k, self.spec.dtypes, self.spec.channels
        mask = None if left is None else k.mask_below(left, self.lanes)
        apart = [self.apart(*o, pixel, left) for o in zip(bases, self.operands, dtypes, self.spec.steps, strict=True)]
        for channel in range(channels):
            value = emit_expression(k, self.spec.expression, [operand[channel] for operand in apart], dtypes)
            plane = k.add(k.mul(self.pixels, channel), pixel)
            store_lanes(k, value, k.at(target, k.mul(plane, result.itemsize)), result, mask)

    def apart(self, base: Value, start: Value, dtype: np.dtype, step: int | None, pixel: Value, left: Value | None) -> list[Value]:
        """An operand as one register value for each channel."""
        k, channels, lanes = self.k, self.spec.channels, self.lanes
        if step is not None:
            return [load_splat(k, k.at(start, channel * step * dtype.itemsize), dtype, lanes) for channel in range(channels)]
        kind = ir.VectorType(scalar_type(dtype), lanes)
        line, loaded = k.at(base, k.mul(pixel, channels * dtype.itemsize)), list[Value]()
        for i in range(channels):
            place = k.at(line, i * lanes * dtype.itemsize)
            if left is None:
                loaded.append(k.load(place, kind))
            else:
                inside = k.maximum(k.sub(k.mul(left, channels), i * lanes), 0)
                loaded.append(k.masked_load(place, kind, k.mask_below(k.minimum(inside, lanes), lanes)))
        patterns = [[divmod(e, lanes) for e in range(channel, lanes * channels, channels)] for channel in range(channels)]
        return [to_register(k, picked(k, loaded, pattern), dtype) for pattern in patterns]


@lowers(Planes)
def lower_planes(node: Planes, machine: Machine) -> list[Call]:
    """One call."""
    images, channels = node.type.shape[:2]
    pixels = math.prod(node.type.shape[2:])
    dtypes = tuple(o.type.dtype for o in (*node.values, node))
    steps = tuple(None if _is_pixels(o.type, node.interleaved) else int(o.type.size > 1) for o in node.values)
    kernel = PlanesKernel(node.expression, dtypes, steps, channels)
    lanes = common_lanes(machine.target, *dtypes)
    seconds = channels * (sum(d.itemsize for d in dtypes) * SECONDS_PER_BYTE + ex.flops(node.expression) * SECONDS_PER_FLOP)
    tile = min(pixels, math.ceil(UNIT_SECONDS / seconds / lanes) * lanes)
    tiles = -(-pixels // tile)
    places: dict[str, Argument] = {f"x{i}": operand for i, operand in enumerate(node.values)}
    numbers: dict[str, Argument] = {"pixels": pixels, "tile": tile, "tiles": tiles}
    units = images * tiles
    return [Call(kernel, places | {"y": node} | numbers, units, grain_for(units, seconds * images * pixels, machine.threads))]
