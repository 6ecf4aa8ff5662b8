"""Resize and its forerunner Upsample: scales and sizes become one shape and one scale an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...engine.errors import ModelError
from ...engine.graph import Node
from ...engine.ops.resize import COORDINATES, MODES, ROUNDINGS, Resize
from .convert import Call, Results, axis_of, converter

Numbers = tuple[float, ...]


@converter("Upsample")
def upsample(call: Call) -> Results:
    """Enlarged by scales, which are an attribute before opset 9."""
    scales = call.numbers("scales") if call.opset < 9 else _numbers(call, 1)
    return _older(call, scales)


@converter("Resize")
def resize(call: Call) -> Results:
    """Resized by scales or to sizes, on all axes or on those named."""
    if call.opset < 11:
        return _older(call, _numbers(call, 1))
    x = call[0]
    axes = tuple(axis_of(a, x.type.rank) for a in call.integers("axes") or range(x.type.rank))
    shape, scales = _extents(call, axes)
    coordinates, rounding = _coordinates(call)
    return Resize(
        x,
        shape=shape,
        scales=scales,
        mode=_one_of(call, "mode", MODES),
        coordinates=coordinates,
        nearest_rounding=rounding,
        cubic_coefficient=call.number("cubic_coeff_a"),
        exclude_outside=bool(call.integer("exclude_outside")),
        antialias=bool(call.integer("antialias", 0)),
        roi=_roi(call, axes) if coordinates == "tf_crop_and_resize" else None,
        extrapolation_value=call.number("extrapolation_value"),
    )


def _older(call: Call, scales: Numbers | None) -> Node:
    """Before opset 11 coordinates are simply divided by the scale."""
    x, mode = call[0], call.text("mode")
    if scales is None or len(scales) != x.type.rank:
        raise ModelError(f"expected {x.type.rank} scales, got {scales}")
    if mode not in ("nearest", "linear", "bilinear"):
        raise call.refuse("mode")
    shape = scaled_extents(x.type.shape, scales)
    mode = "nearest" if mode == "nearest" else "linear"
    return Resize(x, shape=shape, scales=scales, mode=mode, coordinates="asymmetric", nearest_rounding="simple")


def scaled_extents(extents: Sequence[int], scales: Numbers) -> tuple[int, ...]:
    """floor(extent * scale) in single precision, in which scales are given: 5 * 1.4 is 7 there, and a little less in double."""
    return tuple(int(np.float32(n) * np.float32(s)) for n, s in zip(extents, scales, strict=True))


def _coordinates(call: Call) -> tuple[str, str]:
    """The coordinate mode, and how nearest rounds: floor((o + 0.5) / scale) of opset 11 is half_pixel rounded up at ties."""
    asked = call.text("coordinate_transformation_mode"), call.text("nearest_mode")
    if asked == ("tf_half_pixel_for_nn", "floor") and call.text("mode") == "nearest":
        return "half_pixel", "round_prefer_ceil"
    return _one_of(call, "coordinate_transformation_mode", COORDINATES), _one_of(call, "nearest_mode", ROUNDINGS)


def _one_of(call: Call, name: str, known: tuple[str, ...]) -> str:
    value = call.text(name)
    if value not in known:
        raise call.refuse(name)
    return value


def _numbers(call: Call, position: int) -> Numbers | None:
    """An optional input as numbers; exporters also leave it out by giving an empty tensor."""
    if call.get(position) is None:
        return None
    return tuple(call.value(position).reshape(-1).tolist()) or None


def _extents(call: Call, axes: tuple[int, ...]) -> tuple[tuple[int, ...], Numbers]:
    """The shape of the result and the scale of each axis."""
    x, scales, sizes = call[0], _numbers(call, 2), _numbers(call, 3)
    given, extents = scales or sizes, [x.type.shape[axis] for axis in axes]
    if given is None or len(given) != len(axes) or min(given) <= 0 or 0 in extents:
        raise ModelError(f"expected {len(axes)} positive scales or sizes for axes that are not empty, got {given} for {x.type}")
    shape, factors = list(x.type.shape), [1.0] * x.type.rank
    if scales is None:
        scales, sizes = _aspect(call, extents, tuple(int(n) for n in given))
    else:
        sizes = scaled_extents(extents, scales)
    for axis, scale, size in zip(axes, scales, sizes, strict=True):
        factors[axis], shape[axis] = scale, size
    return tuple(shape), tuple(factors)


def _aspect(call: Call, extents: list[int], sizes: tuple[int, ...]) -> tuple[Numbers, tuple[int, ...]]:
    """Scales and sizes for wanted sizes; a policy keeps the aspect ratio within or around them."""
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    scales = tuple(size / n for size, n in zip(sizes, extents, strict=True))
    if policy == "stretch":
        return scales, sizes
    if policy not in ("not_larger", "not_smaller"):
        raise call.refuse("keep_aspect_ratio_policy")
    scale = min(scales) if policy == "not_larger" else max(scales)
    return (scale,) * len(sizes), tuple(math.floor(scale * n + 0.5) for n in extents)


def _roi(call: Call, axes: tuple[int, ...]) -> Numbers:
    """Starts and ends for all axes; an axis that is not named is kept whole."""
    given, rank = _numbers(call, 1), call[0].type.rank
    if given is None or len(given) != 2 * len(axes):
        raise ModelError(f"expected a roi of {2 * len(axes)} numbers, got {given}")
    starts, ends = [0.0] * rank, [1.0] * rank
    for position, axis in enumerate(axes):
        starts[axis], ends[axis] = given[position], given[position + len(axes)]
    return (*starts, *ends)
