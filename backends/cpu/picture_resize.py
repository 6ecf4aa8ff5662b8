"""slice(resize(float32(x)), part)  =>  picture_resize(x, part): a picture is resized from its bytes, and only what is cut out of it

With `planes` this is what the preprocessing of pictures becomes: two passes, of which one reads bytes.
"""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ...engine import expression as ex
from ...engine.graph import Graph, Node, Uses, op
from ...engine.ops import Pointwise, Slice
from ...engine.ops.resize import Resize, interpolation_tables
from ...engine.tensor import TensorType

BYTES = (np.uint8, np.int8, np.uint16, np.int16)
"""Whole numbers that float32 holds exactly."""
TO_FLOAT = ex.Convert(ex.IDENTITY, np.dtype(np.float32))


@op
class PictureResize(Resize):
    """y = resize(float32(x))[starts : starts + sizes]"""

    _: dc.KW_ONLY
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    def infer(self) -> TensorType:
        super().infer()
        return TensorType(np.dtype(np.float32), self.sizes)

    def reference(self, x: np.ndarray) -> np.ndarray:
        whole = super().reference(x.astype(np.float64))
        return whole[tuple(slice(start, start + size) for start, size in zip(self.starts, self.sizes, strict=True))]


def tables(node: Resize, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The interpolation tables of an axis, for the part that is asked for."""
    indices, weights = interpolation_tables(node, axis)
    if not isinstance(node, PictureResize):
        return indices, weights
    part = slice(node.starts[axis], node.starts[axis] + node.sizes[axis])
    return indices[part], weights[part]


def read_pictures(graph: Graph) -> Graph:
    """The graph with resizes that read bytes, and with pixels that are taken apart where they are computed."""
    from .planes import read_planes

    uses, new = graph.uses, dict[Node, Node]()
    for old in graph:
        made = read_planes(old, uses) or _part(old, uses) or _whole(old, uses) or old
        new[old] = made.map_operands(new.__getitem__)
    return graph.with_outputs([new[o] for o in graph.outputs])


def _part(node: Node, uses: Uses) -> Node | None:
    if not isinstance(node, Slice) or any(step != 1 for step in node.steps) or uses[node.x] > 1:
        return None
    whole = _whole(node.x, uses)
    return whole.replace(starts=node.starts, sizes=node.sizes, origin=(*whole.origin, *node.origin)) if whole else None


def _whole(node: Node, uses: Uses) -> PictureResize | None:
    if not isinstance(node, Resize) or not isinstance(region := node.x, Pointwise) or uses[region] > 1:
        return None
    if region.expression != TO_FLOAT or region.inputs[0].type.dtype not in BYTES or region.type != node.x.type or node.type.size == 0:
        return None
    if region.inputs[0].type.shape != region.type.shape:
        return None
    kept = {field.name: getattr(node, field.name) for field in node.attributes}
    return PictureResize(region.inputs[0], **kept, starts=(0,) * node.type.rank, sizes=node.shape, origin=(*region.origin, *node.origin))
