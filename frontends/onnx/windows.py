"""Attributes that convolutions and poolings share: strides, dilations, pads and their automatic choice."""

from __future__ import annotations

import dataclasses as dc

from ...engine.errors import ModelError
from .convert import Call

Pads = tuple[tuple[int, int], ...]


@dc.dataclass(frozen=True)
class Window:
    """How a kernel moves over the spatial axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """How far the dilated kernel extends along each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def window_of(call: Call, kernel: tuple[int, ...]) -> Window:
    """Strides and dilations of a call, all 1 where it leaves them out."""
    if not kernel or call[0].type.rank != len(kernel) + 2:
        raise ModelError(f"expected x (n, c, *spatial) with as many spatial axes as the kernel {kernel}, got {call[0].type}")
    window = Window(kernel, per_axis(call, "strides", kernel), per_axis(call, "dilations", kernel))
    if min((*kernel, *window.strides, *window.dilations)) < 1:
        raise ModelError(f"expected a kernel, strides and dilations of at least 1, got {window}")
    return window


def kernel_of(call: Call) -> tuple[int, ...]:
    """The attribute kernel_shape of a pooling."""
    kernel = call.integers("kernel_shape")
    if kernel is None or len(kernel) != call[0].type.rank - 2:
        raise ModelError(f"expected kernel_shape with {call[0].type.rank - 2} entries for {call[0].type}, got {kernel}")
    return kernel


def per_axis(call: Call, name: str, kernel: tuple[int, ...], default: int = 1) -> tuple[int, ...]:
    """An attribute with one entry for each spatial axis."""
    values = call.integers(name) or (default,) * len(kernel)
    if len(values) != len(kernel):
        raise ModelError(f"expected {len(kernel)} {name}, got {values}")
    return values


def given_pads(call: Call, rank: int) -> Pads:
    """The attribute pads: all the pads before, then all those after."""
    flat = call.integers("pads") or (0,) * (2 * rank)
    if len(flat) != 2 * rank or min(flat) < 0:
        raise ModelError(f"expected {2 * rank} pads of at least 0, got {flat}")
    return tuple(zip(flat[:rank], flat[rank:], strict=True))


def pads_of(call: Call, window: Window, extents: tuple[int, ...]) -> Pads:
    """The pads, with auto_pad SAME_* chosen so that there are ceil(extent / stride) results along each axis."""
    mode = call.text("auto_pad")
    if mode == "NOTSET":
        return given_pads(call, len(extents))
    if mode == "VALID":
        return ((0, 0),) * len(extents)
    columns = zip(extents, window.strides, window.reach, strict=True)
    return tuple(split_pad(call, max((-(-n // stride) - 1) * stride + reach - n, 0)) for n, stride, reach in columns)


def split_pad(call: Call, total: int) -> tuple[int, int]:
    """A total pad in two halves; with SAME_UPPER the larger half comes after, with SAME_LOWER before."""
    small, large = total // 2, total - total // 2
    match call.text("auto_pad"):
        case "SAME_UPPER":
            return small, large
        case "SAME_LOWER":
            return large, small
    raise call.refuse("auto_pad")
