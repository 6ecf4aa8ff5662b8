"""Random networks on the cpu backend against float64: on every target and several threads, twice, in memory that holds NaN before.

Whatever a kernel reads before somebody wrote it, in padding lanes too, reaches the results as NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from cpu_harness import TARGETS
from random_networks import RandomNetwork

import tilewright as tw
from tilewright.backends.cpu import executable
from tilewright.backends.cpu.arena import Arena
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.kernel import Call, Machine, NoKernel, lower
from tilewright.backends.cpu.running import Runner
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Graph, Input, Node
from tilewright.engine.ops import Concat, Conv, Pointwise, Reorder, Reshape, Slice

SEEDS = range(60)
F2, F4, F8 = (np.dtype(kind) for kind in ("f2", "f4", "f8"))
EPSILONS = {F2: 1e-3, F4: 5e-5, F8: 1e-10}


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run begins with an arena and scratch memory full of NaN."""
    take = Runner.take_context

    def poisoned(self: Runner) -> tuple[Arena, Arena]:
        context = take(self)
        for arena in context:
            arena.view(0, np.dtype(np.uint8), (arena.nbytes,))[:] = 0xFF
        return context

    monkeypatch.setattr(Runner, "take_context", poisoned)


def values_of(graph: Graph, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(i.type.shape).astype(i.type.dtype) for i in graph.inputs]


def expected(graph: Graph, inputs: Sequence[np.ndarray]) -> dict[str, tuple[np.ndarray, float]]:
    """Each output in float64, and how far off it may be: a network that cancels large numbers loses digits in NumPy too."""
    wide, narrow = evaluate(widen(graph), inputs), evaluate(graph, inputs)
    allowed = [EPSILONS[n.dtype] * max(1e-2, np.abs(w).max()) + 50 * np.abs(w - n).max() for w, n in zip(wide, narrow, strict=True)]
    return dict(zip(graph.output_names, zip(wide, allowed, strict=True), strict=True))


def check(seed: int, size: int, dtype: np.dtype = F4) -> None:
    graph = widen(RandomNetwork(seed, size).graph(), F4, dtype)
    inputs = values_of(graph, seed)
    given = {i.name: a for i, a in zip(graph.inputs, inputs, strict=True)}
    wanted = expected(graph, inputs)
    for number, passes in enumerate(((), None)):
        target, threads = TARGETS[(seed + number) % len(TARGETS)], 1 + (seed // 2 + number) % 3
        session = tw.compile(graph, passes=passes, target=target, threads=threads)
        for _ in range(2):
            found = session.run(given)
            for name, (want, allowed) in wanted.items():
                what = f"seed {seed}: {name} on {target}, {threads} threads, passes {passes}"
                np.testing.assert_allclose(found[name], want, rtol=0, atol=allowed, err_msg=what)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_agree_with_float64(seed: int) -> None:
    check(seed, 24)


@pytest.mark.parametrize("dtype", [F2, F8], ids=str)
@pytest.mark.parametrize("seed", range(60, 70))
def test_other_precisions(seed: int, dtype: np.dtype) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        check(seed, 24, dtype)


@pytest.mark.parametrize("seed", range(100, 115))
def test_any_node_may_fall_back(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)

    def reluctant(node: Node, machine: Machine) -> list[Call]:
        if rng.random() < 0.3:
            raise NoKernel("today not")
        return lower(node, machine)

    monkeypatch.setattr(executable, "lower", reluctant)
    check(seed, 24)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(10_000, 10_400))
def test_many_larger_random_networks_agree_with_float64(seed: int) -> None:
    check(seed, 60)


def test_random_networks_share_memory_in_every_way() -> None:
    """The sample would prove little if it never met a view, a value computed inside a concat or one that takes over another's memory."""
    met: set[str] = set()
    for seed in SEEDS:
        plan = tw.compile(RandomNetwork(seed).graph(), passes=()).executable
        assert isinstance(plan, NativeExecutable)
        for node, (root, offset) in plan.storage.inside.items():
            met.add(kind_of_sharing(node, root) + (" past its start" if offset else ""))
    assert met >= {
        *("view of input", "view of input past its start", "view of computed", "view of computed past its start", "in place"),
        *("inside concat", "inside concat past its start", "concat inside concat"),
    }


def kind_of_sharing(node: Node, root: Node) -> str:
    """How a value lies in another one's memory."""
    if isinstance(root, Concat) and node in root.inputs:
        return "concat inside concat" if isinstance(node, Concat) else "inside concat"
    if isinstance(node, Reshape | Reorder | Slice):
        return f"view of {'input' if isinstance(root, Input) else 'computed'}"
    return "in place" if isinstance(node, Pointwise) else type(node).__name__


def test_poison_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its last step, a plan leaves NaN behind."""
    graph = next(g for seed in SEEDS if (g := RandomNetwork(seed).graph()).find(Conv))
    plan = tw.compile(graph, passes=()).executable
    assert isinstance(plan, NativeExecutable)
    first = plan.segments[0]
    assert isinstance(first, range)
    monkeypatch.setattr(plan, "segments", [range(first.start + 1, first.stop)])
    results = plan.run(values_of(graph, 0))
    assert any(np.isnan(r).any() for r in results)
