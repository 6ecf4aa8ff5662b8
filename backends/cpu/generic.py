"""Products of any dtype over plain values, with weights that may be computed: what the vector kernels decline.

What a window reads is a pair of tables: for each row and tap of the outer spatial axes, and for each column and tap of the last
one, the offset in x, negative where the tap lies outside.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ...engine.expression import IDENTITY
from ...engine.graph import Node
from ...engine.ops import Conv, ConvTranspose, MatMul
from .kernel import Argument, Call, Machine, NoKernel, Table, grain_for, lowers
from .numba_kernel import Array, NumbaKernel

WINDOW = ("outer*", "inner*", "rows", "columns", "outer_taps", "inner_taps")
"""The parameters that describe windows."""
SECONDS_PER_TAP = 1e-9


@dc.dataclass(frozen=True)
class ProductKernel(NumbaKernel):
    """y[image, k, o] = bias[k] + sum over channels c and taps r of x[image, group of k, c, read(o, r)] * weight[image, k, c, r].

    Units are pairs (image, k). Sums of floating-point numbers are kept in double precision, those of integers wrap around.
    """

    parameters: ClassVar[tuple[str, ...]] = (
        *("x*", "weight*", "bias*", "y*", "images*", *WINDOW, "outputs", "outputs_each", "depth"),
        *("x_group", "x_channel", "weight_group", "weight_output", "weight_channel", "weight_outer", "weight_inner"),
        *("y_image", "y_output", "y_row", "y_column"),
    )
    dtype: np.dtype

    @property
    def dtypes(self) -> dict[str, Any]:
        """See NumbaKernel."""
        values, tables = ("x", "weight", "bias", "y"), ("images", "outer", "inner")
        return {**dict.fromkeys(values, self.dtype), **dict.fromkeys(tables, np.dtype(np.int64))}

    def body(self) -> Callable[..., None]:
        """See NumbaKernel."""
        zero = np.float64(0) if self.dtype.kind == "f" else self.dtype.type(0)

        def product(
            begin: int, end: int, thread: int, x: Array, weight: Array, bias: Array, y: Array, images: Array, outer: Array,
            inner: Array, rows: int, columns: int, outer_taps: int, inner_taps: int, outputs: int, outputs_each: int, depth: int,
            x_group: int, x_channel: int, weight_group: int, weight_output: int, weight_channel: int, weight_outer: int,
            weight_inner: int, y_image: int, y_output: int, y_row: int, y_column: int,
        ) -> None:  # fmt: skip
            for unit in range(begin, end):
                image, k = unit // outputs, unit % outputs
                group, member = k // outputs_each, k % outputs_each
                x_start = images[2 * image] + group * x_group
                weight_start = images[2 * image + 1] + group * weight_group + member * weight_output
                for row in range(rows):
                    for column in range(columns):
                        total = zero + bias[k]
                        for r in range(outer_taps):
                            above = outer[row * outer_taps + r]
                            for s in range(inner_taps if above >= 0 else 0):
                                read = inner[column * inner_taps + s]
                                if read >= 0:
                                    at, factor = x_start + above + read, weight_start + r * weight_outer + s * weight_inner
                                    for c in range(depth):
                                        total += (zero + x[at + c * x_channel]) * weight[factor + c * weight_channel]
                        y[image * y_image + k * y_output + row * y_row + column * y_column] = total

        return product


def reads(positions: np.ndarray, size: int, stride: int) -> np.ndarray:
    """(outputs, taps) positions along an axis → offsets; negative outside."""
    return np.where((positions >= 0) & (positions < size), positions * stride, -1)


def combined(tables: Sequence[np.ndarray]) -> np.ndarray:
    """The table of several axes at once, from that of each: rows and taps in row-major order."""
    total = np.zeros((1, 1), np.int64)
    for table in tables:
        left, right = total[:, None, :, None], table[None, :, None, :]
        both = np.where((left >= 0) & (right >= 0), left + right, -1)
        total = both.reshape(both.shape[0] * both.shape[1], -1)
    return total


def window_arguments(tables: Sequence[np.ndarray]) -> dict[str, Argument]:
    """The arguments named in WINDOW, from the table of each spatial axis."""
    outer, inner = combined(tables[:-1]), tables[-1]
    numbers = dict(zip(WINDOW[2:], (len(outer), len(inner), outer.shape[1], inner.shape[1]), strict=True))
    return {"outer": Table(np.ascontiguousarray(outer, np.int64)), "inner": Table(np.ascontiguousarray(inner, np.int64)), **numbers}


@lowers(Conv, ConvTranspose)
def lower_any_convolution(node: Conv | ConvTranspose, machine: Machine) -> list[Call]:
    """One call."""
    (n, channels, *spatial), weight, result = node.x.type.shape, node.weight.type.shape, node.type.shape
    area, taps = math.prod(spatial), math.prod(node.kernel)
    depth, by_first, by_second = channels // node.groups, weight[1] * taps, taps
    tables = [reads(_positions(node, axis), size, math.prod(spatial[axis + 1 :])) for axis, size in enumerate(spatial)]
    is_transposed = isinstance(node, ConvTranspose)
    numbers = {
        **{"outputs": result[1], "outputs_each": result[1] // node.groups, "depth": depth, "x_group": depth * area, "x_channel": area},
        **{"weight_group": weight[0] // node.groups * by_first, "weight_outer": node.kernel[-1], "weight_inner": 1},
        **{"weight_output": by_second if is_transposed else by_first, "weight_channel": by_first if is_transposed else by_second},
        **{"y_image": math.prod(result[1:]), "y_output": math.prod(result[2:]), "y_row": result[-1], "y_column": 1},
    }
    return product(node, (node.x, node.weight, node.bias), [(i * channels * area, 0) for i in range(n)], tables, numbers, machine)


def _positions(node: Conv | ConvTranspose, axis: int) -> np.ndarray:
    """For each output and tap of an axis the position in x, -1 where there is none."""
    out, tap = np.arange(node.type.shape[2 + axis])[:, None], np.arange(node.kernel[axis])[None, :]
    stride, dilation, (before, _) = node.strides[axis], node.dilations[axis], node.pads[axis]
    if isinstance(node, Conv):
        return out * stride + tap * dilation - before
    reached = out + before - tap * dilation
    return np.where(reached % stride == 0, reached // stride, -1)


@lowers(MatMul)
def lower_any_matmul(node: MatMul, machine: Machine) -> list[Call]:
    """One call: rows of the left matrix are positions with one tap, columns of the right one output channels."""
    (*a_lead, m, depth), (*b_lead, _, columns), lead = node.a.type.shape, node.b.type.shape, node.type.shape[:-2]
    starts = [np.broadcast_to(np.arange(math.prod(own)).reshape(own), lead).ravel() for own in (a_lead, b_lead)]
    images = [(i * m * depth, j * depth * columns) for i, j in zip(*(s.tolist() for s in starts), strict=True)]
    numbers = {
        **{"outputs": columns, "outputs_each": columns, "depth": depth, "x_group": 0, "x_channel": 1},
        **{"weight_group": 0, "weight_output": 1, "weight_channel": columns, "weight_outer": 0, "weight_inner": 0},
        **{"y_image": m * columns, "y_output": 1, "y_row": 0, "y_column": columns},
    }
    return product(node, (node.a, node.b, node.bias), images, [depth * np.arange(m)[:, None]], numbers, machine)


def product(
    node: Conv | ConvTranspose | MatMul,
    operands: tuple[Node, Node, Node | None],
    images: Sequence[tuple[int, int]],
    tables: Sequence[np.ndarray],
    numbers: dict[str, int],
    machine: Machine,
) -> list[Call]:
    """The call of a product kernel; images has for each image of the result the offsets in x and in the weight."""
    x, weight, bias = operands
    if any(o.types[0].layout for o in (*node.operands, node)) or node.epilogue != IDENTITY:
        raise NoKernel("the generic product takes plain values and has no epilogue")
    places: dict[str, Argument] = {
        "x": x,
        "weight": weight,
        "bias": bias or Table(np.zeros(numbers["outputs"], node.type.dtype)),
        "y": node,
    }
    units = len(images) * numbers["outputs"]
    arguments = places | {"images": Table(np.array(images, np.int64))} | window_arguments(tables) | numbers
    seconds = max(1, node.flops()) * SECONDS_PER_TAP
    return [Call(ProductKernel(node.type.dtype), arguments, units, grain_for(units, seconds, machine.threads))]
