"""Data movement: new shapes, transposes, joins and cuts. What shapes need to know is evaluated here."""

from __future__ import annotations

import math

import numpy as np

from ...engine.errors import ModelError
from ...engine.graph import Node
from ...engine.ops.shape import Concat, Expand, Pad, Reshape, Slice, Transpose
from .convert import Call, Results, axis_of, converter


@converter("Reshape")
def reshape(call: Call) -> Results:
    """x under another shape, in which 0 keeps an extent and -1 takes what is left."""
    x, wanted = call[0], [int(n) for n in call.value(1).reshape(-1)]
    if not call.integer("allowzero", 0):
        if any(n == 0 and i >= x.type.rank for i, n in enumerate(wanted)):
            raise ModelError(f"the shape {wanted} keeps an extent that {x.type} does not have")
        wanted = [x.type.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    if wanted.count(-1) > 1:
        raise ModelError(f"the shape {wanted} leaves more than one extent open")
    known = math.prod(n for n in wanted if n != -1)
    if -1 in wanted and (known == 0 or x.type.size % known):
        raise ModelError(f"{x.type} of {x.type.size} elements does not fit the shape {wanted}")
    return reshaped(x, tuple(x.type.size // known if n == -1 else n for n in wanted))


def reshaped(x: Node, shape: tuple[int, ...]) -> Node:
    """x under a shape, itself where it has that one."""
    return x if x.type.shape == shape else Reshape(x, shape=shape)


@converter("Flatten")
def flatten(call: Call) -> Results:
    """The axes before `axis` as one, and the rest as one."""
    rank, axis = call[0].type.rank, call.integer("axis")
    if not -rank <= axis <= rank:
        raise ModelError(f"expected an axis from {-rank} to {rank}, got {axis}")
    shape, split = call[0].type.shape, axis + rank if axis < 0 else axis
    return reshaped(call[0], (math.prod(shape[:split]), math.prod(shape[split:])))


@converter("Squeeze")
def squeeze(call: Call) -> Results:
    """x without the named axes of extent 1, or without all of them."""
    shape, axes = call[0].type.shape, call.integers_or_input("axes", 1)
    gone = {i for i, n in enumerate(shape) if n == 1} if axes is None else {axis_of(a, len(shape)) for a in axes}
    if any(shape[i] != 1 for i in gone):
        raise ModelError(f"expected axes of extent 1, got {sorted(gone)} of {call[0].type}")
    return reshaped(call[0], tuple(n for i, n in enumerate(shape) if i not in gone))


@converter("Unsqueeze")
def unsqueeze(call: Call) -> Results:
    """x with axes of extent 1 at the named positions of the result."""
    axes = call.integers_or_input("axes", 1)
    if axes is None:
        raise ModelError("expected axes")
    rank = call[0].type.rank + len(axes)
    new, old = {axis_of(a, rank) for a in axes}, iter(call[0].type.shape)
    if len(new) != len(axes):
        raise ModelError(f"an axis is named twice: {axes}")
    return reshaped(call[0], tuple(1 if i in new else next(old) for i in range(rank)))


@converter("Transpose")
def transpose(call: Call) -> Results:
    """The axes in another order, by default the reverse one."""
    permutation = call.integers("perm") or tuple(reversed(range(call[0].type.rank)))
    return Transpose(call[0], permutation=permutation)


@converter("Concat")
def concat(call: Call) -> Results:
    """The operands one after the other."""
    operands = tuple(call[i] for i in range(len(call)))
    return Concat(operands, axis=axis_of(call.integer("axis"), call[0].type.rank)) if len(operands) > 1 else call[0]


@converter("Split")
def split(call: Call) -> Results:
    """Consecutive parts of given sizes, or as equal as can be with the last one smaller."""
    x, axis = call[0], axis_of(call.integer("axis"), call[0].type.rank)
    extent, sizes = x.type.shape[axis], call.integers_or_input("split", 1)
    if sizes is None:
        count = call.integer("num_outputs", len(call.operation.outputs))
        size = -(-extent // count)
        if call.opset < 18 and extent % count:
            raise ModelError(f"an extent of {extent} does not split into {count} equal parts")
        sizes = tuple(max(min(size, extent - i * size), 0) for i in range(count))
    if sum(sizes) != extent or min(sizes) < 0 or len(sizes) < len(call.operation.outputs):
        raise ModelError(f"parts of {sizes} do not make up the extent {extent} for {len(call.operation.outputs)} results")
    starts = np.cumsum([0, *sizes]).tolist()
    return tuple(cut(x, axis, start, size) for start, size in zip(starts, sizes, strict=False))


def cut(x: Node, axis: int, start: int, size: int) -> Node:
    """`size` elements along one axis from `start` on."""
    starts = tuple(start if i == axis else 0 for i in range(x.type.rank))
    sizes = tuple(size if i == axis else n for i, n in enumerate(x.type.shape))
    return Slice(x, starts=starts, sizes=sizes, steps=(1,) * x.type.rank)


@converter("Slice")
def slice_(call: Call) -> Results:
    """x[starts:ends:steps] on the named axes, with Python's rules for negative and too large bounds."""
    x = call[0]
    starts, ends = call.integers_or_input("starts", 1), call.integers_or_input("ends", 2)
    if starts is None or ends is None:
        raise ModelError("expected starts and ends")
    axes = call.integers_or_input("axes", 3) or tuple(range(len(starts)))
    steps = call.integers_or_input("steps", 4) or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ModelError(f"expected as many starts, ends, axes and steps, none of these 0, got {starts}, {ends}, {axes}, {steps}")
    ranges = [range(n) for n in x.type.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(axis, x.type.rank)
        extent = x.type.shape[axis]
        # A start before the first element means that element, where Python makes a backward slice empty.
        ranges[axis] = range(*slice(max(start, -extent), end, step).indices(extent))
    return sliced(x, ranges)


def sliced(x: Node, ranges: list[range]) -> Node:
    """The elements at the positions of one range for each axis; x itself where these are all."""
    if all(r == range(n) for r, n in zip(ranges, x.type.shape, strict=True)):
        return x
    return Slice(x, starts=tuple(r.start for r in ranges), sizes=tuple(map(len, ranges)), steps=tuple(r.step for r in ranges))


@converter("Pad")
def pad(call: Call) -> Results:
    """x with elements added, or for negative pads removed, at the ends of axes."""
    x, flat = call[0], call.integers_or_input("pads", 1)
    axes = call.integers_or_input("axes", 3) if call.opset >= 18 else None
    chosen = [axis_of(a, x.type.rank) for a in axes] if axes is not None else list(range(x.type.rank))
    if flat is None or len(flat) != 2 * len(chosen):
        raise ModelError(f"expected {2 * len(chosen)} pads, got {flat}")
    pads = [(0, 0)] * x.type.rank
    for position, axis in enumerate(chosen):
        pads[axis] = (flat[position], flat[position + len(chosen)])
    ranges = [range(max(-before, 0), n - max(-after, 0)) for n, (before, after) in zip(x.type.shape, pads, strict=True)]
    grown = tuple((max(before, 0), max(after, 0)) for before, after in pads)
    kept = sliced(x, ranges)
    return Pad(kept, pads=grown, mode=call.text("mode"), value=_pad_value(call)) if any(map(any, grown)) else kept


def _pad_value(call: Call) -> float | int:
    if call.opset < 11:
        return call.number("value")
    return call.scalar(2) if call.get(2) is not None else 0


@converter("Expand")
def expand(call: Call) -> Results:
    """x broadcast against a shape."""
    wanted = tuple(int(n) for n in call.value(1).reshape(-1))
    try:
        shape = np.broadcast_shapes(call[0].type.shape, wanted)
    except ValueError:
        raise ModelError(f"{call[0].type} and the shape {wanted} do not broadcast to one") from None
    return call[0] if shape == call[0].type.shape else Expand(call[0], shape=shape)


@converter("Tile")
def tile(call: Call) -> Results:
    """x repeated as a whole along each axis."""
    x, repeats = call[0], tuple(int(n) for n in call.value(1).reshape(-1))
    if len(repeats) != x.type.rank or min(repeats, default=0) < 0:
        raise ModelError(f"expected {x.type.rank} repeats of at least 0, got {repeats}")
    if all(r == 1 for r in repeats):
        return x
    single = tuple(k for n in x.type.shape for k in (1, n))
    repeated = tuple(k for pair in zip(repeats, x.type.shape, strict=True) for k in pair)
    return Reshape(Expand(Reshape(x, shape=single), shape=repeated), shape=tuple(r * n for r, n in zip(repeats, x.type.shape, strict=True)))


@converter("DepthToSpace")
def depth_to_space(call: Call) -> Results:
    """Blocks of channels become blocks of pixels; the block is the outer part of the channels (DCR) or the inner one (CRD)."""
    n, c, h, w = _image(call)
    b, mode = call.integer("blocksize"), call.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise call.refuse("mode")
    if b < 1 or c % (b * b):
        raise ModelError(f"{c} channels do not divide into blocks of {b}x{b}")
    split = (n, b, b, c // b**2, h, w) if mode == "DCR" else (n, c // b**2, b, b, h, w)
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    return Reshape(Transpose(Reshape(call[0], shape=split), permutation=order), shape=(n, c // b**2, h * b, w * b))


@converter("SpaceToDepth")
def space_to_depth(call: Call) -> Results:
    """Blocks of pixels become the outer part of the channels (DCR), or with opset 28 the inner one (CRD)."""
    n, c, h, w = _image(call)
    b, mode = call.integer("blocksize"), call.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise call.refuse("mode")
    if b < 1 or h % b or w % b:
        raise ModelError(f"{h}x{w} does not divide into blocks of {b}x{b}")
    blocks = Reshape(call[0], shape=(n, c, h // b, b, w // b, b))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return Reshape(Transpose(blocks, permutation=order), shape=(n, c * b * b, h // b, w // b))


def _image(call: Call) -> tuple[int, ...]:
    if call[0].type.rank != 4:
        raise ModelError(f"expected x (n, c, h, w), got {call[0].type}")
    return call[0].type.shape
