"""Which tile a block of the general convolution computes: the choice as data."""

from __future__ import annotations

import dataclasses as dc
import functools

from .architecture import Architecture

LOAD_COST = 0.5
"""Of a number read from shared memory, in multiply-adds."""


@dc.dataclass(frozen=True)
class Tile:
    """`rows` output channels by `columns` positions; `depth` products of each are in shared memory at once."""

    rows: int
    columns: int
    row_run: int
    """Neighbouring rows of a thread."""
    column_run: int
    """Columns of a thread, apart from each other."""
    depth: int
    unit: int = 4
    """Channels that a thread reads at once where that can be."""

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}-{self.row_run}x{self.column_run}"

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.rows // self.row_run * (self.columns // self.column_run)

    @property
    def pitch(self) -> int:
        """Numbers from one line of positions in shared memory to the next: threads that write different lines meet different banks."""
        return self.columns + 2


TILES = (
    Tile(64, 64, 4, 4, 16),
    Tile(64, 32, 4, 4, 16),
    Tile(32, 64, 4, 4, 16),
    Tile(32, 32, 4, 2, 16),
    Tile(16, 128, 4, 4, 16),
    Tile(16, 32, 4, 1, 16),
    Tile(8, 256, 4, 4, 8),
    Tile(8, 64, 4, 1, 16),
    Tile(4, 512, 4, 4, 8),
    Tile(4, 128, 4, 1, 16),
    Tile(2, 512, 2, 4, 8),
    Tile(2, 128, 2, 1, 16),
    Tile(1, 512, 1, 4, 8),
    Tile(1, 128, 1, 1, 16),
)


@functools.lru_cache(maxsize=4096)
def choose_tile(rows: int, columns: int, copies: int, itemsize: int, architecture: Architecture) -> Tile:
    """The tile with the least estimated time for `copies` products of so many rows and columns of numbers of `itemsize` bytes."""
    best = min(TILES, key=lambda tile: estimate(tile, rows, columns, copies, architecture))
    return best if itemsize == 4 else dc.replace(best, depth=best.depth // 2, unit=2)


def estimate(tile: Tile, rows: int, columns: int, copies: int, architecture: Architecture) -> float:
    """Multiply-adds that one multiprocessor could do while each of them works at one place of the depth, and while that is read."""
    blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * copies
    run = tile.row_run * tile.column_run
    each = tile.threads * (run + LOAD_COST * (tile.row_run + 4 * tile.column_run))
    arriving = blocks * (tile.rows + tile.columns) * 4 / (architecture.arrival * architecture.multiprocessors)
    return max(1.0, blocks / architecture.multiprocessors) * each + arriving * architecture.multiply_adds
