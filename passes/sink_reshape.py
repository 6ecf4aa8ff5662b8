"""f(reshape(x))  =>  reshape(f(x)): a reshape of what products gave moves behind pointwise regions and pools, so that these fold and fuse

What else f reads must be constant, with at most one number for each index of one axis of x, or a reshape of the same kind. Pools
move over where their windows leave alone what the reshape splits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..engine.graph import Constant, Node, Uses
from ..engine.ops import AveragePool, MaxPool, Pointwise, Reshape
from ..engine.rewrite import skip
from ._regions import Product

Shape = tuple[int, ...]
Pool = MaxPool | AveragePool
PER_AXIS = ("kernel", "strides", "pads", "dilations")


def sink_reshape(node: Node, uses: Uses) -> Node | None:
    above = dict.fromkeys(o for o in node.operands if isinstance(o, Reshape) and isinstance(o.x, Product | Pointwise | Pool))
    if not above or node.type.size == 0:
        return None
    first = next(iter(above))
    match node:
        case Pointwise() if first.type.shape == node.type.shape:
            moved = _region(node, first)
        case MaxPool() | AveragePool():
            moved = _pool(node, first)
        case _:
            return None
    if moved is None:
        return None
    for reshape in above:
        if uses[reshape] > node.operands.count(reshape):
            return skip(f"a reshape above {node.opname} has {uses[reshape]} readers")
    return Reshape(moved, shape=node.type.shape, origin=first.origin)


def _region(node: Pointwise, reshape: Reshape) -> Node | None:
    """The pointwise region over what was reshaped."""
    sources = [_source(operand, reshape) for operand in node.inputs]
    return None if any(s is None for s in sources) else node.replace(inputs=tuple(sources))


def _source(operand: Node, reshape: Reshape) -> Node | None:
    """What the reshape makes the operand of; None where it is computed, or where too much of it would be repeated."""
    old, new = reshape.x.type.shape, reshape.type.shape
    if isinstance(operand, Reshape) and (operand.x.type.shape, operand.type.shape) == (old, new):
        return operand.x
    if not isinstance(operand, Constant):
        return skip(f"operand {operand.type} is computed")
    given = (1,) * (len(new) - operand.type.rank) + operand.type.shape
    grown, shape = list(given), [1] * len(old)
    for before, after in groups(old, new):
        if all(given[axis] == 1 for axis in after):
            continue
        if any(given[axis] != new[axis] for axis in after) and sum(old[axis] > 1 for axis in before) > 1:
            return skip(f"operand {operand.type} would be repeated along several axes")
        for axis in after:
            grown[axis] = new[axis]
        for axis in before:
            shape[axis] = old[axis]
    return operand.replace(data=np.broadcast_to(operand.data.reshape(given), grown).reshape(shape))


def groups(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """The axes of two shapes of one size in groups, from the first on, as small as their products become equal."""
    left, right = list(range(len(old))), list(range(len(new)))
    while left or right:
        before, after = left[:1], right[:1]
        while (a := math.prod(old[i] for i in before)) != (b := math.prod(new[i] for i in after)):
            if a < b:
                before = left[: len(before) + 1]
            else:
                after = right[: len(after) + 1]
        yield before, after
        left, right = left[len(before) :], right[len(after) :]


def _pool(node: Pool, reshape: Reshape) -> Node | None:
    """The pool over what was reshaped, if that only has fewer axes before the last ones, and windows are of 1 along the others."""
    old, new = reshape.x.type.shape, reshape.type.shape
    spatial = len(old) - 2
    split = len(new) - 2 - spatial
    if split < 0 or spatial < 1 or old[0] != new[0] or old[2:] != new[2 + split :]:
        return skip("the reshape does more than to split channels")
    for axis in range(split):
        if (node.kernel[axis], node.strides[axis], node.pads[axis]) != (1, 1, (0, 0)):
            return skip("its windows are wider than 1 along what the reshape splits")
    return node.replace(x=reshape.x, **{name: getattr(node, name)[split:] for name in PER_AXIS})
