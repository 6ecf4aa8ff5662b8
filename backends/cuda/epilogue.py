"""What follows a sum before it is stored: bias, extra operands in any broadcast, an expression, and the result in any layout."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence

import numpy as np

from ...engine.expression import Expression
from ...engine.graph import Constant
from ...engine.ops import Conv, ConvTranspose, MatMul
from ...engine.tensor import TensorType
from ..common.cuda_expression import loaded, memory_type, print_expression, register_type, stored, unsupported
from .elements import WIDEST, check_size, lines, strides_of, weighted
from .kernel import Argument, NoKernel, Parameter, Table

Product = Conv | ConvTranspose | MatMul


@dc.dataclass(frozen=True)
class Epilogue:
    """y[place] = expression(sum + bias[channel], *extras[place, broadcast]); the padding lanes of y become zero."""

    expression: Expression
    y: TensorType
    extras: tuple[TensorType, ...]
    bias: TensorType | None
    """As it lies in memory: of a constant a padded table in the type that sums have."""
    sum: np.dtype
    """Of the sum, as the expression sees it."""
    axis: int
    """That of the channels."""

    @staticmethod
    def of(node: Product) -> Epilogue:
        """What the node asks for. Raises NoKernel where it cannot be done."""
        dtype = node.operands[0].type.dtype
        extras = tuple(extra.type for extra in node.extras)
        check_size(node.type, *extras)
        if reason := unsupported(node.epilogue, [dtype, *(extra.dtype for extra in extras)]):
            raise NoKernel(reason)
        axis = node.type.rank - 1 if isinstance(node, MatMul) else 1
        bias = None if node.bias is None else node.bias.type
        if isinstance(node.bias, Constant):
            bias = TensorType(sum_dtype(dtype), (node.type.shape[axis] + padded_lanes(node.type),))
        return Epilogue(node.epilogue, node.type, extras, bias, dtype, axis)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What a kernel with this epilogue is called with besides its own operands."""
        bias = (Parameter("bias", self.bias.dtype),) if self.bias else ()
        extras = (Parameter(f"extra{i}", extra.dtype) for i, extra in enumerate(self.extras))
        return (*bias, *extras, Parameter("y", self.y.dtype, written=True))

    def arguments(self, node: Product) -> dict[str, Argument]:
        """For these parameters."""
        found: dict[str, Argument] = {f"extra{i}": extra for i, extra in enumerate(node.extras)}
        found["y"] = node
        if self.bias and node.bias:
            found["bias"] = Table(self._padded_bias(node.bias)) if isinstance(node.bias, Constant) else node.bias
        return found

    def _padded_bias(self, bias: Constant) -> np.ndarray:
        assert self.bias is not None
        return np.pad(bias.data, (0, self.bias.shape[0] - bias.data.size)).astype(self.bias.dtype)

    @property
    def channels(self) -> int:
        """Those with values."""
        return self.y.shape[self.axis]

    @property
    def stored(self) -> int:
        """Those and the padding lanes."""
        return self.channels + padded_lanes(self.y)

    def is_vector(self, kind: TensorType, width: int) -> bool:
        """Whether `width` channels of a value of this type, from a multiple of it on, are one aligned piece of memory."""
        extent = self._extent(kind)
        return extent > 0 and extent % width == 0 and width * kind.dtype.itemsize <= WIDEST

    def _extent(self, kind: TensorType) -> int:
        """How many channels with their padding follow each other in memory; 0 where neighbours in memory are no channels."""
        position = self.axis - (self.y.rank - kind.rank)
        if position < 0 or strides_of(kind)[position] != 1 or (kind.layout and kind.layout.axis != position):
            return 0
        return kind.layout.block if kind.layout else kind.shape[position]

    def store(self, total: Callable[[str], str], place: Sequence[str], width: int, end: str = "", is_aligned: bool = True) -> str:
        """Statements that finish and store `width` channels from `place` on; `total(v)` is the text of the sum of the v-th of them.

        `place` are the coordinates along the logical axes as texts that may be written often. Channels from `end` on are left alone,
        by default those behind the last one. `is_aligned`: the first channel is a multiple of `width`.
        """
        piece = min(width, WIDEST // self.y.dtype.itemsize)
        if is_aligned and piece < width and self.is_vector(self.y, piece):
            moved = [f"({text} + piece)" if axis == self.axis else text for axis, text in enumerate(place)]
            body = self._piece(lambda v: total(f"(piece + {v})"), moved, piece, end, True)
            return lines(f"UNROLL for (int piece = 0; piece < {width}; piece += {piece}) {{", body, "}", spaces=0)
        return self._piece(total, place, width, end, is_aligned and self.is_vector(self.y, width))

    def _piece(self, total: Callable[[str], str], place: Sequence[str], width: int, end: str, whole: bool) -> str:
        """The same for no more than one instruction stores, `whole`, or for channels one by one."""
        channel, end = place[self.axis], end or str(self.stored if whole else self.channels)
        y_type, start = memory_type(self.y.dtype), f"y + ({weighted(place, strides_of(self.y))})"
        value, inner = self._element(total("v"), place, width, whole)
        loop = f"UNROLL for (int v = 0; v < {width}; v++)"
        if whole:
            pack, loads = f"Pack<{y_type}, {width}>", [self._load(i, extra, place, width) for i, extra in enumerate(self.extras)]
            body = [f"{pack} result;", *loads, f"{loop} {{", *inner, f"result.at[v] = {value};", "}", f"*({pack}*)({start}) = result;"]
            return lines(f"if ({channel} < {end}) {{", *body, "}", spaces=0)
        body = [*inner, f"({start})[v * {strides_of(self.y)[self.axis]}] = {value};"]
        return lines(f"{loop} if ({channel} + v < {end}) {{", *body, "}", spaces=0)

    def _element(self, total: str, place: Sequence[str], width: int, whole: bool) -> tuple[str, list[str]]:
        """The value of channel `v` as memory holds it, and the statements before it."""
        channel, has_padding = place[self.axis], whole and self.stored > self.channels
        carried = register_type(self.sum)
        text = [f"const {carried} sum_v = {total}{f' + {self._bias(channel, has_padding)}' if self.bias else ''};"]
        for i, extra in enumerate(self.extras):
            read = self._read(i, extra, place, width, whole, has_padding)
            text.append(f"const {register_type(extra.dtype)} extra{i}_v = {loaded(read, extra.dtype)};")
        names = ["sum_v", *(f"extra{i}_v" for i in range(len(self.extras)))]
        printed = print_expression(self.expression, names, [self.sum, *(extra.dtype for extra in self.extras)])
        value = f"({channel} + v < {self.channels} ? {printed.value} : ({register_type(self.y.dtype)})0)" if has_padding else printed.value
        return stored(value, self.y.dtype), [*text, *printed.statements]

    def _bias(self, channel: str, has_padding: bool) -> str:
        assert self.bias is not None
        clamped = has_padding and self.bias.shape[0] < self.stored
        index = f"({channel} + v < {self.channels} ? {channel} + v : 0)" if clamped else f"{channel} + v"
        return loaded(f"bias[{index}]", self.bias.dtype)

    def _strides(self, extra: TensorType) -> tuple[int, ...]:
        """Along each axis of the result."""
        own = [0 if n == 1 else stride for n, stride in zip(extra.shape, strides_of(extra), strict=True)]
        return (*[0] * (self.y.rank - extra.rank), *own)

    def _in_vectors(self, extra: TensorType, width: int) -> bool:
        return self._strides(extra)[self.axis] == 1 and self.is_vector(extra, width) and self._extent(extra) >= self.stored

    def _load(self, i: int, extra: TensorType, place: Sequence[str], width: int) -> str:
        """Reads an extra once for all channels of a vector, where that can be."""
        strides, kind = self._strides(extra), memory_type(extra.dtype)
        at = f"extra{i} + ({weighted(place, strides)})"
        if not strides[self.axis]:
            return f"const {kind} extra{i}_all = *({at});"
        if self._in_vectors(extra, width):
            return f"const Pack<{kind}, {width}> extra{i}_all = *(const Pack<{kind}, {width}>*)({at});"
        return ""

    def _read(self, i: int, extra: TensorType, place: Sequence[str], width: int, whole: bool, has_padding: bool) -> str:
        strides = self._strides(extra)
        step = strides[self.axis]
        if whole and not step:
            return f"extra{i}_all"
        if whole and self._in_vectors(extra, width):
            return f"extra{i}_all.at[v]"
        at = f"extra{i} + ({weighted(place, strides)})"
        channel = place[self.axis]
        v = f"({channel} + v < {self.channels} ? v : -({channel}))" if has_padding else "v"
        return f"({at})[{v} * {step}]" if step else f"*({at})"


def padded_lanes(kind: TensorType) -> int:
    """Lanes behind the last channel."""
    return kind.layout.block - kind.shape[kind.layout.axis] if kind.layout else 0


def sum_dtype(dtype: np.dtype) -> np.dtype:
    """In which products of numbers of this dtype are summed."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
