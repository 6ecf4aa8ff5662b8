"""Which tile of outputs a register-blocked kernel keeps in registers: the choice as data, by a model of its inner loop."""

from __future__ import annotations

import dataclasses as dc
import functools
from collections.abc import Iterator


@dc.dataclass(frozen=True)
class Tile:
    """`pixels` neighbouring outputs of `vectors` channel vectors each."""

    pixels: int
    vectors: int

    @property
    def accumulators(self) -> int:
        return self.pixels * self.vectors


@dc.dataclass(frozen=True)
class TileProblem:
    """What the choice depends on."""

    row: int
    """Outputs in one row."""
    vectors: int
    """Channel vectors that share their input."""
    depth: int
    """Multiply-adds behind one output."""
    registers: int
    is_all: bool = False
    """Whether there is only this row."""


def candidates(problem: TileProblem) -> Iterator[Tile]:
    """Every tile that leaves registers for one vector of weights each and a broadcast input."""
    for vectors in range(1, min(8, problem.vectors) + 1):
        for pixels in range(1, min(28, problem.row) + 1):
            if pixels * vectors + vectors + (1 if vectors > 1 else 2) <= problem.registers:
                yield Tile(pixels, vectors)


@functools.lru_cache(maxsize=4096)
def choose_tile(problem: TileProblem) -> Tile:
    """The tile with the least estimated time."""
    return min(candidates(problem), key=lambda tile: (estimate(problem, tile), -tile.accumulators))


def best_tiles(problem: TileProblem, count: int) -> list[Tile]:
    """The tiles with the least estimated times, which are worth measuring."""
    return sorted(candidates(problem), key=lambda tile: (estimate(problem, tile), -tile.accumulators))[:count]


def even_tile(problem: TileProblem, pixels: int = 0) -> Tile:
    """One vector wide, for kernels whose inputs come in vectors: equal parts of a row, of about that many pixels."""
    tiles = -(-problem.row // (pixels or problem.registers * 3 // 8))
    return Tile(-(-problem.row // tiles), 1)


def even_tiles(problem: TileProblem, count: int) -> list[Tile]:
    """All tiles of that kind, those like the rule's first."""
    by_rule = even_tile(problem)
    found = {even_tile(problem, pixels) for pixels in range(problem.registers // 8, problem.registers * 3 // 4 + 1)}
    return sorted(found, key=lambda tile: (abs(tile.pixels - by_rule.pixels), tile.pixels))[:count]


PIPES = 2
"""FMAs, and loads, that a core starts in one cycle. A core with one pipe for its widest vectors sees the same order of tiles."""
LATENCY = 4
"""Cycles before the result of an FMA can be used: fewer accumulators than pipes × latency leave pipes idle."""
STREAM = 2
"""Cycles for one vector of weights to arrive that no other tile of the row has read before."""
TILE_OVERHEAD = 30
"""Cycles to start and finish a tile besides its multiply-adds."""
STEP_OVERHEAD = 3000
"""Cycles for a step of its own, which channel vectors that are left over need: another share for each thread, another wait."""


def estimate(problem: TileProblem, tile: Tile) -> float:
    """Cycles for all channel vectors of a row: whole tiles, a narrower last one, and the channel vectors that are left over."""
    tiles, last = divmod(problem.row, tile.pixels)
    groups, rest = divmod(problem.vectors, tile.vectors)
    return (STEP_OVERHEAD if rest and problem.is_all else 0) + sum(
        across * along * _tile_time(problem, pixels, vectors)
        for across, vectors in ((groups, tile.vectors), (1, rest))
        for along, pixels in ((tiles, tile.pixels), (1, last))
        if pixels and vectors
    )


def _tile_time(problem: TileProblem, pixels: int, vectors: int) -> float:
    work = pixels * vectors
    weights_from_l2 = 0.5 * vectors / pixels
    arrival = STREAM * vectors if pixels == problem.row else 0
    per_step = max(work / PIPES, (pixels + vectors) / PIPES, arrival, LATENCY) + weights_from_l2
    return problem.depth * per_step + work + TILE_OVERHEAD
