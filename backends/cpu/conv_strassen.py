"""A convolution of single taps by Strassen's algorithm in Winograd's form: 7 products of half-sized matrices instead of 8.

Pairs of neighbouring pixels are the rows of [[A11, A12], [A21, A22]], halves of the channels its columns; the weight [[B11, B12], [B21,
B22]] has halves of the input and output channels. One level, so that the error stays that of a sum of a few more numbers
(Higham 2002, "Accuracy and stability of numerical algorithms", chapter 23).
"""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar

import numpy as np

from .emit import Emitter, Value
from .frequency_product import FrequencyKernel, FrequencyWriter
from .kernel import LateTable

FREQUENCIES = 7


@dc.dataclass(frozen=True)
class StrassenKernel(FrequencyKernel):
    """y = epilogue(bias + x · weight, *extras). A tile is two pixels; a part of the input is a block of channels of each half."""

    geometry: ClassVar[tuple[str, ...]] = ("pixels", "pairs", "x_half", "y_half", "channel_half")

    @property
    def frequencies(self) -> int:
        return FREQUENCIES

    def write(self, k: Emitter) -> None:
        _Writer(self, k).write()


class _Writer(FrequencyWriter):
    """Emits one StrassenKernel."""

    def place(self, tile: Value) -> tuple[Value, Value, Value, Value]:
        """Image of a pair, the offsets of its two pixels inside a block, and whether the second exists; else it is the first again."""
        k, number = self.k, self.number
        image, pair = k.divmod(tile, number["pairs"])
        first = k.mul(pair, 2)
        second = k.minimum(k.add(first, 1), k.sub(number["pixels"], 1))
        return image, k.mul(first, self.pixel), k.mul(second, self.pixel), k.b.icmp_signed("!=", first, second)

    def transform_input(self, tile: Value, v: Value, first: Value, last: Value) -> None:
        k, number = self.k, self.number
        image, one, two, _ = self.place(tile)
        start = k.at(self.x, k.mul(image, number["x_image"]))
        with k.loop(first, last, nonempty=True) as part:
            left = k.at(start, k.mul(part.index, number["x_block"]))
            right = k.at(left, number["x_half"])
            a11, a12, a21, a22 = (k.load(half, self.vector, pixel) for pixel in (one, two) for half in (left, right))
            s1 = k.b.fadd(a21, a22)
            s2 = k.b.fsub(s1, a11)
            s3, s4 = k.b.fsub(a11, a21), k.b.fsub(a12, s2)
            there = k.at(v, k.mul(part.index, self.shape.tiles * self.pixel))
            for frequency, value in enumerate((a11, a12, s4, a22, s1, s2, s3)):
                k.store(value, there, k.mul(number["v_frequency"], frequency))

    def transform_output(self, tile: Value, t: Value, group: Value) -> None:
        k, number, spec = self.k, self.number, self.shape
        image, one, two, is_pair = self.place(tile)
        with k.loop(0, spec.vectors, nonempty=True) as n:
            products = k.at(self.products, k.mul(k.add(k.mul(t, spec.vectors), n.index), self.pixel))
            p1, p2, p3, p4, p5, p6, p7 = (k.load(products, self.vector, f * spec.product_stride) for f in range(FREQUENCIES))
            u2 = k.b.fadd(p1, p6)
            u3, u4 = k.b.fadd(u2, p7), k.b.fadd(u2, p5)
            columns = (k.b.fadd(p1, p2), k.b.fsub(u3, p4)), (k.b.fadd(u4, p3), k.b.fadd(u3, p5))
            vector = k.add(k.mul(group, spec.vectors), n.index)
            y = k.add(k.mul(image, number["y_image"]), k.mul(vector, number["y_block"]))
            for half, (above, below) in enumerate(columns):
                channel = k.add(k.mul(vector, self.pixel), k.mul(number["channel_half"], half))
                start = k.add(y, k.mul(number["y_half"], half))
                finish = self.finisher(image, channel, lambda pixel, _, start=start: k.add(start, pixel))
                finish(one, 0, above)
                with k.when(is_pair):
                    finish(two, 0, below)


def strassen_weight(weight: np.ndarray, vectors: int, lanes: int) -> LateTable:
    """(k, c) as (group, frequency, channel block, channel of the block, k of the group); k and c are even numbers of vectors."""
    k, c = weight.shape
    width, groups = vectors * lanes, k // 2 // (vectors * lanes)
    b11, b12, b21, b22 = (weight[j * k // 2 : (j + 1) * k // 2, i * c // 2 : (i + 1) * c // 2] for i in (0, 1) for j in (0, 1))

    def fill(target: np.ndarray) -> None:
        b = [part.astype(np.float64).reshape(groups, width, c // 2) for part in (b11, b12, b21, b22)]
        t1 = b[1] - b[0]
        t2, t3 = b[3] - t1, b[3] - b[1]
        for frequency, values in enumerate((b[0], b[2], b[3], t2 - b[2], t1, t2, t3)):
            target[:, frequency] = values.reshape(groups, width, -1, lanes).transpose(0, 2, 3, 1)

    return LateTable((groups, FREQUENCIES, c // 2 // lanes, lanes, width), np.dtype(np.float32), fill)
