"""slice(concat(a, b))  =>  slice(a)  where the slice lies within a;  slice(concat(a, b, c))  =>  concat(a, b)  where it is just these"""

from __future__ import annotations

from ..engine.graph import Node, Uses
from ..engine.ops import Concat, Slice
from ..engine.rewrite import merged_origin, skip


def slice_concat(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Slice) or not isinstance(concat := node.x, Concat) or node.type.size == 0:
        return None
    axis = concat.axis
    ends = node.starts[axis], node.starts[axis] + (node.sizes[axis] - 1) * node.steps[axis]
    before, touched = _touched(concat, min(ends), max(ends))
    if len(touched) == len(concat.inputs):
        return None
    origin = merged_origin(concat, node)
    whole = touched[0] if len(touched) == 1 else Concat(touched, axis=axis, origin=origin)
    starts = tuple(start - before if a == axis else start for a, start in enumerate(node.starts))
    if node.sizes == whole.type.shape and not any(starts):
        return whole
    return node.replace(x=whole, starts=starts, origin=origin) if len(touched) == 1 else skip("the slice cuts through inputs of the concat")


def _touched(concat: Concat, first: int, last: int) -> tuple[int, tuple[Node, ...]]:
    """The inputs that hold positions `first` to `last` along the axis, and where they begin."""
    begin, found = 0, dict[int, Node]()
    for i in concat.inputs:
        end = begin + i.type.shape[concat.axis]
        if begin <= last and first < end:
            found[begin] = i
        begin = end
    return min(found), tuple(found.values())
