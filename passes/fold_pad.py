"""conv(pad(x, p), pads=q)  =>  conv(x, pads=p+q)  for zeros around the spatial axes; likewise for pooling

max_pool needs a pad of its neutral element; average_pool goes on counting what was in the pad: count_include_pad.
"""

from __future__ import annotations

from ..engine.graph import Node, Uses
from ..engine.ops import AveragePool, Conv, MaxPool, Pad
from ..engine.ops.pool import lowest
from ..engine.rewrite import merged_origin, skip


def fold_pad(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Conv | MaxPool | AveragePool) or not isinstance(pad := node.x, Pad):
        return None
    if pad.mode != "constant":
        return skip(f"the pad repeats its input ({pad.mode})")
    if any(map(any, pad.pads[:2])):
        return skip("the pad adds images or channels")
    if reason := _problem(node, pad):
        return skip(reason)
    pads = tuple((a + b, c + d) for (a, c), (b, d) in zip(pad.pads[2:], node.pads, strict=True))
    counting = {"count_include_pad": True} if isinstance(node, AveragePool) else {}
    return node.replace(x=pad.x, pads=pads, origin=merged_origin(pad, node), **counting)


def _problem(node: Conv | MaxPool | AveragePool, pad: Pad) -> str | None:
    """Why the operator's own pads would mean something else."""
    if isinstance(node, MaxPool):
        if pad.value != lowest(node.type.dtype):
            return f"the padded {pad.value} may win in max_pool, whose own pads never do"
    elif pad.value != 0:
        return f"the pad is {pad.value}, not 0"
    if not isinstance(node, Conv) and node.ceil_mode:
        return f"ceil_mode of {node.opname} looks at where the pad begins"
    if isinstance(node, AveragePool) and not node.count_include_pad and any(map(any, node.pads)):
        return "average_pool counts the pad, but not its own pads"
    return None
