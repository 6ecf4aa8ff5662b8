"""Which weights a compilation still needs: each is given up when the last node that reads it has packed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...engine.graph import Constant, Node
from ..common.storage import Storage

LARGE = 4096
"""Bytes; what is smaller stays, for the printed graph."""


class Weights:
    """The large Constants of a graph and how many nodes have yet to read each."""

    def __init__(self, nodes: Sequence[Node], outputs: Sequence[Node], storage: Storage) -> None:
        self._read = {node: self._constants(node.operands, storage) for node in nodes}
        self._readers = Counter(constant for read in self._read.values() for constant in read)
        self._readers.update(self._constants(outputs, storage))

    @staticmethod
    def _constants(values: Sequence[Node], storage: Storage) -> set[Constant]:
        roots = {storage.root(value)[0] for value in values} | set(values)
        return {r for r in roots if isinstance(r, Constant) and r.type.nbytes >= LARGE}

    def size(self, node: Node) -> int:
        """The bytes of the large Constants that a node reads."""
        return sum(constant.type.nbytes for constant in self._read[node])

    def give_up(self, node: Node) -> None:
        """The node has read its weights."""
        for constant in self._read[node]:
            self._readers[constant] -= 1
            if not self._readers[constant]:
                constant.give_up()
