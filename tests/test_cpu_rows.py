"""How the direct kernel's positions are cut into rows for threads: all of them, evenly, and hardly any twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tilewright.backends.common.geometry import Axis, Tap, segments
from tilewright.backends.common.schedule import Tile, TileProblem, choose_tile
from tilewright.backends.cpu.kernel import Table
from tilewright.backends.cpu.product import UNITS_PER_THREAD, Map, Product, even, flat_rows
from tilewright.engine import expression as ex
from tilewright.engine.graph import Input

PIXEL = 64


def pointwise_product(positions: int, depth: int) -> Product:
    """A product over one flat axis, as a 1 x 1 convolution has it."""
    x = Input(name="x", shape=(1, positions, depth))
    axis, map = Axis(positions, positions, 1, (Tap(0, 0),)), Map((PIXEL,), 0, 0, 16)
    return Product(x, x, (axis,), map, map, 1, depth, Table(np.zeros(16, np.float32)), (), ex.IDENTITY, depth)


@pytest.mark.parametrize("positions", [1, 13, 49, 64, 169, 196, 289, 784, 3137])
def test_rows_cover_every_position(positions: int) -> None:
    for tile, pieces, threads, least in itertools.product([Tile(14, 2), Tile(6, 2), Tile(9, 3)], [1, 6, 36], [1, 2, 5], [1, 3]):
        if least > positions:
            continue
        axis, rows, width = flat_rows(pointwise_product(positions, 64), tile, pieces, threads, least)
        covered = [row.x // PIXEL + j for row in rows for j in range(axis.count)]
        assert len(rows) >= least
        assert sorted(set(covered)) == list(range(positions))
        assert width <= tile.pixels
        assert all(row.x == row.y for row in rows)


@pytest.mark.parametrize("positions, pieces, threads", [(49, 6, 2), (64, 6, 2), (289, 5, 2), (196, 15, 2), (196, 3, 2), (784, 1, 3)])
def test_the_busiest_thread_has_little_more_than_its_share(positions: int, pieces: int, threads: int) -> None:
    axis, rows, _ = flat_rows(pointwise_product(positions, 512), Tile(14, 2), pieces, threads, 1)
    busiest = -(-pieces * len(rows) // threads) * axis.count
    assert busiest <= 1.04 * positions * pieces / threads


def test_one_slab_leaves_something_to_steal() -> None:
    """Where nothing is lost by it, a thread has several rows, so that another one can help it out."""
    _, rows, _ = flat_rows(pointwise_product(3136, 64), Tile(14, 2), 1, 2, 1)
    assert len(rows) >= 2 * UNITS_PER_THREAD


def test_tiles_of_a_row_are_as_wide_as_each_other() -> None:
    assert [even(length, 14) for length in (1, 14, 15, 25, 29, 49)] == [1, 14, 8, 13, 10, 13]
    axis, rows, width = flat_rows(pointwise_product(64, 192), Tile(14, 2), 6, 2, 1)
    pixels = [segment.pixels for segment in segments(axis, width)]
    assert max(pixels) - min(pixels) <= 2
    assert len(rows) * axis.count == 64


@pytest.mark.parametrize("row, vectors, depth", [(1, 63, 1280), (1, 60, 240), (1, 15, 960), (49, 15, 232)])
def test_small_products_are_one_step(row: int, vectors: int, depth: int) -> None:
    """A width that divides the channel vectors, though wider tiles would leave a few of them for a second step."""
    assert vectors % choose_tile(TileProblem(row, vectors, depth, 32, is_all=True)).vectors == 0


def test_a_rest_is_a_step_where_the_wider_tile_is_worth_it() -> None:
    assert choose_tile(TileProblem(3136, 65, 512, 32, is_all=True)).vectors > 1
