"""What the cpu backend asks where it has a choice, and that no bit depends on what it must not."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pytest
from cpu_harness import TARGETS

import tilewright as tw
from tilewright.backends.common.choices import Question, Schedules
from tilewright.backends.common.schedule import Tile
from tilewright.backends.common.winograd import HARMLESS_POINTS, WinogradProblem, choose, worth_measuring
from tilewright.backends.cpu import cpu
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.engine.backend import Options
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv, ConvTranspose, pointwise


class Everywhere(Schedules):
    """Answers every question with the candidate at `index`, with the rule's where there are not so many; remembers the questions."""

    def __init__(self, index: int = 10**6) -> None:
        self.index = index
        self.questions: list[Question] = []

    def choose(self, problem: Hashable, rule: Callable[[], Any], candidates: Callable[[], Sequence[Any]]) -> Any:
        found = tuple(candidates())
        if len(found) > 1:
            self.questions.append(Question(problem, rule(), found))
        return found[self.index] if self.index < len(found) else rule()


CASES: dict[str, dict[str, Any]] = {
    "padded": {"pads": ((1, 1), (1, 2))},
    "pointwise": {"kernel": (1, 1)},
    "strided": {"strides": (2, 2), "pads": ((1, 0), (2, 1))},
    "dilated": {"dilations": (2, 1)},
    "grouped": {"groups": 2, "pads": ((0, 1), (1, 1))},
    "depthwise": {"groups": 40, "outputs": 40, "strides": (2, 1), "pads": ((0, 1), (2, 1))},
    "three channels": {"channels": 3, "pads": ((1, 1), (1, 1))},
    "transposed": {"operator": ConvTranspose, "strides": (2, 2), "pads": ((1, 0), (0, 1))},
}


def single(
    images: int = 1,
    channels: int = 40,
    operator: type[Conv | ConvTranspose] = Conv,
    kernel: tuple[int, int] = (3, 3),
    groups: int = 1,
    outputs: int = 72,
    **how: Any,
) -> Graph:
    """relu of a convolution of 13 x 11 positions; always the same weights."""
    rng = np.random.default_rng(7)
    x = Input(name="x", shape=(images, channels, 13, 11))
    shape = (outputs, channels // groups) if operator is Conv else (channels, outputs // groups)
    weight, bias = rng.standard_normal((*shape, *kernel), np.float32), rng.standard_normal(outputs, np.float32)
    node = operator(x, Constant(weight), Constant(bias), groups=groups, **how)
    return tw.optimize(Graph((x,), (pointwise("relu", node),), ("y",)))


def compiled(graph: Graph, schedules: Schedules, accuracy: str = "fast", target: str | None = None, threads: int = 2) -> NativeExecutable:
    """The graph with these choices."""
    backend = cpu(Options(threads, accuracy, target=target))
    backend.machine = dc.replace(backend.machine, schedules=schedules)
    executable = backend.compile(graph)
    assert isinstance(executable, NativeExecutable)
    return executable


def asked(graph: Graph, accuracy: str = "fast", threads: int = 2) -> list[Question]:
    """What the rule is asked."""
    schedules = Everywhere()
    compiled(graph, schedules, accuracy, threads=threads)
    return schedules.questions


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_tile_changes_no_bit(rng: np.random.Generator, target: str, case: str) -> None:
    graph = single(**CASES[case])
    x = rng.standard_normal(graph.inputs[0].shape, np.float32)
    plans, results = set(), []
    for index in (0, 1, 2, 5, 11):
        executable = compiled(graph, Everywhere(index), "exact", target)
        plans.add(repr([step.call and step.call.kernel for step in executable.steps]))
        results += executable.run([x])
    assert len(plans) > 2
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0], strict=True)


@pytest.mark.parametrize("accuracy", ["fast", "exact"])
@pytest.mark.parametrize("case", CASES)
def test_questions_know_neither_batch_nor_threads(case: str, accuracy: str) -> None:
    first, *others = ([q.key for q in asked(single(n, **CASES[case]), accuracy, threads)] for n in (1, 8) for threads in (1, 2))
    assert first and all(keys == first for keys in others)


@pytest.mark.parametrize("case", ["padded", "strided", "dilated"])
def test_a_tiling_knows_neither_batch_nor_threads(rng: np.random.Generator, case: str) -> None:
    """Every tiling that may be chosen gives an image the same bits alone and among others, on any number of threads."""
    one, eight = single(1, **CASES[case]), single(8, **CASES[case])
    x = rng.standard_normal(eight.inputs[0].shape, np.float32)
    wanted, found = evaluate(widen(eight), [x])[0], list[np.ndarray]()
    for index in range(5):
        alone = [compiled(one, Everywhere(index)).run([image[None]])[0] for image in x[:2]]
        for threads in (1, 3):
            (together,) = compiled(eight, Everywhere(index), threads=threads).run([x])
            np.testing.assert_array_equal(together[:2], np.concatenate(alone), strict=True)
        assert np.abs(together - wanted).max() <= 4e-5 * np.abs(wanted).max()
        found += [together] if not any(np.array_equal(together, other) for other in found) else []
    assert len(found) > 2, "they do differ from each other"


def test_tilings_keep_to_the_accuracy() -> None:
    tilings = {accuracy: asked(single(**CASES["padded"]), accuracy)[0] for accuracy in ("fast", "strict", "exact")}
    for accuracy, most in (("fast", 14), ("strict", 6)):
        none, *others = tilings[accuracy].candidates
        assert none is None and others and all(tiling.points <= most for tiling in others)
    assert isinstance(tilings["exact"].rule, Tile), "the direct algorithm asks for a tile only"
    assert len({question.key for question in tilings.values()}) == 3


def test_no_larger_errors_than_by_rule() -> None:
    small = WinogradProblem(64, 64, 7, 7, 16, 64 * 64 * 9 * 49)
    large = WinogradProblem(64, 64, 56, 56, 16, 64 * 64 * 9 * 56 * 56)
    for problem in (small, large):
        rule = choose(problem, "fast")
        assert rule
        measured = worth_measuring(problem, "fast", 50)
        assert rule in measured and None in measured
        assert max(tiling.points for tiling in measured if tiling) == max(rule.points, HARMLESS_POINTS) < 15


def test_different_layers_ask_different_questions() -> None:
    keys = [question.key for case in CASES.values() for question in asked(single(**case), "exact")]
    assert len(set(keys)) == len(CASES) + 2, "one each; the transposed one has four phases, of which two are as large"


def test_candidates_are_tiles_of_which_the_rule_likes_the_first_best() -> None:
    for case in CASES.values():
        for question in asked(single(**case), "exact"):
            assert question.candidates[0] == question.rule and len(set(question.candidates)) == len(question.candidates) > 2
            assert all(isinstance(candidate, Tile) for candidate in question.candidates)
