"""reshape(transpose(reshape(x)))  =>  gather(x): a chain of data movement  =>  one reshape, transpose, slice or gather of its source

The chain is run on the numbers of the source's elements, and what comes out is compared with what each of these would give.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from ..engine.graph import Constant, Node, Uses
from ..engine.ops import Gather, Reshape, Slice, Transpose
from ..engine.rewrite import merged_origin, skip

LARGEST = 1 << 22
"""Elements of a source beyond which numbering them would cost more than it brings."""
COST = {Reshape: 1, Slice: 2, Transpose: 3, Gather: 4}


def simplify_movement(node: Node, uses: Uses) -> Node | None:
    chain = _chain(node)
    for length in range(len(chain), 0, -1):
        links, source = chain[:length], chain[length - 1].operands[0]
        made = _simplest(links, source)
        if made is not None and _cost(made, source) < _present_cost(links, uses):
            return made if made is source else made.replace(origin=merged_origin(*reversed(links)))
    return None


def _present_cost(links: list[Node], uses: Uses) -> float:
    """The cost of a chain, last link first; what others read too is shared with them."""
    return COST[type(links[0])] + sum(COST[type(link)] / uses[link] for link in links[1:])


def _cost(made: Node, source: Node) -> float:
    return 0 if made is source else COST[type(made)] + _cost(made.operands[0], source)


def _chain(node: Node) -> list[Node]:
    """The node and the data movement before it, last first."""
    chain = []
    while _moves(node):
        chain.append(node)
        node = node.operands[0]
    return chain


def _moves(node: Node) -> bool:
    return isinstance(node, Reshape | Transpose | Slice) or (isinstance(node, Gather) and isinstance(node.indices, Constant))


def _numbers(links: list[Node], source: Node) -> np.ndarray:
    """For each element of the result the number of the element of the source that it is."""
    numbers = np.arange(source.type.size).reshape(source.type.shape)
    for link in reversed(links):
        values = {o: o.data for o in link.operands[1:] if isinstance(o, Constant)}
        numbers = link.reference(numbers, *values.values())
    return numbers


def _simplest(links: list[Node], source: Node) -> Node | None:
    """At most two nodes that do what the links do, the second one a reshape."""
    shape = links[0].type.shape
    if (len(links) == 1 and isinstance(links[0], Reshape | Slice)) or links[0].type.size == 0:
        return None
    if max(link.operands[0].type.size for link in links) > LARGEST:
        return skip(f"{source.type} is too large to number its elements")
    numbers = _numbers(links, source)
    made = _selection(source, numbers.reshape(-1)) or _permutation(source, numbers)
    return made if made is None or made.type.shape == shape else Reshape(made, shape=shape)


def _selection(source: Node, numbers: np.ndarray) -> Node | None:
    """source[rows, columns, ...] for a list of indices along each axis, as the source itself, a slice or a gather."""
    coordinates = np.unravel_index(numbers, source.type.shape)
    kept = [c[np.sort(np.unique(c, return_index=True)[1])] for c in coordinates]
    if math.prod(map(len, kept)) != numbers.size:
        return None
    if (np.ravel_multi_index(np.ix_(*kept), source.type.shape).reshape(-1) != numbers).any():
        return None
    partial = [a for a, (k, extent) in enumerate(zip(kept, source.type.shape, strict=True)) if not np.array_equal(k, np.arange(extent))]
    steps = [_step(k) for k in kept]
    if not partial:
        return source
    if all(steps):
        starts, sizes = tuple(int(k[0]) for k in kept), tuple(map(len, kept))
        return Slice(source, starts=starts, sizes=sizes, steps=tuple(steps))
    return Gather(source, Constant(kept[partial[0]]), axis=partial[0]) if len(partial) == 1 else None


def _step(indices: np.ndarray) -> int:
    """The distance between neighbours; 0 if it varies."""
    distances = np.diff(indices)
    return 1 if not distances.size else int(distances[0]) if (distances == distances[0]).all() else 0


def _permutation(source: Node, numbers: np.ndarray) -> Node | None:
    """The transpose of the source with the elements in this order; axes of extent 1 lie where the shape of `numbers` has them."""
    if numbers.size != source.type.size:
        return None
    ordered = np.arange(source.type.size).reshape(source.type.shape)
    wide = [a for a, extent in enumerate(source.type.shape) if extent > 1]
    for order in itertools.permutations(wide):
        permutation = _place_units(order, source.type.shape, numbers.shape)
        moved = ordered.transpose(permutation)
        if (moved.flat[:64] == numbers.flat[:64]).all() and np.array_equal(moved.reshape(-1), numbers.reshape(-1)):
            return Transpose(source, permutation=permutation)
    return None


def _place_units(order: tuple[int, ...], shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The order with the axes of extent 1 put in where `wanted` has an extent of 1, the rest of them at the end."""
    wide, units = list(order), [a for a, extent in enumerate(shape) if extent == 1]
    placed: list[int] = []
    for extent in wanted:
        from_units = extent == 1 or not wide
        if queue := units if from_units else wide:
            placed.append(queue.pop(0))
    return (*placed, *wide, *units)
