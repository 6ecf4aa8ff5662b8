"""reshape(transpose(reshape(x)))  =>  gather(x): a chain of data movement  =>  one reshape, transpose, slice or gather of its source

Where some elements of the result come from suggests what the whole may be; where all of them come from decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ..engine.graph import Constant, Node, Uses
from ..engine.ops import Gather, Reshape, Slice, Transpose
from ..engine.rewrite import merged_origin, skip

LARGEST = 1 << 24
"""Elements of a result beyond which asking where each comes from takes too long."""
COST = {Reshape: 1, Slice: 2, Transpose: 3, Gather: 4}
"""What moving one element costs, by order of magnitude."""


def simplify_movement(node: Node, uses: Uses) -> Node | None:
    chain = list(_chain_above(node))
    for length in range(len(chain), 0, -1):
        links = chain[:length]
        for better in _proposals(links):
            if _cost(better, {}) < _cost(links, uses) and _same(better, links):
                return _named(better, links)
    return None


def _chain_above(node: Node) -> Iterator[Node]:
    """The node and the data movement before it, last first."""
    while isinstance(node, Reshape | Transpose | Slice) or (isinstance(node, Gather) and isinstance(node.indices, Constant)):
        yield node
        node = node.x


def _named(better: Sequence[Node], links: Sequence[Node]) -> Node:
    """The better chain on its source, every link of it under the names of all that it stands for."""
    node, origin = links[-1].operands[0], merged_origin(*reversed(links))
    for link in reversed(better):
        node = link.replace(x=node, origin=origin)
    return node


def _cost(links: Sequence[Node], uses: dict[Node, int] | Uses) -> float:
    """What a chain costs; links above the last one are shared with their other readers."""
    return sum(COST[type(link)] * link.type.size / (uses.get(link, 1) if place else 1) for place, link in enumerate(links))


def _same(one: Sequence[Node], other: Sequence[Node]) -> bool:
    size = other[0].type.size
    if size > LARGEST:
        skip(f"asking for the origin of {size} elements takes too long")
        return False
    everywhere = np.arange(size)
    return np.array_equal(_origins(one, everywhere), _origins(other, everywhere))


def _origins(links: Sequence[Node], positions: np.ndarray) -> np.ndarray:
    """The flat positions in the source of elements at flat positions of the result, through the links from last to first."""
    for link in links:
        if isinstance(link, Reshape):
            continue
        places = _unravel(positions, link.type.shape)
        match link:
            case Transpose(permutation=permutation):
                places = [places[permutation.index(axis)] for axis in range(len(places))]
            case Slice(starts=starts, steps=steps):
                places = [start + step * place for start, step, place in zip(starts, steps, places, strict=True)]
            case Gather(indices=Constant(data), axis=axis):
                end = axis + data.ndim
                chosen = data[tuple(places[axis:end])] % link.x.type.shape[axis]
                places = [*places[:axis], chosen, *places[end:]]
        positions = np.ravel_multi_index(places, link.operands[0].type.shape)
    return positions


def _unravel(positions: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    return list(np.unravel_index(positions, shape)) if shape else []


def _proposals(links: Sequence[Node]) -> Iterator[list[Node]]:
    """Chains of at most two nodes over the source, a reshape coming last, that may do what the links do."""
    shape, source = links[0].type.shape, links[-1].operands[0]
    if links[0].type.size == 0 or source.type.rank == 0:
        return
    kept = _kept(links)
    made = _selection(source, kept) if kept else _permutation(links)
    if made is not None:
        chain = [] if made is source else [made]
        yield chain if made.type.shape == shape else [Reshape(made, shape=shape), *chain]


def _kept(links: Sequence[Node]) -> list[np.ndarray] | None:
    """The indices along each axis if the result may be source[rows, columns, ...]: what lies on its first row, column, ..."""
    size, shape = links[0].type.size, links[-1].operands[0].type.shape
    kept: list[np.ndarray] = []
    stride = 1
    for axis in reversed(range(len(shape))):
        along = _unravel(_origins(links, np.arange(min(shape[axis], size // stride)) * stride), shape)
        elsewhere = sum((place != place[0] for k, place in enumerate(along) if k != axis), np.zeros(len(along[0]), bool))
        count = int(np.argmax(elsewhere)) if elsewhere.any() else len(elsewhere)
        kept.insert(0, along[axis][:count])
        stride *= count
    return kept if stride == size else None


def _selection(source: Node, kept: list[np.ndarray]) -> Node | None:
    """source[rows, columns, ...] as the source itself, a slice, or a gather along one axis."""
    partial = [a for a, (k, extent) in enumerate(zip(kept, source.type.shape, strict=True)) if not np.array_equal(k, np.arange(extent))]
    if not partial:
        return source
    steps = tuple(map(_step, kept))
    if all(steps):
        return Slice(source, starts=tuple(int(k[0]) for k in kept), sizes=tuple(map(len, kept)), steps=steps)
    return Gather(source, Constant(kept[partial[0]]), axis=partial[0]) if len(partial) == 1 else None


def _step(indices: np.ndarray) -> int:
    """The distance between neighbours; 0 if it varies."""
    distances = np.diff(indices)
    return 1 if not distances.size else int(distances[0]) if (distances == distances[0]).all() else 0


def _permutation(links: Sequence[Node]) -> Node | None:
    """The transpose of the source that has some elements where the links put them."""
    wanted, source = links[0].type, links[-1].operands[0]
    if wanted.size != source.type.size:
        return None
    some = np.unique(np.linspace(0, wanted.size - 1, 64, dtype=np.int64) // np.array([[1], [7]]))
    found = _origins(links, some)
    wide = [axis for axis, extent in enumerate(source.type.shape) if extent > 1]
    for order in itertools.permutations(wide):
        made = Transpose(source, permutation=_place_units(order, source.type.shape, wanted.shape))
        if np.array_equal(_origins([made], some), found):
            return made
    return None


def _place_units(order: tuple[int, ...], shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The order with the axes of extent 1 put in where `wanted` has an extent of 1, the rest of them at the end."""
    wide, units = list(order), [axis for axis, extent in enumerate(shape) if extent == 1]
    placed: list[int] = []
    for extent in wanted:
        if queue := units if extent == 1 or not wide else wide:
            placed.append(queue.pop(0))
    return (*placed, *wide, *units)
