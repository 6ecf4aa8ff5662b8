"""The rules of a legal graph: what a pass that breaks one is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from passes_builder import add, given, relu

from tilewright.engine.errors import CompilerBug
from tilewright.engine.graph import Graph
from tilewright.engine.ops import Reshape, TopK
from tilewright.engine.rewrite import run_passes
from tilewright.engine.verify import verify

X = (2, 3, 4, 5)


def swapped(before: Graph) -> Graph:
    return Graph(before.inputs[::-1], before.outputs, before.output_names)


def renamed(before: Graph) -> Graph:
    return Graph(before.inputs, before.outputs, ("other",))


def another_input(before: Graph) -> Graph:
    return Graph(before.inputs, (relu(given(*X, name="z")),), before.output_names)


def another_type(before: Graph) -> Graph:
    return Graph(before.inputs, (Reshape(before.outputs[0], shape=(6, 20)),), before.output_names)


def fewer_outputs(before: Graph) -> Graph:
    return Graph(before.inputs, (), before.output_names)


def unread_results(before: Graph) -> Graph:
    best = TopK(before.outputs[0], k=1, axis=0)
    return Graph(before.inputs, (best,), before.output_names)


def tampered(before: Graph) -> Graph:
    node = relu(before.outputs[0])
    object.__setattr__(node, "types", Reshape(node, shape=(6, 20)).types)
    return Graph(before.inputs, (node,), before.output_names)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (swapped, "pass swapped changed the signature"),
        (renamed, "pass renamed changed the signature"),
        (another_input, "after another_input: input z is read but is not in the signature"),
        (another_type, r"pass another_type changed output y0 from .*f32\[2,3,4,5\].* to .*f32\[6,20\]"),
        (fewer_outputs, "after fewer_outputs: 0 outputs are named"),
        (unread_results, "after unread_results: output y0 is a node with several results"),
        (tampered, r"after tampered: .*has another type than its rule gives: f32\[2,3,4,5\]"),
    ],
)
def test_an_illegal_graph_pass_is_named(bad: Callable[[Graph], Graph], message: str) -> None:
    x, y = given(*X), given(*X, name="y")
    before = Graph((x, y), (add(x, y),), ("y0",))
    with pytest.raises(CompilerBug, match=message):
        run_passes(before, [bad])


def test_a_node_with_several_results_is_read_through_result_only() -> None:
    best = TopK(given(3, 9), k=2, axis=1)
    with pytest.raises(CompilerBug, match="top_k has 2 results; read them through Result"):
        relu(best)


def test_equal_input_names_are_illegal() -> None:
    x, y = given(*X), given(*X)
    with pytest.raises(CompilerBug, match="inputs are named"):
        verify(Graph((x, y), (add(x, y),), ("y",)))


def test_equal_output_names_are_illegal() -> None:
    x = given(*X)
    with pytest.raises(CompilerBug, match="2 outputs are named"):
        verify(Graph((x,), (relu(x), x), ("y", "y")))
