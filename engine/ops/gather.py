"""Reading and writing at positions that are data: gathers and scatters. Negative indices count from the end of their axis."""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ..errors import ModelError
from ..graph import Constant, Node, op
from ..tensor import TensorType
from .reduce import check_axis

REDUCTIONS = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@op
class Gather(Node):
    """y[a..., i..., b...] = x[a..., indices[i...], b...], the indices counting along `axis`."""

    x: Node
    indices: Node
    _: dc.KW_ONLY
    axis: int

    def infer(self) -> TensorType:
        x = self.x.type
        check_axis(self.axis, x)
        check_indices(self.indices)
        if isinstance(self.indices, Constant):
            check_range(self.indices.data, x.shape[self.axis])
        return TensorType(x.dtype, (*x.shape[: self.axis], *self.indices.type.shape, *x.shape[self.axis + 1 :]))

    def reference(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return np.take(x, indices, self.axis)


@op
class GatherElements(Node):
    """y[i,j,k] = x[indices[i,j,k], j, k] for axis 0, and so for every axis."""

    x: Node
    indices: Node
    _: dc.KW_ONLY
    axis: int

    def infer(self) -> TensorType:
        check_elementwise(self.x.type, self.indices, self.axis)
        return TensorType(self.x.type.dtype, self.indices.type.shape)

    def reference(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return x[element_positions(indices, self.axis)]


@op
class GatherND(Node):
    """y[b..., i..., rest...] = x[b..., *indices[b..., i..., :], rest...], with `batch_dims` leading axes b in common."""

    x: Node
    indices: Node
    _: dc.KW_ONLY
    batch_dims: int = 0

    def infer(self) -> TensorType:
        x, indices = self.x.type, self.indices.type
        depth = check_tuples(x, self.indices, self.batch_dims)
        return TensorType(x.dtype, (*indices.shape[:-1], *x.shape[self.batch_dims + depth :]))

    def reference(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        batch = np.ix_(*map(range, x.shape[: self.batch_dims]))
        free = indices.ndim - 1 - self.batch_dims
        return x[(*(b.reshape(*b.shape, *[1] * free) for b in batch), *np.moveaxis(indices, -1, 0))]


@op
class ScatterElements(Node):
    """y = x, but y[indices[i,j,k], j, k] = updates[i,j,k] for axis 0, and so for every axis; or combined by `reduction`."""

    x: Node
    indices: Node
    updates: Node
    _: dc.KW_ONLY
    axis: int
    reduction: str = "none"

    def infer(self) -> TensorType:
        check_elementwise(self.x.type, self.indices, self.axis)
        check_updates(self, self.indices.type.shape)
        return self.x.type

    def reference(self, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        return scatter(x, element_positions(indices, self.axis), updates, self.reduction)

    def flops(self) -> int:
        return 0 if self.reduction == "none" else self.updates.type.size


@op
class ScatterND(Node):
    """y = x, but y[*indices[i..., :], rest...] = updates[i..., rest...]; or combined by `reduction`."""

    x: Node
    indices: Node
    updates: Node
    _: dc.KW_ONLY
    reduction: str = "none"

    def infer(self) -> TensorType:
        depth = check_tuples(self.x.type, self.indices, 0)
        check_updates(self, (*self.indices.type.shape[:-1], *self.x.type.shape[depth:]))
        return self.x.type

    def reference(self, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        return scatter(x, tuple(np.moveaxis(indices, -1, 0)), updates, self.reduction)

    def flops(self) -> int:
        return 0 if self.reduction == "none" else self.updates.type.size


def check_indices(indices: Node) -> None:
    """ModelError unless the indices are integers."""
    if indices.type.dtype.kind not in "iu":
        raise ModelError(f"expected integer indices, got {indices.type}")


def check_range(indices: np.ndarray, extent: int) -> None:
    """ModelError where an index counts beyond an axis of this extent, from the front or from the back."""
    outside = indices[(indices < -extent) | (indices >= extent)]
    if outside.size:
        raise ModelError(f"expected indices from {-extent} to {extent - 1}, got {outside.flat[0]}")


def check_elementwise(x: TensorType, indices: Node, axis: int) -> None:
    """ModelError unless the indices have one number for each element of a part of x, up to the extent of `axis`."""
    check_indices(indices)
    check_axis(axis, x)
    given = indices.type
    if given.rank != x.rank or any(i > n for k, (i, n) in enumerate(zip(given.shape, x.shape, strict=False)) if k != axis):
        raise ModelError(f"expected indices of rank {x.rank} that fit into {x} but for axis {axis}, got {given}")


def check_tuples(x: TensorType, indices: Node, batch_dims: int) -> int:
    """How many axes of x a tuple of indices counts along; ModelError where they do not fit."""
    check_indices(indices)
    given = indices.type
    if not 0 <= batch_dims < max(given.rank, 1) or batch_dims > x.rank:
        raise ModelError(f"expected fewer batch_dims than the rank of {given} and at most that of {x}, got {batch_dims}")
    if given.rank < 1 or given.shape[:batch_dims] != x.shape[:batch_dims]:
        raise ModelError(f"expected indices that begin with {x.shape[:batch_dims]}, got {given}")
    if given.shape[-1] > x.rank - batch_dims:
        raise ModelError(f"tuples of {given.shape[-1]} indices are too long for {x.rank - batch_dims} axes")
    return given.shape[-1]


def check_updates(node: ScatterElements | ScatterND, shape: tuple[int, ...]) -> None:
    """ModelError unless the updates have this shape and x's dtype, and the reduction exists for it."""
    x, updates = node.x.type, node.updates.type
    if updates.shape != shape or updates.dtype != x.dtype:
        raise ModelError(f"expected updates {TensorType(x.dtype, shape)}, got {updates}")
    if node.reduction not in REDUCTIONS:
        raise ModelError(f"expected a reduction among {', '.join(REDUCTIONS)}, got {node.reduction!r}")


def element_positions(indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """An index array for every axis: the given one along `axis`, and each element's own position along the others."""
    own = np.ix_(*map(range, indices.shape))
    return tuple(indices if k == axis else positions for k, positions in enumerate(own))


def scatter(x: np.ndarray, positions: tuple[np.ndarray, ...], updates: np.ndarray, reduction: str) -> np.ndarray:
    """x with updates put or combined at positions; of several puts at one position the last stays."""
    result = x.copy()
    combine = REDUCTIONS[reduction]
    if combine is None:
        result[positions] = updates
    else:
        combine.at(result, positions, updates)
    return result
