"""One matrix product for each frequency of a block of tiles: M[frequency] = V[frequency] · weight[frequency], in registers.

V is (frequency, entry, tile, lane), the weight of a group of output vectors (frequency, entry, channel, vector, lane), M (frequency,
tile, vector, lane). An entry is a block of channels, in one phase of a stride.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from .emit import F32, Emitter, Value

F4 = np.dtype(np.float32)
UNROLL = 4
"""Channels of one step of the product's inner loop."""
AHEAD = 16384
"""Weights are asked for so many bytes before they are read: each is read once or twice, and most come from memory."""


@dc.dataclass(frozen=True)
class FrequencyProduct:
    """`tiles` tiles at a time and `vectors` output vectors at a time."""

    parameters: ClassVar[tuple[str, ...]] = ("entries", "entries_full", "channels_last", "v_frequency", "weight_frequency")
    """Numbers that it needs: how many entries, how many of them have all channels, the last ones' steps, and two strides."""
    lanes: int
    tiles: int
    vectors: int
    frequencies: int

    @property
    def stride(self) -> int:
        """Bytes between the products of neighbouring frequencies; an odd number of cache lines spreads them over the cache's sets."""
        lines = -(-self.tiles * self.vectors * self.lanes * 4 // 64)
        return 64 * (lines | 1)

    @property
    def nbytes(self) -> int:
        """Of M."""
        return self.frequencies * self.stride

    def emit(self, k: Emitter, number: Mapping[str, Value], v: Value, weight: Value, products: Value) -> None:
        """M of one block and one group."""
        with k.loop(0, self.frequencies, nonempty=True) as frequency:
            here = k.at(v, k.mul(frequency.index, number["v_frequency"]))
            there = k.at(weight, k.mul(frequency.index, number["weight_frequency"]))
            out = k.at(products, k.mul(frequency.index, self.stride))
            for position, value in enumerate(self._sums(k, number, here, there)):
                k.store(value, out, position * self.lanes * 4)

    def _sums(self, k: Emitter, number: Mapping[str, Value], v: Value, weight: Value) -> list[Value]:
        """Sums over all channels, tile-major."""
        vector, pixel = k.vector(F4, self.lanes), self.lanes * 4
        zeros = [k.splat(0.0, vector)] * (self.tiles * self.vectors)
        with k.loop(0, number["entries"], carried=zeros, nonempty=True) as channel:
            is_last = k.b.icmp_signed(">=", channel.index, number["entries_full"])
            steps = k.b.select(is_last, number["channels_last"], k.integer(self.lanes // UNROLL))
            here = k.at(v, k.mul(channel.index, self.tiles * pixel))
            there = k.at(weight, k.mul(channel.index, self.lanes * self.vectors * pixel))
            with k.loop(0, steps, carried=channel.values, nonempty=True) as step:
                values = list(step.values)
                a = k.at(here, k.mul(step.index, UNROLL * 4))
                b = k.at(there, k.mul(step.index, UNROLL * self.vectors * pixel))
                for c in range(UNROLL):
                    weights = [k.load(b, vector, (c * self.vectors + n) * pixel) for n in range(self.vectors)]
                    for n in range(self.vectors):
                        k.prefetch(b, (c * self.vectors + n) * pixel + AHEAD)
                    for t in range(self.tiles):
                        broadcast = k.splat(k.load(a, F32, t * pixel + c * 4), vector)
                        for n in range(self.vectors):
                            at = t * self.vectors + n
                            values[at] = k.fma(broadcast, weights[n], values[at])
                step.carry(values)
            channel.carry(step.results)
        return channel.results
