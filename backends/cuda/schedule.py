"""Which tile a matrix product gets: the candidates as data, and a model of how long each takes.

At batch 1 most layers of a network have fewer tiles than a GPU has multiprocessors. Smaller tiles and splits of K fill them; both
cost something, and the model weighs that.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import math
from collections.abc import Iterator

from .architecture import Architecture


@dc.dataclass(frozen=True)
class Tile:
    """What a block computes: `rows` positions of `columns` output channels, `depth` elements of K at a time."""

    rows: int
    columns: int
    depth: int
    stages: int
    """Stages in shared memory: one is multiplied while the others arrive."""
    parts: tuple[int, int]
    """Into how many parts rows and columns are cut: one for each thread, or for each warp where tensor cores multiply."""
    splits: int = 1
    """So many blocks share a tile, each with its part of K."""


@dc.dataclass(frozen=True)
class GemmProblem:
    """What the choice depends on: the batch, too, because it decides how many tiles there are."""

    product: str
    rows: int
    columns: int
    depth: int
    stack: int = 1


SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
SIMT_TILES = {
    (128, 128): (16, 16), (128, 64): (16, 8), (64, 128): (8, 16), (64, 64): (8, 16), (64, 32): (16, 8), (32, 64): (8, 16), (32, 32): (8, 8),
}  # fmt: skip
"""Rows and columns of the tile: threads along them."""
TENSOR_TILES = {
    (128, 128): (2, 4), (128, 64): (2, 2), (64, 128): (2, 2), (64, 64): (2, 2), (64, 32): (2, 2), (32, 64): (2, 2), (32, 32): (2, 1),
}  # fmt: skip
"""Rows and columns of the tile: warps along them."""
DEPTHS = {"fp32": (32,), "tf32": (32, 16), "tf32x3": (32, 16), "bf16": (32,), "fp16": (64, 32)}
STAGES = (4, 3, 2)

TENSOR_RATE = {"fp16": 1.0, "bf16": 0.94, "tf32": 0.5, "tf32x3": 0.164}
"""The part of the tensor cores' rate in float16 that a product has; packing and splitting operands costs a little."""
EFFICIENCY = {(128, 128): 0.85, (128, 64): 0.75, (64, 128): 0.75, (64, 64): 0.65, (64, 32): 0.5, (32, 64): 0.5, (32, 32): 0.4}
"""The part of a product's rate that a tile reaches: larger ones read less shared memory for each product."""
FULL_WARPS, OCCUPANCY_EXPONENT = 12, 0.4
"""Warps that keep a multiprocessor busy all the time; fewer hide less of what each of them waits for."""
GUESSED_REGISTERS = 168
"""Of a thread."""
STAGE_CYCLES = 120
"""Of a stage besides its products: the barrier, and latencies that few warps do not hide."""
BLOCK_CYCLES = 2500
"""To start a block, wait for its first stage, and store."""
SPLIT_CYCLES, PARTIAL_BYTES = 1500, 64.0
"""Of the exchange between blocks that share a tile, and bytes of partial sums that one of them reads in a cycle."""


def fitting(problem: GemmProblem, architecture: Architecture) -> Iterator[Tile]:
    """Every candidate whose shared memory the architecture has, and whose splits have something to do."""
    tiles = SIMT_TILES if problem.product == "fp32" else TENSOR_TILES
    for (rows, columns), parts in tiles.items():
        for depth in DEPTHS[problem.product]:
            if not _threads_copy_whole_rows(problem.product, rows, columns, depth, parts):
                continue
            steps = -(-problem.depth // depth)
            for stages in _stages(_stage(problem.product, rows, columns, depth), steps, architecture):
                for splits in SPLITS:
                    if splits == 1 or splits <= steps // 2:
                        yield Tile(rows, columns, depth, stages, parts, splits)


def _stages(nbytes: int, steps: int, architecture: Architecture) -> list[int]:
    """How many stages of so many bytes a block may have: the most with which two blocks fit beside each other, and the most in 64 KiB."""
    beside = architecture.shared // 2 - architecture.reserved
    rooms = beside, max(beside, min(64 * 1024, architecture.shared_per_block))
    found = (next((s for s in STAGES if s * nbytes <= room and s <= max(2, steps + 1)), 0) for room in rooms)
    return sorted(set(found) - {0})


def _stage(product: str, rows: int, columns: int, depth: int) -> int:
    """Bytes of a stage of unprepared operands, which are the largest."""
    return depth * (rows + columns) * (2 if product == "fp16" else 4)


def _threads(product: str, parts: tuple[int, int]) -> int:
    """Of a block."""
    return math.prod(parts) * (1 if product == "fp32" else 32)


def _threads_copy_whole_rows(product: str, rows: int, columns: int, depth: int, parts: tuple[int, int]) -> bool:
    """Whether each thread copies as many chunks as the others, for the narrowest right operand there is."""
    threads = _threads(product, parts)
    left = _stage(product, rows, 0, depth) // 16
    right = depth * columns * (2 if product in ("fp16", "bf16") else 4) // 16
    return left % threads == 0 and right % threads == 0


@functools.lru_cache(maxsize=4096)
def choose_tile(problem: GemmProblem, architecture: Architecture) -> Tile:
    """The tile with the least estimated time."""
    return best_tiles(problem, architecture, 1)[0]


def best_tiles(problem: GemmProblem, architecture: Architecture, count: int) -> list[Tile]:
    """The tiles with the least estimated times, which are worth measuring."""
    by_time = sorted(fitting(problem, architecture), key=lambda t: (estimate(problem, t, architecture), t.splits, -t.stages))
    return by_time[:count]


def estimate(problem: GemmProblem, tile: Tile, architecture: Architecture) -> float:
    """Cycles until the last block ends."""
    tiles = -(-problem.rows // tile.rows) * -(-problem.columns // tile.columns) * problem.stack
    steps = -(-problem.depth // tile.depth)
    own_steps = -(-steps // tile.splits)
    blocks = -(-tiles * tile.splits // architecture.multiprocessors)
    together = min(blocks, most_together(problem.product, tile, architecture))
    warps = _threads(problem.product, tile.parts) // 32
    occupied = min(1.0, (together * warps / FULL_WARPS) ** OCCUPANCY_EXPONENT)
    rate = rate_of(problem.product, architecture) * EFFICIENCY[tile.rows, tile.columns] * occupied
    arriving = _stage(problem.product, tile.rows, tile.columns, tile.depth) / architecture.arrival
    stage = max(tile.depth * tile.rows * tile.columns / rate, arriving)
    exchange = SPLIT_CYCLES + tile.splits * tile.rows * tile.columns * 4 / PARTIAL_BYTES if tile.splits > 1 else 0.0
    alone = own_steps * STAGE_CYCLES + BLOCK_CYCLES + exchange
    return blocks * own_steps * stage + alone * blocks / together


def rate_of(product: str, architecture: Architecture) -> float:
    """Multiply-adds that a multiprocessor does in a cycle when nothing holds it up."""
    return architecture.multiply_adds if product == "fp32" else architecture.tensor_multiply_adds * TENSOR_RATE[product]


def most_together(product: str, tile: Tile, architecture: Architecture) -> int:
    """Blocks that a multiprocessor runs at a time: as many as have room for their stages and, by a guess, for their registers."""
    shared = tile.stages * _stage(product, tile.rows, tile.columns, tile.depth)
    return max(1, architecture.resident(_threads(product, tile.parts), GUESSED_REGISTERS, shared))
