"""Where every value lives: in the arena, among the constants, in the caller's arrays, or inside another value."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ...engine.graph import Constant, Graph, Input, Node, Result
from ...engine.memory import Buffer, aligned, assign, lower_bound
from ...engine.ops import Concat, Pointwise, Reorder, Reshape, Slice
from .location import ARENA, CONSTANTS, FIRST_INPUT, Location


def result_offset(node: Node, index: int) -> int:
    """Where the i-th result of a node with several starts in the node's memory, in bytes; each is aligned to a cache line."""
    return sum(aligned(kind.nbytes) for kind in node.types[:index])


def memory_size(node: Node) -> int:
    """Bytes of the array, or of all arrays, that a node makes."""
    return result_offset(node, len(node.types)) if len(node.types) > 1 else node.type.nbytes


def aliases(graph: Graph, alignment: int = 1) -> dict[Node, tuple[Node, int]]:
    """Nodes whose value already lies inside another value: node → (that value, bytes from its start, a multiple of `alignment`)."""
    found: dict[Node, tuple[Node, int]] = {}
    for node in graph:
        if (inside := _inside(node)) and inside[1] % alignment == 0:
            found[node] = inside
    _write_into_concat(graph, found, alignment)
    return found


def _inside(node: Node) -> tuple[Node, int] | None:
    match node:
        case Result(inner):
            return inner, result_offset(inner, node.index)
        case Reshape(x) if x.type.layout == node.type.layout:
            return x, 0
        case Reorder(x) if same_bytes(x, node):
            return x, 0
        case Slice(x) if (offset := contiguous_offset(node)) is not None:
            return x, offset
    return None


def same_bytes(x: Node, y: Node) -> bool:
    """Whether a plain and a blocked value of one shape are the same bytes: the blocked axis is last, or all else is 1, and full."""
    layout = x.type.layout or y.type.layout
    if layout is None or layout.pitch or (x.type.layout and y.type.layout):
        return x.type.layout == y.type.layout
    shape = x.type.shape
    return shape[layout.axis] % layout.block == 0 and math.prod(shape[layout.axis + 1 :]) == 1


def contiguous_offset(node: Slice) -> int | None:
    """Bytes from the start of x to the slice, where the slice is one piece of x's memory."""
    x, layout = node.x.type, node.x.type.layout
    cut = [i for i in range(x.rank) if not node.keeps(i)]
    if layout != node.type.layout or not cut:
        return 0 if layout == node.type.layout else None
    axis = cut[0]
    if len(cut) > 1 or math.prod(x.shape[:axis]) != 1 or node.steps[axis] != 1:
        return None
    if layout is None:
        return node.starts[axis] * math.prod(x.shape[axis + 1 :]) * x.dtype.itemsize
    whole = node.sizes[axis] % layout.block == 0 or node.starts[axis] + node.sizes[axis] == x.shape[axis]
    if layout.axis != axis or node.starts[axis] % layout.block or not whole:
        return None
    return node.starts[axis] // layout.block * math.prod(x.physical_shape[axis + 1 :]) * x.dtype.itemsize


def _write_into_concat(graph: Graph, found: dict[Node, tuple[Node, int]], alignment: int) -> None:
    """Operands of a Concat that can be computed in their place inside its result."""
    outputs = set(graph.outputs)
    for node in graph:
        if not isinstance(node, Concat):
            continue
        for operand, offset in zip(node.inputs, concat_offsets(node), strict=True):
            free = not isinstance(operand, Input | Constant) and operand not in found and operand not in outputs
            if offset is not None and offset % alignment == 0 and free and len(operand.types) == 1 and node.inputs.count(operand) == 1:
                found[operand] = node, offset


def concat_offsets(node: Concat) -> list[int | None]:
    """For each operand the bytes from the start of the result, where it is one piece of it; None where it is scattered."""
    result, layout, offsets = node.type, node.type.layout, list[int | None]()
    position = 0
    for operand in node.inputs:
        extent = operand.type.shape[node.axis]
        inner = math.prod(result.physical_shape[node.axis + 1 :]) * result.dtype.itemsize
        one_piece = math.prod(result.shape[: node.axis]) == 1 and operand.type.layout == layout
        if one_piece and layout is None:
            offsets.append(position * inner)
        elif one_piece and layout is not None and layout.axis == node.axis:
            last = position + extent == result.shape[node.axis]
            aligned = position % layout.block == 0 and (extent % layout.block == 0 or last)
            offsets.append(position // layout.block * inner if aligned else None)
        elif one_piece and layout is not None and layout.axis > node.axis:
            offsets.append(position * inner)
        else:
            offsets.append(None)
        position += extent
    return offsets


class Storage:
    """The location of every value of a graph whose steps run in the order of its nodes; each is a multiple of `alignment`.

    `parts`: values that somebody writes into others himself, perhaps not in one piece; for each that other value, which then lives
    from its first part on, and the bytes to where the part starts.
    """

    def __init__(self, graph: Graph, alignment: int = 1, parts: Mapping[Node, tuple[Node, int]] | None = None) -> None:
        self.graph = graph
        self.constants: dict[Node, int] = {}
        """Where each Constant lies; filled in once the steps are known."""
        self.inside = aliases(graph, alignment) | dict(parts or {})
        self._reuse_operands()
        self._outputs = self._direct_outputs()
        self._offsets, self.arena_size, self.live_bound = self._assign()

    def root(self, node: Node) -> tuple[Node, int]:
        """The value whose memory the node lies in, and the bytes from its start."""
        offset = 0
        while node in self.inside:
            node, more = self.inside[node]
            offset += more
        return node, offset

    def __getitem__(self, node: Node) -> Location:
        root, offset = self.root(node)
        if isinstance(root, Constant):
            return Location(CONSTANTS, self.constants[root] + offset)
        if isinstance(root, Input):
            return Location(FIRST_INPUT + self.graph.inputs.index(root), offset)
        if root in self._outputs:
            return Location(FIRST_INPUT + len(self.graph.inputs) + self._outputs[root], offset)
        return Location(ARENA, self._offsets[root] + offset)

    def is_view(self, node: Node) -> bool:
        """Whether the node is only another way to look at memory, so that no step computes it.

        What could be that, but is not aligned, may lie in a Concat instead, to which a step brings it.
        """
        return node in self.inside and self.inside[node] == _inside(node)

    def copied_outputs(self) -> list[int]:
        """Positions of the outputs that are not computed in the caller's array: inputs, constants, parts of others, repeated ones."""
        return [i for i, o in enumerate(self.graph.outputs) if self._outputs.get(o) != i]

    def _direct_outputs(self) -> dict[Node, int]:
        direct: dict[Node, int] = {}
        for i, node in enumerate(self.graph.outputs):
            if self.root(node)[0] is node and not isinstance(node, Input | Constant):
                direct.setdefault(node, i)
        return direct

    def _last_reads(self) -> dict[Node, int]:
        last = {node: i for i, node in enumerate(self.graph.nodes)}
        for i, node in enumerate(self.graph.nodes):
            for operand in node.operands:
                last[operand] = max(last[operand], i)
        for node in self.graph.outputs:
            last[node] = len(self.graph.nodes)
        return last

    def _reuse_operands(self) -> None:
        """A Pointwise result takes the memory of an operand that nobody reads afterwards, where they have one type."""
        last = self._root_last_reads(self._last_reads())
        outputs = set(self.graph.outputs)
        for i, node in enumerate(self.graph.nodes):
            if not isinstance(node, Pointwise) or node in self.inside or node in outputs:
                continue
            for operand in node.inputs:
                root = self.root(operand)[0]
                fits = operand.type == node.type and memory_size(root) == node.type.nbytes and not isinstance(root, Input | Constant)
                alone = all(o is operand or self.root(o)[0] is not root for o in node.inputs)
                if fits and alone and last[root] == i:
                    self.inside[node] = root, 0
                    last[root] = last[node]
                    break

    def _root_last_reads(self, last: dict[Node, int]) -> dict[Node, int]:
        """The last read of any value that lies in each root."""
        joined = dict(last)
        for node in self.graph.nodes:
            root = self.root(node)[0]
            joined[root] = max(joined[root], last[node])
        return joined

    def _assign(self) -> tuple[dict[Node, int], int, int]:
        last, first = self._last_reads(), dict[Node, int]()
        ends = dict[Node, int]()
        for i, node in enumerate(self.graph.nodes):
            root = self.root(node)[0]
            first.setdefault(root, i)
            ends[root] = max(ends.get(root, i), last[node])
        roots = [r for r in first if not isinstance(r, Input | Constant) and r not in self._outputs]
        buffers = [Buffer(memory_size(r), first[r], ends[r]) for r in roots]
        offsets, total = assign(buffers)
        return dict(zip(roots, offsets, strict=True)), total, lower_bound(buffers)
