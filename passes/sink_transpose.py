"""f(transpose(x))  =>  transpose(f(x))  and  transpose(transpose(x))  =>  x: transposes move down until they meet and cancel

f may be pointwise, a concat, softmax, running sum, reduction, pad, slice or resize; what else it reads, if constant or small, is
transposed back. It happens only where all transposes above f go, so that there are never more of them than before.
"""

from __future__ import annotations

from typing import Any

from ..engine.graph import Constant, Node, Uses
from ..engine.ops import Concat, CumSum, Pad, Pointwise, Reduce, Reshape, Resize, Slice, Softmax, Transpose
from ..engine.rewrite import merged_origin, skip

PER_AXIS = {"pads", "starts", "sizes", "steps", "shape", "scales"}
"""Attributes of Pad, Slice and Resize with one entry an axis."""

Permutation = tuple[int, ...]


def sink_transpose(node: Node, uses: Uses) -> Node | None:
    above = dict.fromkeys(o for o in node.operands if isinstance(o, Transpose))
    if not above:
        return None
    first = next(iter(above))
    if isinstance(node, Transpose):
        return _composed(node, first)
    moved = _over_source(node, first)
    if moved is None:
        return None
    for transpose in above:
        if uses[transpose] > node.operands.count(transpose):
            return skip(f"a transpose above {node.opname} has {uses[transpose]} readers")
    return moved


def _composed(outer: Transpose, inner: Transpose) -> Node:
    permutation = tuple(inner.permutation[k] for k in outer.permutation)
    if permutation == tuple(range(len(permutation))):
        return inner.x
    return Transpose(inner.x, permutation=permutation, origin=merged_origin(inner, outer))


def _over_source(node: Node, transpose: Transpose) -> Node | None:
    """The node over what its transposed operands are transposes of, and the transpose after it."""
    permutation = transpose.permutation
    changes = _attributes(node, permutation)
    if changes is None:
        return None
    if max(o.type.rank for o in node.operands) > len(permutation):
        return skip(f"operands of {node.opname} have a higher rank than the transpose")
    sources = [_source(o, permutation, node) for o in node.operands]
    if any(s is None for s in sources):
        return None
    moved = node.replace(**changes, **({"inputs": tuple(sources)} if isinstance(node, Pointwise | Concat) else {"x": sources[0]}))
    after = _remaining(node, permutation)
    return moved if after == tuple(range(len(after))) else Transpose(moved, permutation=after, origin=transpose.origin)


def _attributes(node: Node, permutation: Permutation) -> dict[str, Any] | None:
    """What the attributes are over the source, whose axis `permutation[k]` is axis k of the operand; None: transposes stop here."""
    match node:
        case Pointwise():
            return {}
        case Concat() | Softmax() | CumSum():
            return {"axis": permutation[node.axis]}
        case Reduce():
            return {"axes": tuple(sorted(permutation[a] for a in node.axes))}
        case Pad() | Slice():
            return {f.name: _on_source(getattr(node, f.name), permutation) for f in node.attributes if f.name in PER_AXIS}
        case Resize(roi=None):
            return {f.name: _on_source(getattr(node, f.name), permutation) for f in node.attributes if f.name in PER_AXIS}
    return None


def _on_source(entries: tuple[Any, ...], permutation: Permutation) -> tuple[Any, ...]:
    """Entries for the axes of an operand, in the order of the axes of its source."""
    return tuple(entries[permutation.index(axis)] for axis in range(len(permutation)))


def _remaining(node: Node, permutation: Permutation) -> Permutation:
    """The transpose that is left after the node: without the axes that a reduction takes away."""
    if not isinstance(node, Reduce) or node.keepdims:
        return permutation
    left = [p for axis, p in enumerate(permutation) if axis not in node.axes]
    return tuple(sorted(left).index(p) for p in left)


def _source(operand: Node, permutation: Permutation, node: Node) -> Node | None:
    """What the operand is the transpose of, if that costs nothing to know."""
    if isinstance(operand, Transpose) and operand.permutation == permutation:
        return operand.x
    shape = (1,) * (len(permutation) - operand.type.rank) + operand.type.shape
    wide = [axis for axis in range(len(shape)) if shape[permutation.index(axis)] > 1]
    moved = _on_source(shape, permutation)
    if isinstance(operand, Constant):
        inverse = tuple(permutation.index(axis) for axis in range(len(permutation)))
        return operand.replace(data=operand.data.reshape(shape).transpose(inverse))
    if [permutation.index(axis) for axis in wide] == sorted(permutation.index(axis) for axis in wide):
        return operand if moved == shape else Reshape(operand, shape=moved)
    return skip(f"operand {operand.type} of {node.opname} is not transposed")
