"""Vectors of any dtype between memory and registers: whole, masked and from one element."""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ir
import numpy as np

from ..common.llvm_convert import register_bytes, to_memory, to_register
from .emit import Emitter, Value, scalar_type
from .target import Target

F16 = np.dtype(np.float16)
I16 = ir.IntType(16)


def common_lanes(target: Target, *dtypes: np.dtype) -> int:
    """Lanes of the widest of these dtypes in a register."""
    return target.vector_bytes // max(register_bytes(d) for d in dtypes)


def load_lanes(k: Emitter, pointer: Value, dtype: np.dtype, lanes: int, mask: Value | None = None) -> Value:
    """`lanes` contiguous elements as registers carry them; zeros where the mask is not set, whose memory is not touched."""
    kind = ir.VectorType(scalar_type(dtype), lanes)
    if mask is None:
        return to_register(k, k.load(pointer, kind), dtype)
    if dtype != F16:
        return to_register(k, k.masked_load(pointer, kind, mask), dtype)
    bits = k.masked_load(pointer, ir.VectorType(I16, lanes), mask)
    return to_register(k, k.b.bitcast(bits, kind), dtype)


def store_lanes(k: Emitter, value: Value, pointer: Value, dtype: np.dtype, mask: Value | None = None) -> None:
    """A register value to contiguous memory, only where the mask is set."""
    stored = to_memory(k, value, dtype)
    if mask is None:
        k.store(stored, pointer)
    else:
        k.masked_store(k.b.bitcast(stored, ir.VectorType(I16, stored.type.count)) if dtype == F16 else stored, pointer, mask)


def store_first(k: Emitter, value: Value, pointer: Value, dtype: np.dtype, count: int) -> None:
    """The first lanes of a register value to contiguous memory, in pieces of whole powers of two.

    A vector that is loaded from memory behind a masked store waits for it: processors count all of its lanes as written.
    """
    stored, first = to_memory(k, value, dtype), 0
    while first < count:
        size = 1 << ((count - first).bit_length() - 1)
        k.store(k.shuffle(stored, stored, list(range(first, first + size))), k.at(pointer, first * dtype.itemsize))
        first += size


def load_splat(k: Emitter, pointer: Value, dtype: np.dtype, lanes: int) -> Value:
    """One element in every lane."""
    first = to_register(k, k.load(pointer, ir.VectorType(scalar_type(dtype), 1)), dtype)
    return k.shuffle(first, first, [0] * lanes)


def in_vectors(k: Emitter, start: Value, stop: Value, lanes: int, body: Callable[[Value, int, Value | None], None], wide: int = 1) -> None:
    """Cover range(start, stop): `body(first, wide, None)` for `wide` vectors at a time, then for single ones, then for a masked one."""
    for vectors in sorted({wide, 1}, reverse=True):
        size = vectors * lanes
        whole = k.sub(stop, k.b.urem(k.sub(stop, start), k.integer(size)))
        with k.loop(start, whole, size) as loop:
            body(loop.index, vectors, None)
        start = whole
    with k.when(k.b.icmp_signed("<", start, stop)):
        body(start, 1, k.mask_below(k.sub(stop, start), lanes))
