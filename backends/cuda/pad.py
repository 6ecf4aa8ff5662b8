"""Pad: a thread finds out where its elements of the result come from, along each axis in turn."""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ...engine.ops import Pad
from ...engine.tensor import TensorType
from ..common.cuda_functions import literal, memory_type, stored
from .elements import ElementKernel, channel_pack, check_size, lines, padding_of, strides_of, weighted
from .kernel import Call, Machine, NoKernel, Parameter, Table, lowers


@dc.dataclass(frozen=True)
class PadKernel(ElementKernel):
    """y[i] = x[i - before], or `value` where that is outside of x.

    Along the axes of which `tables` names the first entry in the table of sources, an entry says where y[i] comes from.
    """

    x: TensorType
    before: tuple[int, ...]
    value: float | int
    tables: tuple[int | None, ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        sources = (Parameter("sources", np.dtype(np.int32)),) if any(t is not None for t in self.tables) else ()
        return Parameter("x", self.x.dtype), *sources, Parameter("y", self.y.dtype, written=True)

    def element(self) -> str:
        places, checks = list[str](), list[str]()
        for axis, (first, before, size) in enumerate(zip(self.tables, self.before, self.x.shape, strict=True)):
            if first is None and size == self.y.shape[axis] and not padding_of(self.y)[axis]:
                places.append(f"const int p{axis} = i{axis};")
                continue
            at = f"i{axis}"
            if first is not None and padding_of(self.y)[axis]:
                at = f"min({at}, {self.y.shape[axis] - 1})"
            places.append(f"const int p{axis} = {f'i{axis} - {before}' if first is None else f'sources[{first} + {at}]'};")
            checks += [f"p{axis} >= 0", f"p{axis} < {size}"] if first is None else []
        at = weighted([f"p{axis}" for axis in range(len(places))], strides_of(self.x))
        pack = f"Pack<{memory_type(self.x.dtype)}, {self.pack}>"
        fill = stored(literal(self.value, self.y.dtype), self.y.dtype)
        if self.is_padding:
            fill = f"{self.is_padding} ? {stored(literal(0, self.y.dtype), self.y.dtype)} : {fill}"
        load = f"result = *(const {pack}*)(x + ({at}));"
        if checks:
            load = f"UNROLL for (int v = 0; v < {self.pack}; v++) result.at[v] = {fill};\nif ({' && '.join(checks)}) {load}"
        return lines(*places, load, spaces=0)


@lowers(Pad)
def lower_pad(node: Pad, machine: Machine) -> list[Call]:
    """One kernel; channels that are last stay so, padded or not."""
    x, y = node.x.type, node.type
    check_size(x, y)
    if 0 in x.shape:
        raise NoKernel(f"a pad of {x}, which is empty")
    sources, tables = list[np.ndarray](), list[int | None]()
    for axis, pads in enumerate(node.pads):
        repeats = node.mode != "constant" and any(pads)
        tables.append(sum(map(len, sources)) if repeats else None)
        sources += [node.sources(axis)] if repeats else []
    pack = 1 if y.layout and any(node.pads[y.layout.axis]) else channel_pack(x, y)
    kernel = PadKernel(y, pack, x, tuple(before for before, _ in node.pads), node.value, tuple(tables))
    arguments = {"sources": Table(np.concatenate(sources).astype(np.int32))} if sources else {}
    return [Call(kernel, {"x": node.x, "y": node} | arguments)]
