"""The least time that a network can take: for each layer the longer of its arithmetic and its traffic, summed.

Traffic is that of the GPU's memory. What a cache keeps from layer to layer, or a small network's weights from run to run, can be faster;
an algorithm with fewer multiplications (Winograd's), too.
"""

from __future__ import annotations

import dataclasses as dc

from tilewright.engine.graph import Graph
from tilewright.engine.ops import Conv, ConvTranspose, MatMul


@dc.dataclass(frozen=True)
class Ceilings:
    """What a GPU reaches: bytes a second, read and written, and operations a second by precision."""

    bandwidth: float
    peaks: dict[str, float]


ASSUMED = Ceilings(4.3e12, {"fp32": 60e12, "tf32": 390e12, "fp16": 780e12})
"""Of an H200, where nothing was measured: the bandwidth and fp16 by PyTorch, tf32 as half of it, fp32 by the data sheet."""


def floor_seconds(graph: Graph, precision: str, ceilings: Ceilings) -> float:
    """Convolutions and matrix products only, each reading its operands and writing its result once."""
    size = 2 if precision == "fp16" else 4
    return sum(
        max(2 * node.multiply_adds() / ceilings.peaks[precision], size * moved_elements(node) / ceilings.bandwidth)
        for node in graph
        if isinstance(node, Conv | ConvTranspose | MatMul)
    )


def moved_elements(node: Conv | ConvTranspose | MatMul) -> int:
    """Of both operands and the result."""
    first, second = (node.a, node.b) if isinstance(node, MatMul) else (node.x, node.weight)
    return first.type.size + second.type.size + node.type.size


def measured_ceilings(records: list[dict[str, object]]) -> Ceilings:
    """Those of the step `versions`, the assumed ones for what it could not measure."""
    found = {str(r["name"]): float(r["value"]) for r in records if r["kind"] == "ceiling"}  # type: ignore[arg-type]
    return Ceilings(found.pop("copy", ASSUMED.bandwidth), {**ASSUMED.peaks, **found})
