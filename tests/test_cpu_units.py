"""Units of work are independent: done one by one, in any order and by any thread, they give the same bits."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest
from cpu_harness import TARGETS
from random_networks import RandomNetwork

import tilewright as tw
from tilewright.backends.cpu.program import Program

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3)


def one_by_one(program: Program, bases: Sequence[int], first: int, last: int, rng: np.random.Generator) -> int:
    """Program.run_range with every unit by itself; how many there were."""
    memory, done = (ctypes.c_int64 * len(bases))(*bases), 0
    for step in range(first, last):
        address, args, units, _ = program._table[4 * step : 4 * step + 4]
        for unit in rng.permutation(units).tolist():
            KERNEL(address)(args, ctypes.addressof(memory), unit, unit + 1, int(rng.integers(program.threads)))
        done += units
    return done


@pytest.mark.parametrize("seed", range(218, 230))
def test_units_in_any_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, rng = RandomNetwork(seed, 40).graph(), np.random.default_rng(seed)
    given = {i.name: rng.standard_normal(i.type.shape).astype(np.float32) for i in graph.inputs}
    session = tw.compile(graph, target=TARGETS[seed % len(TARGETS)], threads=3)
    expected, done = session.run(given), list[int]()
    monkeypatch.setattr(Program, "run_range", lambda *range_: done.append(one_by_one(*range_, rng=rng)))
    for name, array in session.run(given).items():
        np.testing.assert_array_equal(array.view(np.uint32), expected[name].view(np.uint32))
    assert sum(done) > 2 * len(graph.nodes)
