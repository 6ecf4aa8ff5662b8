"""What a choice for a convolution may depend on: everything but the batch, the values and what follows it."""

from __future__ import annotations

import dataclasses as dc

from ...engine.ops import Conv, ConvTranspose
from ...engine.tensor import Blocked


@dc.dataclass(frozen=True)
class ConvProblem:
    """The shape of a Conv or ConvTranspose for one image. Epilogues are left out: layers that differ in them share their choices."""

    operator: str
    channels: int
    outputs: int
    groups: int
    size: tuple[int, ...]
    output_size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    layout: Blocked | None
    """Of its input."""

    @staticmethod
    def of(node: Conv | ConvTranspose) -> ConvProblem:
        """The problem that the node poses."""
        x, y = node.x.type, node.type
        geometry = node.kernel, node.strides, node.dilations, node.pads
        return ConvProblem(node.opname, x.shape[1], y.shape[1], node.groups, x.shape[2:], y.shape[2:], *geometry, x.layout)
