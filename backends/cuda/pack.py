"""Weights in the order in which the tiled products copy them: a row for each output channel, its elements one after the other along K."""

from __future__ import annotations

import math

import numpy as np

from ..common.kinds import BFLOAT16
from ..common.lowering import LateTable

F4 = np.dtype(np.float32)
BRAIN_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Element i of eight neighbours along K is this one of float32's order: see tensor_products.BrainProduct."""


def packed_depth(depth: int, product: str) -> int:
    """Elements of a packed row: whole chunks of 16 bytes."""
    unit = 8 if product in ("fp16", "bf16") else 4
    return -(-depth // unit) * unit


def packed_dtype(product: str) -> np.dtype:
    """Of packed weights."""
    return {"fp16": np.dtype(np.float16), "bf16": BFLOAT16}.get(product, F4)


def pack_weight(weight: np.ndarray, groups: int, merged: int, channels: int, product: str) -> LateTable:
    """(k, c of a group, *taps) as (groups / merged, k of merged groups, tap, channel of merged groups), `channels` of the last.

    Groups are merged so that their channels fill whole chunks; an output has weights of zero for what its group does not read.
    """
    k, c = weight.shape[:2]
    taps, rows = math.prod(weight.shape[2:]), k // groups
    depth = taps * channels
    source = weight.reshape(groups // merged, merged, rows, c, taps)

    def fill(target: np.ndarray) -> None:
        wide = np.zeros(target.shape, F4) if target.dtype == BFLOAT16 else target
        sorted_rows = wide[..., :depth].reshape(groups // merged, merged, rows, taps, channels)
        for i in range(merged):
            sorted_rows[:, i, :, :, i * c : (i + 1) * c] = np.swapaxes(source[:, i], -1, -2)
        if depth < target.shape[-1]:
            wide[..., :depth] = sorted_rows.reshape(*target.shape[:-1], depth)
        finish(wide, target, product)

    shape = groups // merged, merged * rows, packed_depth(depth, product)
    return LateTable(shape, packed_dtype(product), fill)


def pack_matrix(matrix: np.ndarray, product: str, depth: int) -> LateTable:
    """(..., k, n) as (..., n, k), rows of at least `depth` elements."""
    shape = (*matrix.shape[:-2], matrix.shape[-1], packed_depth(depth, product))

    def fill(target: np.ndarray) -> None:
        wide = np.zeros(target.shape, F4) if target.dtype == BFLOAT16 else target
        wide[..., : matrix.shape[-2]] = np.swapaxes(matrix, -1, -2)
        finish(wide, target, product)

    return LateTable(shape, packed_dtype(product), fill)


def finish(wide: np.ndarray, target: np.ndarray, product: str) -> None:
    """Rows along K as the product takes them: rounded to its numbers, and in its order."""
    if product == "tf32":
        bits = target.view(np.uint32)
        bits[...] = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    if product == "bf16":
        bits = wide.view(np.uint32)
        rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
        rounded[np.isnan(wide)] = 0x7FC0
        ordered = rounded.reshape(*rounded.shape[:-1], -1, 8)[..., BRAIN_ORDER]
        target.view(np.uint16).reshape(target.shape)[...] = ordered.reshape(rounded.shape)


def padded_bias(bias: np.ndarray, groups: int, columns: int) -> np.ndarray:
    """(k,) as (groups, columns) in float32, zeros behind the last of each group."""
    padded = np.zeros((groups, columns), F4)
    padded[:, : bias.size // groups] = bias.reshape(groups, -1)
    return padded
