"""Einsum as transposes, sums and matrix products, operand by operand."""

from __future__ import annotations

import math
import re

from ...engine.errors import ModelError
from ...engine.graph import Node
from ...engine.ops.matmul import MatMul
from ...engine.ops.reduce import Reduce
from ...engine.ops.shape import Expand, Reshape, Slice, Transpose
from .convert import Call, Results, converter

Labels = str
"""One letter an axis; those that an ellipsis stands for are digits, counted from the last."""


@converter("Einsum")
def einsum(call: Call) -> Results:
    """The sum of products over all letters that the result does not have."""
    inputs, output = _parse(call)
    node, labels = _diagonal(call[0], inputs[0])
    for position in range(1, len(inputs)):
        other, other_labels = _diagonal(call[position], inputs[position])
        needed = set(output).union(*inputs[position + 1 :])
        node, labels = _contract(node, labels, other, other_labels, needed)
    node, labels = _sum_out(node, labels, set(output))
    return _arranged(node, labels, output)


def _parse(call: Call) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result."""
    equation = call.text("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(call) or not all(re.fullmatch(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*", term) for term in (*terms, right)):
        raise ModelError(f"expected an equation over {len(call)} operands, got {equation!r}")
    hidden = [call[i].type.rank - len(term.replace("...", "")) if "..." in term else 0 for i, term in enumerate(terms)]
    if any(n < 0 for n in hidden) or max(hidden) > 9:
        raise ModelError(f"the equation {equation!r} does not fit operands of rank {[call[i].type.rank for i in range(len(call))]}")
    inputs = [term.replace("...", _digits(n)) for term, n in zip(terms, hidden, strict=True)]
    if any(len(labels) != call[i].type.rank for i, labels in enumerate(inputs)):
        raise ModelError(f"the equation {equation!r} does not fit operands of rank {[call[i].type.rank for i in range(len(call))]}")
    letters = "".join(terms).replace(".", "")
    implied = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    output = (right if arrow else implied).replace("...", _digits(max(hidden)))
    if len(set(output)) != len(output) or set(output) - set("".join(inputs)):
        raise ModelError(f"the result of {equation!r} must name letters of the operands, each once")
    return inputs, output


def _digits(count: int) -> Labels:
    return "".join(str(i) for i in reversed(range(count)))


def _diagonal(node: Node, labels: Labels) -> tuple[Node, Labels]:
    """The operand without repeated letters: x[i, i] is every (n+1)-th element of the two axes seen as one."""
    while repeated := next((c for c in labels if labels.count(c) > 1), None):
        first, second = [i for i, c in enumerate(labels) if c == repeated][:2]
        rest = [i for i in range(len(labels)) if i not in (first, second)]
        lead, n = tuple(node.type.shape[i] for i in rest), node.type.shape[first]
        if node.type.shape[second] != n:
            raise ModelError(f"the letter {repeated} stands for extents {n} and {node.type.shape[second]}")
        flat = Reshape(Transpose(node, permutation=(*rest, first, second)), shape=(*lead, n * n))
        node = Slice(flat, starts=(0,) * (len(lead) + 1), sizes=(*lead, n), steps=(*(1,) * len(lead), n + 1))
        labels = "".join(labels[i] for i in rest) + repeated
    return node, labels


def _sum_out(node: Node, labels: Labels, kept: set[str]) -> tuple[Node, Labels]:
    axes = tuple(i for i, c in enumerate(labels) if c not in kept)
    if not axes:
        return node, labels
    return Reduce(node, kind="sum", axes=axes, keepdims=False), "".join(c for c in labels if c in kept)


def _contract(a: Node, a_labels: Labels, b: Node, b_labels: Labels, needed: set[str]) -> tuple[Node, Labels]:
    """One matrix product: (batch, rows, summed) @ (batch, summed, columns)."""
    a, a_labels = _sum_out(a, a_labels, needed | set(b_labels))
    b, b_labels = _sum_out(b, b_labels, needed | set(a_labels))
    a, b = _matched(a, a_labels, b, b_labels)
    shared = [c for c in a_labels if c in b_labels]
    batch = "".join(c for c in shared if c in needed)
    summed = "".join(c for c in shared if c not in needed)
    rows = "".join(c for c in a_labels if c not in shared)
    columns = "".join(c for c in b_labels if c not in shared)
    extent = dict(zip(a_labels + b_labels, a.type.shape + b.type.shape, strict=True))
    sizes = {group: math.prod(extent[c] for c in group) for group in (batch, summed, rows, columns)}
    left = Reshape(_arranged(a, a_labels, batch + rows + summed), shape=(sizes[batch], sizes[rows], sizes[summed]))
    right = Reshape(_arranged(b, b_labels, batch + summed + columns), shape=(sizes[batch], sizes[summed], sizes[columns]))
    labels = batch + rows + columns
    return Reshape(MatMul(left, right), shape=tuple(extent[c] for c in labels)), labels


def _matched(a: Node, a_labels: Labels, b: Node, b_labels: Labels) -> tuple[Node, Node]:
    """Both operands with an extent of 1 repeated where the other has more under the same letter."""
    a_extent, b_extent = dict(zip(a_labels, a.type.shape, strict=True)), dict(zip(b_labels, b.type.shape, strict=True))
    for c in a_extent.keys() & b_extent.keys():
        if a_extent[c] != b_extent[c] and 1 not in (a_extent[c], b_extent[c]):
            raise ModelError(f"the letter {c} stands for extents {a_extent[c]} and {b_extent[c]}")
    a_shape = tuple(max(n, b_extent.get(c, 1)) for c, n in a_extent.items())
    b_shape = tuple(max(n, a_extent.get(c, 1)) for c, n in b_extent.items())
    return (a if a_shape == a.type.shape else Expand(a, shape=a_shape)), (b if b_shape == b.type.shape else Expand(b, shape=b_shape))


def _arranged(node: Node, labels: Labels, wanted: Labels) -> Node:
    return node if labels == wanted else Transpose(node, permutation=tuple(labels.index(c) for c in wanted))
