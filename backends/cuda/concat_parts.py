"""Convolutions that write into a Concat: where channels are last, each is computed among the channels of the wider result.

A channels-last value has all channels of a position in one piece, so that an operand of a Concat is no piece of the result; but the
kernel of a tiled product finds its positions by strides, and those of the wider result will do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from ...engine.graph import Graph, Node, Uses
from ...engine.ops import Concat, Conv, ConvTranspose
from .conv_implicit_gemm import ImplicitGemmKernel
from .gemm_call import MOST_ELEMENTS, into_slice, unit
from .kernel import Call
from .move import concat_calls

Steps = list[tuple[Node, Call]]
Parts = Mapping[Node, tuple[Node, int]]
"""For each operand that is computed in a Concat: that Concat, and the bytes from the start of its first position."""


def parts_of_concats(graph: Graph, steps: Sequence[tuple[Node, Call]]) -> Parts:
    """What can be computed in the Concat that reads it, as the steps show."""
    uses, parts = graph.uses, dict[Node, tuple[Node, int]]()
    others = {node for node, call in steps if not isinstance(call.kernel, ImplicitGemmKernel)}
    tiled = {node for node, _ in steps if isinstance(node, Conv | ConvTranspose)} - others
    for node in graph:
        if isinstance(node, Concat) and _has_channels_last(node):
            parts |= {o: (node, start * o.type.dtype.itemsize) for o, start in _aligned(node, uses) if o in tiled}
    return parts


def _has_channels_last(node: Concat) -> bool:
    kind, layout = node.type, node.type.layout
    is_last = layout is not None and layout.axis == 1 and layout.block >= kind.shape[1]
    return node.axis == 1 and is_last and math.prod(kind.physical_shape) <= MOST_ELEMENTS


def _aligned(node: Concat, uses: Uses) -> Iterator[tuple[Node, int]]:
    """Operands that nobody else reads and that start and end with whole vectors, and their first channels."""
    start = 0
    for operand in node.inputs:
        channels, whole = operand.type.shape[1], unit(operand.type.dtype)
        if uses[operand] == 1 and start % whole == 0 and channels % whole == 0 and operand.type.layout not in (None, node.type.layout):
            yield operand, start
        start += channels


def write_in_place(steps: Sequence[tuple[Node, Call]], parts: Parts) -> Steps:
    """The same steps, but each part is written where it belongs, and its Concat copies only the others."""
    concats, found = {node for node, _ in parts.values()}, dict[Node, Steps]()
    for node, call in steps:
        if node in parts:
            found.setdefault(node, []).append((node, _written(call, node, *parts[node])))
        elif isinstance(node, Concat) and node in concats:
            found[node] = [(node, own) for own in concat_calls(node, parts)]
        else:
            found.setdefault(node, []).append((node, call))
    return [step for own in found.values() for step in own]


def _written(call: Call, node: Node, concat: Node, offset: int) -> Call:
    return into_slice(call, node, concat, offset // node.type.dtype.itemsize, concat.type.physical_shape[-1])
