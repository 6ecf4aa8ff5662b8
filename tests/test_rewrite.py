"""The rewriter: exact use counts, names, the ledger, what an illegal pass is told, and what the debug level shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from passes_builder import A, B, add, batchnorm, constant, conv, given, graph, relu

from tilewright.engine.errors import CompilerBug
from tilewright.engine.expression import IDENTITY, apply
from tilewright.engine.graph import Constant, Graph, Input, Node, Result, Uses
from tilewright.engine.knobs import knobs
from tilewright.engine.ops import Concat, MaxPool, Pointwise, Reshape, TopK, Transpose, pointwise
from tilewright.engine.rewrite import Report, _Sweep, merged_origin, only_reader, rewrite, run_passes, skip
from tilewright.engine.verify import verify

X = (2, 3, 4, 5)


def chain() -> Graph:
    return graph(relu(pointwise("exp", pointwise("neg", given(*X), origin=("neg",)), origin=("exp",))))


def exp_to_tanh(node: Node, uses: Uses) -> Node | None:
    """exp(x) => tanh(x), to have something that changes."""
    if isinstance(node, Pointwise) and node.expression == apply("exp", IDENTITY):
        return node.replace(expression=apply("tanh", IDENTITY))
    return None


# Use counts


def random_graph(rng: np.random.Generator, size: int = 40) -> Graph:
    """Sums and pairs of earlier nodes, some of them with several results, read any number of times."""
    nodes: list[Node] = [given(*X), given(*X, name="y")]
    for _ in range(size):
        one, other = (nodes[i] for i in rng.integers(max(0, len(nodes) - 8), len(nodes), 2))
        if rng.random() < 0.2:
            best = TopK(one, k=X[3], axis=3)
            nodes.append(Result(best, index=0))
        else:
            nodes.append(add(one, other) if rng.random() < 0.6 else relu(one))
    return graph(*(nodes[i] for i in rng.choice(np.arange(2, len(nodes)), 4)))


class RandomRule:
    """Replaces nodes at random by an operand, another node above, the node itself with something after it, or something new."""

    __name__ = "random_rule"

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.seen = rng, list[Node]()

    def __call__(self, node: Node, uses: Uses) -> Node | None:
        assert uses[node] > 0, "a rule is asked only about nodes that something reads"
        self.seen += [o for o in node.operands if len(o.types) == 1]
        if len(node.types) != 1 or not self.seen or self.rng.random() < 0.4:
            return None
        other = self.seen[self.rng.integers(len(self.seen))]
        choices = (self.seen[-1], other, relu(node), add(other, relu(add(other, other))), add(node, other))
        return choices[self.rng.integers(len(choices))]


@pytest.mark.parametrize("seed", range(30))
def test_use_counts_stay_exact_while_nodes_come_and_go(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = random_graph(rng)
    for _ in range(4):
        sweep = _Sweep(before, RandomRule(rng), Report())  # type: ignore[arg-type]
        after, count = sweep.run()
        assert count > 0 and verify(after)
        assert {n: c for n, c in sweep.uses.items() if c} == dict(after.uses)
        before = after


def test_use_counts_are_right_in_the_middle_of_a_sweep() -> None:
    x = given(*X)
    shared = pointwise("exp", x, origin=("shared",))
    first = pointwise("neg", shared, origin=("first",))
    second = Pointwise((first, shared), expression=A * B, origin=("second",))
    counts: dict[str, list[int]] = {}

    def rule(node: Node, uses: Uses) -> Node | None:
        if node.origin:
            counts.setdefault(node.origin[0], [uses[node], *(uses[o] for o in node.operands)])
        if node.origin == ("first",):
            return add(node.operands[0], node.operands[0])
        return exp_to_tanh(node, uses)

    rewrite(graph(pointwise("abs", second, origin=("third",))), rule)
    assert counts["shared"] == [2, 1] and counts["first"] == [1, 2]
    assert counts["second"] == [1, 1, 3], "the sum that replaced the first reader reads tanh twice"
    assert counts["third"] == [1, 1]


def test_a_rule_sees_that_a_node_lost_a_reader_earlier_in_the_same_sweep() -> None:
    x = given(*X)
    shared = pointwise("exp", x, origin=("shared",))
    unused = Pointwise((x, shared), expression=A, origin=("unused",))
    seen: list[int] = []

    def rule(node: Node, uses: Uses) -> Node | None:
        if node.origin == ("unused",):
            return x
        if node.origin == ("last",):
            seen.append(uses[shared])
        return None

    rewrite(graph(Concat((unused, pointwise("abs", shared, origin=("last",))), axis=0)), rule)
    assert seen[0] == 1


# What a rewrite makes


def test_a_replacement_takes_the_names_and_a_node_of_the_graph_keeps_its_identity() -> None:
    renamed = rewrite(chain(), lambda_rule(lambda n: Pointwise(n.operands, expression=apply("abs", A)), "exp"))
    assert [n.origin for n in renamed.find(Pointwise)] == [("neg",), ("exp",), ("relu",)]
    x = given(*X)
    unnamed = Reshape(x, shape=X)
    before = graph(relu(pointwise("neg", unnamed, origin=("neg",))), unnamed)
    after = rewrite(before, lambda_rule(lambda n: n.operands[0], "neg"))
    assert after.outputs[1] is unnamed and after.outputs[0].operands[0] is unnamed


def lambda_rule(change: Callable[[Node], Node], name: str) -> Callable[[Node, Uses], Node | None]:
    def changes_one(node: Node, uses: Uses) -> Node | None:
        if node.origin != (name,) or (isinstance(node, Pointwise) and node.expression == apply("abs", A)):
            return None
        return change(node)

    return changes_one


def test_merged_origin_keeps_every_name_once_in_order() -> None:
    x = conv(given(*X))
    assert merged_origin(x, batchnorm(x), x, relu(x)) == ("conv", "norm", "relu")


def test_a_graph_that_no_rule_changes_is_the_same_object() -> None:
    before, report = chain(), Report()
    assert rewrite(before, lambda_rule(lambda n: n, "none"), report) is before
    assert report.rewrites == {"changes_one": 0}


def test_outputs_inputs_and_several_results_can_be_replaced() -> None:
    x = given(3, 9)
    best = TopK(x, k=2, axis=1)

    def smallest(node: Node, uses: Uses) -> Node | None:
        return node.replace(largest=False) if isinstance(node, TopK) and node.largest else None

    after = rewrite(graph(Result(best, index=1), Result(best, index=0)), smallest)
    assert [node.largest for node in after if isinstance(node, TopK)] == [False]
    assert after.outputs[0].operands[0] is after.outputs[1].operands[0]
    to_input = rewrite(graph(relu(x)), lambda_rule(lambda n: n.operands[0], "relu"))
    assert to_input.outputs == (x,) and to_input.nodes == (x,)


# Reports


def test_the_ledger_names_rule_node_and_reason_and_forgets_what_no_longer_holds() -> None:
    x = conv(given(*X))
    before = graph(relu(x), x)
    report = Report()

    def fuse(node: Node, uses: Uses) -> Node | None:
        if isinstance(node, Pointwise) and only_reader(node.inputs[0], uses):
            return skip("never mind")
        return None

    rewrite(before, fuse, report)
    assert [str(d) for d in report.declined] == ["fuse: relu: conv has 2 readers"]
    one_reader = Report()
    rewrite(graph(relu(conv(given(*X)))), fuse, one_reader)
    assert [d.reason for d in one_reader.declined] == ["never mind"]

    def says_then_acts(node: Node, uses: Uses) -> Node | None:
        skip(f"seen {node.origin}")
        return exp_to_tanh(node, uses)

    changed = Report()
    rewrite(chain(), says_then_acts, changed)
    assert len(changed.declined) == 3, "what the first sweep said is dropped when the second says it again"
    assert skip("outside of a rule") is None


def test_a_pass_over_the_whole_graph_can_say_why_too() -> None:
    def looks(before: Graph) -> Graph:
        skip("nothing here")
        return before

    report = Report()
    run_passes(chain(), [looks], report)
    assert [str(d) for d in report.declined] == ["looks: graph main: nothing here"]


def test_reports_count_rewrites_and_seconds_and_print_each_reason_once() -> None:
    report = Report()

    def complain(node: Node, uses: Uses) -> Node | None:
        return skip("too green") if node.origin == ("neg",) else None

    run_passes(chain(), [exp_to_tanh, complain, complain, lambda g: g], report)
    assert report.rewrites == {"exp_to_tanh": 1, "complain": 0, "<lambda>": 0}
    assert set(report.seconds) == set(report.rewrites) and all(s >= 0 for s in report.seconds.values())
    assert str(report).splitlines()[-1] == "complain: neg: too green"
    assert str(report).count("too green") == 1


# Rules that go wrong


def to_another_shape(node: Node, uses: Uses) -> Node | None:
    return MaxPool(node.operands[0], kernel=(2, 2)) if node.origin == ("exp",) else None


def to_another_dtype(node: Node, uses: Uses) -> Node | None:
    return Constant(np.zeros(X)) if node.origin == ("exp",) else None


@pytest.mark.parametrize("rule", [to_another_shape, to_another_dtype])
def test_a_rule_that_changes_a_type_inside_the_graph_is_named_with_both_nodes(rule: Callable[[Node, Uses], Node | None]) -> None:
    with pytest.raises(CompilerBug, match=rf"pass {rule.__name__} replaced <pointwise f32\[2,3,4,5\]> by .*expected the same"):
        rewrite(chain(), rule)


def test_two_rewrites_that_undo_each_other_are_stopped() -> None:
    def back_and_forth(node: Node, uses: Uses) -> Node | None:
        if not isinstance(node, Transpose):
            return None
        return Transpose(Transpose(node.x, permutation=(1, 0)), permutation=(1, 0)) if node.permutation == (0, 1) else None

    def flip(node: Node, uses: Uses) -> Node | None:
        if isinstance(node, Pointwise):
            other = {"exp": "tanh", "tanh": "exp"}.get(getattr(node.expression, "function", ""))
            return node.replace(expression=apply(other, A)) if other else None
        return None

    settled = rewrite(graph(Transpose(given(3, 4), permutation=(0, 1))), back_and_forth)
    assert len(settled.find(Transpose)) == 2
    with pytest.raises(CompilerBug, match="pass flip still changes the graph after 32 sweeps"):
        rewrite(chain(), flip)


def test_an_error_inside_a_rule_reaches_the_caller_and_leaves_the_ledger_usable() -> None:
    def breaks(node: Node, uses: Uses) -> Node | None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        rewrite(chain(), breaks)
    assert skip("nobody is asking any more") is None


# Debugging


def dumps(passes: Sequence[Callable[..., object]], level: int, folder: str = "") -> None:
    with knobs(debug=level, debug_dir=folder):
        run_passes(chain(), passes)  # type: ignore[arg-type]


def test_debug_level_2_shows_the_graph_after_each_pass_that_changed_it(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    idle = lambda_rule(lambda n: n, "none")
    dumps([idle, exp_to_tanh], 1)
    assert capsys.readouterr().out == ""
    dumps([idle, exp_to_tanh], 2)
    shown = capsys.readouterr().out
    assert shown.startswith("--- 02_exp_to_tanh\ngraph main") and "tanh" in shown and "changes_one" not in shown
    dumps([idle, exp_to_tanh], 2, str(tmp_path))
    assert capsys.readouterr().out == ""


def test_debug_folder_gets_a_file_a_pass(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path)) / "new" / "folder"
    dumps([exp_to_tanh, lambda_rule(lambda n: n.operands[0], "neg")], 2, str(folder))
    assert sorted(p.name for p in folder.iterdir()) == ["01_exp_to_tanh.txt", "02_changes_one.txt"]
    assert "tanh(x)" in (folder / "02_changes_one.txt").read_text() and "neg" in (folder / "01_exp_to_tanh.txt").read_text()


def test_constants_are_never_asked_twice_for_inputs() -> None:
    asked: list[type[Node]] = []

    def look(node: Node, uses: Uses) -> Node | None:
        asked.append(type(node))
        return None

    rewrite(graph(add(given(*X), constant(5))), look)
    assert Input not in asked and asked.count(Constant) == 1
