"""Random networks on the emulated GPU against float64: arena, scratch memory and layouts under every operator.

The emulator's memory holds NaN where nobody wrote, padding lanes too, and is surrounded by pages that end a kernel which touches them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from cuda_harness import needs_compiler
from random_networks import RandomNetwork

import tilewright as tw
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Graph

pytestmark = needs_compiler
F2, F4 = np.dtype(np.float16), np.dtype(np.float32)
EPSILONS = {F2: 4e-3, F4: 5e-5}


def expected(graph: Graph, inputs: Sequence[np.ndarray]) -> list[tuple[np.ndarray, float]]:
    """Each output in float64, and how far off it may be: a network that cancels large numbers loses digits in NumPy too."""
    wide, narrow = evaluate(widen(graph), inputs), evaluate(graph, inputs)
    return [(w, EPSILONS[n.dtype] * max(1e-2, np.abs(w).max()) + 50 * np.abs(w - n).max()) for w, n in zip(wide, narrow, strict=True)]


def check(seed: int, size: int, dtype: np.dtype = F4) -> None:
    graph = widen(RandomNetwork(seed, size).graph(), F4, dtype)
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal(i.type.shape).astype(i.type.dtype) for i in graph.inputs]
    session = tw.compile(graph, backend="cuda_emulated")
    first = session.run({i.name: a for i, a in zip(graph.inputs, inputs, strict=True)})
    again = session.run({i.name: a for i, a in zip(graph.inputs, inputs, strict=True)})
    for (name, found), (want, allowed) in zip(first.items(), expected(graph, inputs), strict=True):
        assert found.tobytes() == again[name].tobytes(), f"network {seed}: {name} differs from run to run"
        assert np.abs(found - want).max(initial=0) <= allowed, f"network {seed}: {name} of {found.shape}"


@pytest.mark.parametrize("seed", range(3))
def test_networks(seed: int) -> None:
    check(seed, 12)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(100, 160))
def test_larger_networks(seed: int) -> None:
    check(seed, 30)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(200, 220))
def test_networks_in_float16(seed: int) -> None:
    check(seed, 20, F2)
