"""How a kernel goes through an iteration space: loops over its rows, and the table of everything outside them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..common.space import Dimension
from ..common.space import broadcast_strides as broadcast_strides
from ..common.space import collapse as collapse
from ..common.space import dimensions as dimensions
from ..common.space import physical_strides as physical_strides
from .emit import I64, Emitter, Value
from .kernel import Table

UNIT_SECONDS = 3e-6
"""About how long one unit of work takes."""
LONG_ROW = 16


def walk_parameters(names: Sequence[str]) -> tuple[str, ...]:
    """The parameters of a kernel that goes through arrays of these names with `walk`."""
    addresses, steps = (f"{name}*" for name in names), (f"{name}_row" for name in names)
    return (*addresses, *steps, "outer*", "rank", "rows", "row_tile", "row_tiles", "inner_tiles")


@contextlib.contextmanager
def walk(k: Emitter, names: Sequence[str]) -> Iterator[tuple[Value, list[Value]]]:
    """For every row of every unit: the number of its inner tile, and the addresses of the arrays there."""
    bases, steps = [k.pointer(name) for name in names], [k.argument(f"{name}_row") for name in names]
    table = k.pointer("outer")
    rank, rows, row_tile, row_tiles, inner_tiles = map(k.argument, ("rank", "rows", "row_tile", "row_tiles", "inner_tiles"))
    with k.units() as unit:
        rest, inner = k.divmod(unit.index, inner_tiles)
        outer, tile = k.divmod(rest, row_tiles)
        moved = [k.at(base, offset) for base, offset in zip(bases, outer_offsets(k, table, rank, outer, len(names)), strict=True)]
        start = k.mul(tile, row_tile)
        with k.loop(start, k.minimum(k.add(start, row_tile), rows), nonempty=True) as row:
            yield inner, [k.at(base, k.mul(row.index, step)) for base, step in zip(moved, steps, strict=True)]


def outer_offsets(k: Emitter, table: Value, rank: Value, index: Value, arrays: int) -> list[Value]:
    """The byte offset of each array at point number `index` of the dimensions of a table; see `walk_arguments`."""
    with k.loop(0, rank, carried=[index, *[k.integer(0)] * arrays]) as loop:
        entry = k.at(table, k.mul(loop.index, 8 * (arrays + 1)))
        rest, here = k.divmod(loop.values[0], k.load(entry, I64))
        moved = [k.add(loop.values[i], k.mul(here, k.load(entry, I64, 8 * i))) for i in range(1, arrays + 1)]
        loop.carry([rest, *moved])
    return loop.results[1:]


def walk_arguments(
    names: Sequence[str], space: Sequence[Dimension], row_seconds: float, inner_tiles: int = 1
) -> tuple[dict[str, Any], int]:
    """What `walk` needs besides the arrays to go through a space, in units of a few microseconds where rows are short; and the units.

    Rows are the dimension walked inside a unit: the innermost if it is long enough, else the longest.
    """
    rows = Dimension(1, (0,) * len(names))
    if space:
        rows = space[-1] if space[-1].extent >= LONG_ROW else max(space, key=lambda d: d.extent)
    outer = [d for d in space if d is not rows]
    row_tile = max(1, min(rows.extent, round(UNIT_SECONDS / row_seconds)))
    row_tiles = -(-rows.extent // row_tile)
    table = [(d.extent, *d.strides) for d in reversed(outer)] or [(1, *rows.strides)]
    arguments: dict[str, Any] = {f"{name}_row": step for name, step in zip(names, rows.strides, strict=True)}
    arguments |= {"outer": Table(np.array(table, np.int64)), "rank": len(outer), "inner_tiles": inner_tiles}
    arguments |= {"rows": rows.extent, "row_tile": row_tile, "row_tiles": row_tiles}
    return arguments, math.prod(d.extent for d in outer) * row_tiles * inner_tiles
