"""conv(x, w, pads=p)  =>  conv(x, w without its outer taps, pads=p less these)  where the outer taps of w are zero, as masks leave them

A zero tap is taken for nothing: infinities that it alone would have read do not become NaN.
"""

from __future__ import annotations

import numpy as np

from ..engine.graph import Constant, Node, Uses
from ..engine.ops import Conv


def crop_kernel(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Conv) or not isinstance(node.weight, Constant) or 0 in node.weight.type.shape:
        return None
    cuts = [_cut(node, axis, node.weight.data) for axis in range(len(node.kernel))]
    if not any(map(sum, cuts)):
        return None
    kept = tuple(slice(before, r - after) for (before, after), r in zip(cuts, node.kernel, strict=True))
    pads = tuple((p - d * b, q - d * a) for (p, q), d, (b, a) in zip(node.pads, node.dilations, cuts, strict=True))
    return node.replace(weight=node.weight.replace(data=node.weight.data[:, :, *kept]), pads=pads)


def _cut(node: Conv, axis: int, weight: np.ndarray) -> tuple[int, int]:
    """How many zero taps go at the beginning and at the end of an axis, no more than its pads have. One tap stays."""
    taps, last = np.moveaxis(weight, 2 + axis, 0), node.kernel[axis] - 1
    before, after = (pad // node.dilations[axis] for pad in node.pads[axis])
    front = _zeros(taps[: min(before, last)])
    return front, _zeros(taps[front + 1 :][::-1][:after])


def _zeros(taps: np.ndarray) -> int:
    """How many are zero before the first that is not."""
    return next((count for count, tap in enumerate(taps) if tap[0, 0].any() or tap.any()), len(taps))
