"""Convolution and transposed convolution over any number of spatial axes, with groups, and an epilogue on the result."""

from __future__ import annotations

import dataclasses as dc
import itertools
import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from .. import expression as ex
from ..errors import ModelError
from ..expression import IDENTITY, Expression
from ..graph import Node, op, per_axis
from ..tensor import TensorType
from .elementwise import epilogue_type

Pads = tuple[tuple[int, int], ...]
"""For each spatial axis the zeros (before, after)."""


@op
class Convolution(Node):
    """What Conv and ConvTranspose have in common."""

    x: Node
    weight: Node
    bias: Node | None = None
    extras: tuple[Node, ...] = ()
    _: dc.KW_ONLY
    strides: tuple[int, ...] = per_axis(default=1)
    pads: Pads = per_axis(default=(0, 0))
    dilations: tuple[int, ...] = per_axis(default=1)
    groups: int = 1
    epilogue: Expression = IDENTITY

    @property
    def kernel(self) -> tuple[int, ...]:
        """The spatial extents of the weight."""
        return self.weight.type.shape[2:]

    def flops(self) -> int:
        return 2 * self.multiply_adds() + self.type.size * ex.flops(self.epilogue)


@op
class Conv(Convolution):
    """y[n,k,o] = epilogue(bias[k] + sum over c,r of x[n, g*C + c, o*stride + r*dilation - pad] * weight[k,c,r], *extras), g = k's group.

    x (n, groups*c, *spatial), weight (k, c, *kernel), bias (k,); extras broadcast to the result.
    """

    def infer(self) -> TensorType:
        (n, channels, *spatial), (k, c, *kernel) = check_convolution(self)
        if channels != c * self.groups:
            raise ModelError(f"x has {channels} channels, the weight expects {c} in each of {self.groups} groups")
        if k % self.groups:
            raise ModelError(f"{k} output channels do not divide into {self.groups} groups")
        check_bias(self.bias, k)
        out = tuple(
            (size + before + after - (extent - 1) * dilation - 1) // stride + 1
            for size, (before, after), extent, dilation, stride in zip(
                spatial, self.pads, kernel, self.dilations, self.strides, strict=True
            )
        )
        if min(out) < 1:
            raise ModelError(f"the kernel is larger than the padded input: the result would have shape {(n, k, *out)}")
        return epilogue_type(self.epilogue, TensorType(self.x.type.dtype, (n, k, *out)), self.extras)

    def reference(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, extras: tuple[np.ndarray, ...]) -> np.ndarray:
        n, k, *out = self.type.shape
        channels, kernels, pixels = x.shape[1] // self.groups, k // self.groups, n * math.prod(out)
        bordered = np.pad(x, [(0, 0), (0, 0), *self.pads])
        padded = np.moveaxis(bordered.reshape(n, self.groups, channels, *bordered.shape[2:]), 0, 2)
        grouped = weight.reshape(self.groups, kernels, *weight.shape[1:])
        total = np.zeros((self.groups, kernels, pixels), x.dtype)
        for tap, window in taps(self, tuple(out)):
            seen = padded[(..., *window)].reshape(self.groups, channels, pixels)
            total += np.ascontiguousarray(grouped[(..., *tap)]) @ seen  # NumPy multiplies strided operands without BLAS
        result = add_bias(np.moveaxis(total.reshape(k, n, *out), 0, 1), bias)
        return ex.evaluate(self.epilogue, [result, *extras])

    def multiply_adds(self) -> int:
        return self.type.size * math.prod(self.weight.type.shape[1:])


@op
class ConvTranspose(Convolution):
    """The adjoint of Conv in x: x[n,c,i] * weight[c,k,r] is added to y[n, g*K + k, i*stride + r*dilation - pad]; then bias and epilogue.

    x (n, groups*c, *spatial), weight (groups*c, k, *kernel), bias (groups*k,). `output_padding` extends the result at its end.
    """

    _: dc.KW_ONLY
    output_padding: tuple[int, ...] = per_axis(default=0)

    def infer(self) -> TensorType:
        (n, channels, *spatial), (c, k, *kernel) = check_convolution(self)
        if channels != c or c % self.groups:
            raise ModelError(f"x has {channels} channels, the weight expects {c} in {self.groups} groups")
        check_bias(self.bias, k * self.groups)
        out = tuple(
            (size - 1) * stride + (extent - 1) * dilation + 1 + extra - before - after
            for size, (before, after), extent, dilation, stride, extra in zip(
                spatial, self.pads, kernel, self.dilations, self.strides, self.output_padding, strict=True
            )
        )
        if min(out) < 1:
            raise ModelError(f"the padding removes the whole result: it would have shape {(n, k * self.groups, *out)}")
        return epilogue_type(self.epilogue, TensorType(self.x.type.dtype, (n, k * self.groups, *out)), self.extras)

    def reference(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, extras: tuple[np.ndarray, ...]) -> np.ndarray:
        n, k, *out = self.type.shape
        channels, kernels, pixels = x.shape[1] // self.groups, k // self.groups, n * math.prod(x.shape[2:])
        read = np.moveaxis(x.reshape(n, self.groups, channels, *x.shape[2:]), 0, 2).reshape(self.groups, channels, pixels)
        grouped = np.swapaxes(weight.reshape(self.groups, channels, *weight.shape[1:]), 1, 2)
        padded = [size + before + after for size, (before, after) in zip(out, self.pads, strict=True)]
        total = np.zeros((self.groups, kernels, n, *padded), x.dtype)
        for tap, window in taps(self, x.shape[2:]):
            share = np.ascontiguousarray(grouped[(..., *tap)]) @ read
            total[(..., *window)] += share.reshape(self.groups, kernels, n, *x.shape[2:])
        inside = tuple(slice(before, before + size) for size, (before, _) in zip(out, self.pads, strict=True))
        result = add_bias(np.moveaxis(total.reshape(k, n, *padded)[(..., *inside)], 0, 1), bias)
        return ex.evaluate(self.epilogue, [result, *extras])

    def multiply_adds(self) -> int:
        return self.x.type.size * math.prod(self.weight.type.shape[1:])


class Sliding(Protocol):
    """An operator with a kernel that slides over x."""

    @property
    def kernel(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def dilations(self) -> tuple[int, ...]: ...


def taps(node: Sliding, positions: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """For each kernel tap its index and the strided window of the padded array that it meets at all `positions`."""
    for tap in itertools.product(*map(range, node.kernel)):
        starts = [t * d for t, d in zip(tap, node.dilations, strict=True)]
        stops = [a + (p - 1) * s + 1 for a, p, s in zip(starts, positions, node.strides, strict=True)]
        yield tap, tuple(map(slice, starts, stops, node.strides))


def check_convolution(node: Convolution) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of x and weight, once ranks, attribute lengths and dtypes are known to fit; else ModelError."""
    x, weight = node.x.type, node.weight.type
    if x.rank < 3 or weight.rank != x.rank:
        raise ModelError(f"expected x (n, c, *spatial) and a weight of the same rank, got ranks {x.rank} and {weight.rank}")
    if x.dtype != weight.dtype or x.dtype.kind != "f":
        raise ModelError(f"expected x and weight of one floating-point dtype, got {x.dtype} and {weight.dtype}")
    for name in ("strides", "pads", "dilations"):
        if len(getattr(node, name)) != x.rank - 2:
            raise ModelError(f"expected {x.rank - 2} {name}, got {getattr(node, name)}")
    if min((*node.strides, *node.dilations)) < 1 or node.groups < 1:
        raise ModelError("strides, dilations and groups must be positive")
    return x.shape, weight.shape


def check_bias(bias: Node | None, k: int) -> None:
    """ModelError unless the bias is absent or (k,)."""
    if bias is not None and bias.type.shape != (k,):
        raise ModelError(f"expected a bias of shape ({k},), got {bias.type}")


def add_bias(result: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """result (n, k, *spatial) + bias (k,)."""
    return result if bias is None else result + bias.reshape(-1, *[1] * (result.ndim - 2))
