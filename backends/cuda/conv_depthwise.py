"""Depthwise convolution with channels last: a thread computes a few neighbouring outputs of as many channels as 16 bytes hold.

All of its sums are in registers, and so are the weights of one row of the kernel; each input of a row is read once.
"""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ...engine.graph import Constant
from ...engine.ops import Conv
from ..common.cuda_expression import memory_type
from .elements import BLOCKS_EACH, THREADS, FlatKernel, check_size, coordinates, lines, strides_of, unit
from .epilogue import Epilogue
from .kernel import Call, Machine, NoKernel, Parameter, Table, lowers
from .sliding import Window

RUNS = (8, 4, 2, 1)
"""Outputs of a thread that are tried, the most first: many share their inputs and weights, few give the GPU more threads."""
MOST_SUMS = 32
"""Of a thread."""
MOST_TAPS = 8
"""Weights of a row of the kernel that are in registers at once."""
MOST_UNROLLED = 25
"""Taps up to which the whole kernel is one piece of text, so that all loads are on their way together."""


@dc.dataclass(frozen=True)
class DepthwiseKernel(FlatKernel):
    """y[n,c,o] = epilogue(sum over r of x[n, c, o*stride - before + r*dilation] * weight[r,c]); channels last."""

    window: Window
    epilogue: Epilogue
    pixels: int
    """Outputs of a thread along the last axis."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        dtype = self.window.x.dtype
        return Parameter("x", dtype), Parameter("weight", dtype), *self.epilogue.parameters

    @property
    def lanes(self) -> int:
        """Channels of a thread."""
        return unit(self.window.x.dtype)

    @property
    def channels(self) -> int:
        """With the padding."""
        return self.epilogue.stored

    @property
    def tiles(self) -> int:
        """Runs of a row."""
        return -(-self.window.out[-1] // self.pixels)

    @property
    def count(self) -> int:
        return self.window.rows * self.tiles * (self.channels // self.lanes)

    @property
    def taps(self) -> int:
        """Of a row that are taken at once."""
        width = self.window.kernel[-1]
        return -(-width // -(-width // MOST_TAPS))

    def thread(self) -> str:
        window, names = self.window, ["n", *self.window.coordinates(), "c"]
        extents = [window.x.shape[0], *window.out[:-1], self.tiles, self.channels // self.lanes]
        texts = coordinates("index", extents)
        texts[-2:] = f"{texts[-2]} * {self.pixels}", f"{texts[-1]} * {self.lanes}"
        memory, volume = memory_type(window.x.dtype), strides_of(window.x)[0]
        return lines(
            *(f"const int {name} = {text};" for name, text in zip(names, texts, strict=True)),
            f"const {memory}* const from = x + n * {volume} + c;",
            f"float total[{self.pixels}][{self.lanes}];",
            f"UNROLL for (int q = 0; q < {self.pixels}; q++) UNROLL for (int v = 0; v < {self.lanes}; v++) total[q][v] = 0.0f;",
            window.each_row(self._row(), window.taps <= MOST_UNROLLED),
            self._finish(),
            spaces=0,
        )

    def _row(self) -> str:
        """Adds the products of one row of the kernel."""
        width = self.window.kernel[-1]
        if self.taps == width:
            return self._piece("0", f"{width}", "")
        return f"for (int r0 = 0; r0 < {width}; r0 += {self.taps}) {{\n{self._piece('r0', str(width), 'r0')}}}\n"

    def _piece(self, first: str, width: str, moved: str) -> str:
        window, dilation, taps = self.window, self.window.dilations[-1], self.taps
        pack = f"const Pack<{memory_type(window.x.dtype)}, {self.lanes}>"
        whole = taps == window.kernel[-1]
        each = f"UNROLL for (int v = 0; v < {self.lanes}; v++)"
        skip = "" if whole else f"if (r0 + r >= {width}) break;"
        return lines(
            f"float weights[{taps}][{self.lanes}];",
            f"UNROLL for (int r = 0; r < {taps}; r++) {{",
            skip,
            f"{pack} given = *({pack}*)(weight + (row * {width} + {first} + r) * {self.channels} + c);",
            f"{each} weights[r][v] = widen(given.at[v]);",
            "}",
            f"UNROLL for (int i = 0; i < {window.span(self.pixels, taps)}; i++) {{",
            window.column("i", f"{moved} * {dilation}" if moved else ""),
            f"if ({window.is_inside}) {{",
            f"{pack} given = *({pack}*)(line + p * {window.column_stride});",
            f"UNROLL for (int r = 0; r < {taps}; r++) {{",
            skip,
            f"const int ahead = i - r * {dilation};",
            f"if (ahead >= 0 && ahead % {window.step} == 0 && ahead / {window.step} < {self.pixels})",
            f"{each} total[ahead / {window.step}][v] += widen(given.at[v]) * weights[r][v];",
            "}",
            "}",
            "}",
            spaces=0,
        )

    def _finish(self) -> str:
        *outer, last = self.window.coordinates()
        place = ["n", "c", *outer, f"({last} + q)"]
        tail = f"if ({last} + q < {self.window.out[-1]}) " if self.window.out[-1] % self.pixels else ""
        store = self.epilogue.store(lambda v: f"total[q][{v}]", place, self.lanes)
        return f"UNROLL for (int q = 0; q < {self.pixels}; q++) {tail}{{\n{store}}}"


def choose_pixels(window: Window, lanes: int, vectors: int, multiprocessors: int) -> int:
    """The longest run of which there are enough to fill the GPU, or single outputs."""
    wanted = BLOCKS_EACH * multiprocessors * THREADS[-1]
    for pixels in RUNS:
        threads = window.rows * -(-window.out[-1] // pixels) * vectors
        if pixels * lanes <= MOST_SUMS and pixels <= window.out[-1] and threads >= wanted:
            return pixels
    return 1


@lowers(Conv)
def lower_depthwise(node: Conv, machine: Machine) -> list[Call]:
    """One kernel where every output channel reads the input channel of its number."""
    x, y, weight = node.x.type, node.type, node.weight
    if weight.type.shape[:2] != (node.groups, 1) or x.shape[1] != y.shape[1]:
        raise NoKernel("not a depthwise convolution")
    if not isinstance(weight, Constant) or x.dtype not in (np.float16, np.float32):
        raise NoKernel("a depthwise convolution with computed weights, or of other numbers than float16 and float32")
    check_size(x, y)
    lanes = unit(x.dtype)
    if x.layout is None or x.dense.layout != y.dense.layout or x.layout.axis != 1 or x.layout.block % lanes:
        raise NoKernel("a depthwise convolution whose channels are not last")
    window, epilogue = Window.of(node), Epilogue.of(node)
    pixels = choose_pixels(window, lanes, epilogue.stored // lanes, machine.architecture.multiprocessors)
    kernel = DepthwiseKernel(window, epilogue, pixels)
    packed = Table(pack_depthwise(weight.data, epilogue.stored))
    return [Call(kernel, {"x": node.x, "weight": packed, **epilogue.arguments(node)})]


def pack_depthwise(weight: np.ndarray, channels: int) -> np.ndarray:
    """(c, 1, *kernel) as (taps, channels), zero in the padding."""
    return np.ascontiguousarray(np.pad(weight.reshape(weight.shape[0], -1).T, ((0, 0), (0, channels - weight.shape[0]))))
