"""Convolutions: pads are made explicit, the groups and kernel are read off the weight."""

from __future__ import annotations

from ...engine.errors import ModelError
from ...engine.ops.conv import Conv, ConvTranspose
from .convert import Call, Results, converter
from .windows import Pads, Window, given_pads, pads_of, per_axis, split_pad, window_of


@converter("Conv")
def conv(call: Call) -> Results:
    """Convolution, see engine.ops.conv.Conv."""
    window = window_of(call, _kernel(call))
    pads = pads_of(call, window, call[0].type.shape[2:])
    return Conv(
        call[0],
        call[1],
        call.get(2),
        strides=window.strides,
        pads=pads,
        dilations=window.dilations,
        groups=call.integer("group"),
    )


@converter("ConvTranspose")
def conv_transpose(call: Call) -> Results:
    """Transposed convolution; `output_shape` and SAME_* are turned into pads."""
    window = window_of(call, _kernel(call))
    pads, output_padding = _transposed_pads(call, window, per_axis(call, "output_padding", window.kernel, 0))
    return ConvTranspose(
        call[0],
        call[1],
        call.get(2),
        strides=window.strides,
        pads=pads,
        dilations=window.dilations,
        output_padding=output_padding,
        groups=call.integer("group"),
    )


def _kernel(call: Call) -> tuple[int, ...]:
    """The spatial extents of the weight, which kernel_shape may repeat."""
    kernel = call[1].type.shape[2:]
    if (declared := call.integers("kernel_shape")) and declared != kernel:
        raise ModelError(f"expected kernel_shape {kernel} as the weight {call[1].type} has it, got {declared}")
    return kernel


def _transposed_pads(call: Call, window: Window, extra: tuple[int, ...]) -> tuple[Pads, tuple[int, ...]]:
    """Pads and output padding; where a wanted shape is larger than the kernel reaches, the result is extended at its end."""
    mode, extents = call.text("auto_pad"), call[0].type.shape[2:]
    wanted = call.integers("output_shape")
    if wanted is None and mode == "NOTSET":
        return given_pads(call, len(extents)), extra
    if wanted is None and mode == "VALID":
        return ((0, 0),) * len(extents), extra
    wanted = wanted or tuple(n * stride for n, stride in zip(extents, window.strides, strict=True))
    if len(wanted) != len(extents):
        raise ModelError(f"expected output_shape with {len(extents)} entries, got {wanted}")
    columns = zip(extents, window.strides, window.reach, extra, wanted, strict=True)
    surplus = [(n - 1) * stride + reach + more - size for n, stride, reach, more, size in columns]
    pads = tuple(_halves(call, max(total, 0)) for total in surplus)
    return pads, tuple(more + max(-total, 0) for more, total in zip(extra, surplus, strict=True))


def _halves(call: Call, total: int) -> tuple[int, int]:
    """ONNX gives the larger half to the front unless SAME_UPPER is asked for."""
    if call.text("auto_pad") == "NOTSET":
        return total - total // 2, total // 2
    return split_pad(call, total)
