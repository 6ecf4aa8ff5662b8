"""Reading and summing rows at positions that are data: indices are integers of the model; negative ones count from the end."""

from __future__ import annotations

import numpy as np

from ...engine.errors import ModelError
from ...engine.graph import Constant
from ...engine.ops import Gather, Reshape, ScatterND
from .functions import axes_of
from .initial import normal
from .trace import layer
from .value import Value, apply, as_value, parameter, whole_numbers


@layer
def gather(x: Value, indices: Value, axis: int = 0) -> Value:
    """The parts of x that integers of any shape count along an axis: x (a, n, b) and indices (i, j) along axis 1 give (a, i, j, b)."""
    return apply(Gather, x, as_value(indices, "gather"), axis=axes_of(x, axis, "gather")[0])


@layer
def scatter_sum(rows: Value, indices: Value, extent: int) -> Value:
    """Row i of the result (extent, ...) is the sum of all rows (m, ...) whose index, of indices (m,), is i; 0 where there is none."""
    if as_value(indices, "scatter_sum").shape != as_value(rows, "scatter_sum").shape[:1]:
        raise ModelError(f"scatter_sum: expected an index for each of the rows {rows.shape}, got {indices.shape}")
    nothing = apply(Constant, np.zeros((*whole_numbers(extent, "scatter_sum"), *rows.shape[1:]), rows.dtype))
    places = apply(Reshape, indices, shape=(*indices.shape, 1))
    return apply(ScatterND, nothing, places, rows, reduction="add")


@layer
def embedding(indices: Value, entries: int, features: int, *, name: str | None = None) -> Value:
    """A learned row for each index below `entries`: indices (...) to (..., features). Parameter: weight (entries, features)."""
    weight = parameter("weight", (entries, features), normal(0, 1))
    return apply(Gather, weight, as_value(indices, "embedding"), axis=0)
