"""Arena planning: nothing that is alive at the same time overlaps, and little memory is wasted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.engine.memory import Buffer, assign, lower_bound, orders, place


def some_buffers(rng: np.random.Generator, count: int, longest: int) -> list[Buffer]:
    """Buffers of mixed sizes and lives."""
    first = rng.integers(0, max(1, count), count)
    last = first + rng.integers(0, longest, count)
    sizes = rng.choice([0, 1, 64, 100, 4096, 802816], count) + rng.integers(0, 3000, count) * rng.integers(0, 2, count)
    return [Buffer(int(n), int(a), int(b)) for n, a, b in zip(sizes, first, last, strict=True)]


def check(buffers: list[Buffer], offsets: list[int], total: int) -> None:
    """The contract of a plan."""
    assert len(offsets) == len(buffers)
    assert all(offset % 64 == 0 and offset >= 0 for offset in offsets)
    assert all(o + b.nbytes <= total for o, b in zip(offsets, buffers, strict=True))
    assert total >= lower_bound(buffers)
    used = [(o, o + b.nbytes, b.first, b.last) for o, b in zip(offsets, buffers, strict=True) if b.nbytes]
    for x, y in itertools.combinations(used, 2):
        alive_together = x[2] <= y[3] and y[2] <= x[3]
        assert not (alive_together and x[0] < y[1] and y[0] < x[1]), f"{x} and {y} overlap"


lives = st.tuples(st.integers(0, 5000), st.integers(0, 60), st.integers(0, 40)).map(lambda t: Buffer(t[0], t[1], t[1] + t[2]))


@settings(max_examples=150, deadline=None)
@given(st.lists(lives, max_size=40))
def test_live_buffers_never_overlap(buffers: list[Buffer]) -> None:
    check(buffers, *assign(buffers))


@settings(max_examples=50, deadline=None)
@given(st.lists(lives, min_size=1, max_size=40))
def test_the_best_of_the_four_orders_is_kept(buffers: list[Buffer]) -> None:
    assert assign(buffers)[1] == min(place(buffers, order)[1] for order in orders(buffers))


@settings(max_examples=50, deadline=None)
@given(st.lists(lives, max_size=30))
def test_lower_bound_is_the_fullest_step(buffers: list[Buffer]) -> None:
    at = [sum(-(-b.nbytes // 64) * 64 for b in buffers if b.first <= step <= b.last) for step in range(101)]
    assert lower_bound(buffers) == max(at)


def test_no_order_is_always_the_best(rng: np.random.Generator) -> None:
    """Else three of them could go."""
    won = set()
    for _ in range(400):
        buffers = some_buffers(rng, 14, 6)
        totals = [place(buffers, order)[1] for order in orders(buffers)]
        if totals.count(min(totals)) == 1:
            won.add(totals.index(min(totals)))
    assert won == {0, 1, 2, 3}


def test_a_chain_needs_two_buffers() -> None:
    chain = [Buffer(1000, step, step + 1) for step in range(50)]
    assert assign(chain)[1] == 2 * 1024


def test_a_gap_is_filled_by_what_fits_it_tightest() -> None:
    whole, low, wide, middle, narrow = (Buffer(n, a, b) for n, a, b in [(64, 0, 9), (640, 0, 1), (640, 0, 9), (128, 0, 1), (64, 0, 9)])
    buffers = [whole, low, wide, middle, narrow, Buffer(100, 3, 4)]
    offsets, _ = place(buffers, range(6))
    assert offsets[5] == offsets[3], "the hole of 128 bytes, not that of 640"


def test_buffers_without_bytes_cost_nothing() -> None:
    assert assign([Buffer(0, 0, 3), Buffer(0, 1, 2)])[1] == 0
    assert assign([]) == ([], 0)


@pytest.mark.parametrize("longest", [4, 25, 300])
def test_a_network_of_two_thousand_values(rng: np.random.Generator, longest: int) -> None:
    buffers = some_buffers(rng, 2000, longest)
    offsets, total = assign(buffers)
    check(buffers, offsets, total)
    assert total <= 1.15 * lower_bound(buffers)
