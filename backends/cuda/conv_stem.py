"""The first convolution of a network: few input channels, plain or last, to many output channels, which come last.

All weights of a block are in shared memory. A thread computes a run of outputs of a few vectors of four channels; the vectors of
neighbouring threads are neighbours, so that reads of shared memory and stores are whole. Inputs come straight from the cache: what a
thread needs of one row of x, it holds in registers.
"""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ...engine.graph import Constant
from ...engine.ops import Conv
from ..common.cuda_expression import loaded, memory_type
from .elements import check_size, coordinates, lines, strides_of
from .epilogue import Epilogue
from .kernel import Call, Extent, Kernel, Machine, NoKernel, Parameter, Table, lowers
from .sliding import Window

THREADS = 128
VECTOR = 4
"""Channels of a vector."""
MOST_CHANNELS = 4
MOST_SHARED = 48 * 1024
BLOCKS_EACH = 1
"""Blocks that every multiprocessor should get; more of them would mostly read weights."""
MOST_REGISTERS = 144
"""Numbers that a thread holds: sums, inputs and weights."""
RUNS = ((8, 2), (4, 4), (4, 2), (2, 2), (1, 2), (1, 1))
"""(outputs, vectors) of a thread, those that share the most first."""


@dc.dataclass(frozen=True)
class StemKernel(Kernel):
    """y[n,k,o] = epilogue(sum over c,r of x[n, c, o*stride - before + r*dilation] * weight[r,c,k])."""

    window: Window
    channels: int
    epilogue: Epilogue
    pixels: int
    """Outputs of a thread along the last axis."""
    vectors: int
    """Of a thread; one lies `groups` vectors behind the other."""
    groups: int
    """Threads that compute the same outputs."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        dtype = self.window.x.dtype
        return Parameter("x", dtype), Parameter("weight", np.dtype(np.float32)), *self.epilogue.parameters

    @property
    def columns(self) -> int:
        """Output channels of a block."""
        return self.groups * self.vectors * VECTOR

    @property
    def runs(self) -> int:
        """Runs of a block."""
        return THREADS // self.groups

    @property
    def grid(self) -> Extent:
        return -(-run_count(self.window, self.pixels) // self.runs), -(-self.epilogue.stored // self.columns), 1

    @property
    def block(self) -> Extent:
        return self.groups * self.runs, 1, 1

    @property
    def shared(self) -> int:
        return self.window.taps * self.channels * self.columns * 4

    def body(self) -> str:
        window, count = self.window, run_count(self.window, self.pixels)
        texts = coordinates("index", [window.x.shape[0], *window.out[:-1], -(-window.out[-1] // self.pixels)])
        names = ["n", *window.coordinates()]
        texts[-1] += f" * {self.pixels}"
        memory, volume = memory_type(window.x.dtype), strides_of(window.x)[0]
        return lines(
            "SHARED_MEMORY(shared);",
            "float4* const weights = (float4*)shared;",
            f"const int first = blockIdx.y * {self.columns};",
            self._load_weights(),
            "__syncthreads();",
            f"const int group = threadIdx.x % {self.groups}, index = blockIdx.x * {self.runs} + threadIdx.x / {self.groups};",
            f"if (index >= {count}) return;",
            *(f"const int {name} = {text};" for name, text in zip(names, texts, strict=True)),
            f"const {memory}* const from = x + n * {volume};",
            f"float total[{self.pixels}][{self.vectors}][{VECTOR}];",
            self._each("total[q][u][v] = 0.0f;"),
            window.each_row(self._row()),
            self._finish(),
        )

    def _each(self, body: str) -> str:
        """The body for every sum."""
        loops = (
            f"UNROLL for (int {name} = 0; {name} < {n}; {name}++)" for name, n in (("q", self.pixels), ("u", self.vectors), ("v", VECTOR))
        )
        return f"{' '.join(loops)} {body}\n"

    def _load_weights(self) -> str:
        """Copies the columns of this block; the table is padded to whole blocks."""
        quarter, padded = self.columns // VECTOR, self.grid[1] * self.columns
        at = f"i / {quarter} * {padded // VECTOR} + i % {quarter} + first / {VECTOR}"
        count = self.shared // 16
        return f"for (int i = threadIdx.x; i < {count}; i += {self.block[0]}) weights[i] = ((const float4*)weight)[{at}];\n"

    def _row(self) -> str:
        """Reads one row of inputs and adds their products."""
        window, width = self.window, self.window.kernel[-1]
        span, quarter = window.span(self.pixels, width), self.columns // VECTOR
        at = f"((row * {width} + r) * {self.channels} + c) * {quarter} + group + u * {self.groups}"
        product = f"total[q][u][v] += given[c][q * {window.step} + r * {window.dilations[-1]}] * w.at[v];"
        return lines(
            f"float given[{self.channels}][{span}];",
            f"UNROLL for (int i = 0; i < {span}; i++) {{",
            window.column("i"),
            self._read(),
            "}",
            f"UNROLL for (int c = 0; c < {self.channels}; c++) UNROLL for (int r = 0; r < {width}; r++)",
            f"UNROLL for (int u = 0; u < {self.vectors}; u++) {{",
            f"const Pack<float, {VECTOR}> w = *(const Pack<float, {VECTOR}>*)(weights + {at});",
            f"UNROLL for (int q = 0; q < {self.pixels}; q++) UNROLL for (int v = 0; v < {VECTOR}; v++) {product}",
            "}",
            spaces=0,
        )

    def _read(self) -> str:
        """Column i of the inputs, zero outside x."""
        x, stride = self.window.x, self.window.column_stride
        memory = memory_type(x.dtype)
        each = f"UNROLL for (int c = 0; c < {self.channels}; c++) given[c][i]"
        if x.layout is None:
            value = loaded(f"line[p * {stride} + c * {strides_of(x)[1]}]", x.dtype)
            return f"{each} = {self.window.is_inside} ? {value} : 0.0f;\n"
        pack = f"Pack<{memory}, {VECTOR}>"
        read = f"{pack} all = {{}};", f"if ({self.window.is_inside}) all = *(const {pack}*)(line + p * {stride});"
        return lines(*read, f"{each} = {loaded('all.at[c]', x.dtype)};", spaces=0)

    def _finish(self) -> str:
        *outer, last = self.window.coordinates()
        place = ["n", "k", *outer, f"({last} + q)"]
        tail = f"if ({last} + q < {self.window.out[-1]}) " if self.window.out[-1] % self.pixels else ""
        return lines(
            f"UNROLL for (int q = 0; q < {self.pixels}; q++) {tail}UNROLL for (int u = 0; u < {self.vectors}; u++) {{",
            f"const int k = first + (group + u * {self.groups}) * {VECTOR};",
            self.epilogue.store(lambda v: f"total[q][u][{v}]", place, VECTOR),
            "}",
            spaces=0,
        )


def run_count(window: Window, pixels: int) -> int:
    """Runs of so many outputs."""
    return window.rows * -(-window.out[-1] // pixels)


def choose(window: Window, channels: int, columns: int, multiprocessors: int) -> tuple[int, int, int]:
    """(pixels, vectors, groups): the run that shares the most among those that fit registers and fill the GPU. NoKernel if none fits."""
    fitting = []
    for pixels, vectors in RUNS:
        held = pixels * vectors * VECTOR + channels * window.span(pixels, window.kernel[-1]) + VECTOR
        room = MOST_SHARED // (window.taps * channels * vectors * VECTOR * 4)
        if held <= MOST_REGISTERS and room > 0:
            groups = min(-(-columns // (vectors * VECTOR)), room, THREADS)
            blocks = run_count(window, pixels) * -(-columns // (groups * vectors * VECTOR)) // (THREADS // groups)
            fitting.append((pixels, vectors, groups, blocks))
    if not fitting:
        raise NoKernel("a kernel too large to hold a row of its inputs in registers and its weights in shared memory")
    full = (c for c in fitting if c[3] >= BLOCKS_EACH * multiprocessors)
    pixels, vectors, groups, _ = next(full, max(fitting, key=lambda c: c[3]))
    return pixels, vectors, groups


@lowers(Conv)
def lower_stem(node: Conv, machine: Machine) -> list[Call]:
    """One kernel for a convolution of few channels."""
    x, y, weight = node.x.type, node.type, node.weight
    if node.groups != 1 or x.shape[1] > MOST_CHANNELS or y.layout is None or y.layout.axis != 1:
        raise NoKernel(f"not a convolution of at most {MOST_CHANNELS} channels with its results' channels last")
    if not isinstance(weight, Constant) or x.dtype not in (np.float16, np.float32) or (x.layout and x.layout.axis != 1):
        raise NoKernel("a first convolution with computed weights, or of other numbers than float16 and float32")
    check_size(x, y)
    window, epilogue = Window.of(node), Epilogue.of(node)
    pixels, vectors, groups = choose(window, x.shape[1], epilogue.stored, machine.architecture.multiprocessors)
    kernel = StemKernel(window, x.shape[1], epilogue, pixels, vectors, groups)
    packed = Table(pack_stem(weight.data, kernel.grid[1] * kernel.columns))
    return [Call(kernel, {"x": node.x, "weight": packed, **epilogue.arguments(node)})]


def pack_stem(weight: np.ndarray, columns: int) -> np.ndarray:
    """(k, c, *kernel) as float32 (taps, c, columns), zero behind the last channel."""
    k, c = weight.shape[:2]
    dense = weight.astype(np.float32).reshape(k, c, -1).transpose(2, 1, 0)
    return np.ascontiguousarray(np.pad(dense, ((0, 0), (0, 0), (0, columns - k))))
