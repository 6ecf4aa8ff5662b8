"""Products of a few rows with a large constant matrix: fully connected layers at small batches. They take as long as the weights arrive.

A warp, or several, sums up an output feature, or two where several rows share the weights; neighbouring lanes read neighbouring 16
bytes of the feature's weights. The lanes' sums meet by shuffles, those of warps in shared memory, in a fixed order.
"""

from __future__ import annotations

import dataclasses as dc
import math

import numpy as np

from ...engine.graph import Constant
from ...engine.ops import Conv, MatMul
from ...engine.tensor import TensorType
from ..common.cuda_expression import loaded, memory_type
from .elements import BLOCKS_EACH, check_plain, check_size, coordinates, lines, unit
from .epilogue import Epilogue
from .kernel import Call, Extent, Kernel, Machine, NoKernel, Parameter, Table, lowers
from .lanes import WARP

WARPS = 4
"""Of a block."""
MOST_ROWS = 8
MOST_AHEAD = 8
"""Pieces of weights that a lane asks for before it multiplies."""
SPLITS = (1, 2, 4)


@dc.dataclass(frozen=True)
class GemvKernel(Kernel):
    """y[row, feature] = epilogue(sum over k of x[row, k] * weight[feature, k])."""

    x: np.dtype
    rows: int
    depth: int
    """Elements of a row of x, one behind the other; the weight's rows are padded to whole pieces."""
    features: int
    """With the padding lanes of the result."""
    per_warp: int
    """Features."""
    split: int
    """Warps that share features."""
    epilogue: Epilogue
    extents: tuple[int, ...]
    """Along the axes of the result besides that of the features; together they count the rows."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.x), Parameter("weight", self.x), *self.epilogue.parameters

    @property
    def piece(self) -> int:
        """Elements that a lane reads at once."""
        return unit(self.x)

    @property
    def pieces(self) -> int:
        """Of a row of the weight."""
        return -(-self.depth // self.piece)

    @property
    def per_block(self) -> int:
        """Features."""
        return WARPS // self.split * self.per_warp

    @property
    def grid(self) -> Extent:
        return -(-self.features // self.per_block), 1, 1

    @property
    def block(self) -> Extent:
        return WARP * WARPS, 1, 1

    @property
    def shared(self) -> int:
        return 4 * WARPS * self.per_warp * self.rows

    def body(self) -> str:
        ahead = min(-(-self.pieces // (WARP * self.split)), max(1, MOST_AHEAD // self.per_warp))
        stride = WARP * self.split
        return lines(
            "SHARED_MEMORY(shared);",
            "float* const sums = (float*)shared;",
            f"const int lane = threadIdx.x % {WARP}, warp = threadIdx.x / {WARP};",
            f"const int first = blockIdx.x * {self.per_block} + warp / {self.split} * {self.per_warp};",
            f"float total[{self.per_warp}][{self.rows}];",
            self._each("total[f][row] = 0.0f;"),
            f"for (int start = warp % {self.split} * {WARP} + lane; start < {self.pieces}; start += {stride * ahead}) {{",
            self._read_weights(ahead, stride),
            f"UNROLL for (int u = 0; u < {ahead}; u++) {{",
            f"const int k = start + u * {stride};",
            f"if (k < {self.pieces}) {{",
            self._multiply(),
            "}",
            "}",
            "}",
            self._each("UNROLL for (int mask = 16; mask; mask /= 2) total[f][row] += shuffle_xor(total[f][row], mask);"),
            f"if (lane == 0) {self._each(f'sums[(warp * {self.per_warp} + f) * {self.rows} + row] = total[f][row];')}",
            "__syncthreads();",
            self._finish(),
        )

    def _each(self, body: str) -> str:
        """The body for every sum of a thread."""
        return f"UNROLL for (int f = 0; f < {self.per_warp}; f++) UNROLL for (int row = 0; row < {self.rows}; row++) {body}\n"

    @property
    def _pack(self) -> str:
        return f"Pack<{memory_type(self.x)}, {self.piece}>"

    def _read_weights(self, ahead: int, stride: int) -> str:
        """Several pieces of each feature, those behind the end left out."""
        at = f"(first + f) * {self.pieces} + start + u * {stride}"
        inside = f"start + u * {stride} < {self.pieces} && first + f < {self.features}"
        return lines(
            f"{self._pack} given[{ahead}][{self.per_warp}];",
            f"UNROLL for (int u = 0; u < {ahead}; u++) UNROLL for (int f = 0; f < {self.per_warp}; f++) {{",
            f"given[u][f] = {self._pack}{{}};",
            f"if ({inside}) given[u][f] = ((const {self._pack}*)weight)[{at}];",
            "}",
            spaces=0,
        )

    def _multiply(self) -> str:
        """Piece k of every row of x with the weights."""
        whole = self.depth % self.piece == 0
        read = f"const {self._pack} a = ((const {self._pack}*)x)[row * {self.pieces} + k];"
        if not whole:
            one = f"k * {self.piece} + e < {self.depth}"
            each = f"UNROLL for (int e = 0; e < {self.piece}; e++) if ({one}) a.at[e] = x[row * {self.depth} + k * {self.piece} + e];"
            read = f"{self._pack} a = {{}};\n{each}"
        product = f"{loaded('a.at[e]', self.x)} * {loaded('given[u][f].at[e]', self.x)}"
        return lines(
            f"UNROLL for (int row = 0; row < {self.rows}; row++) {{",
            read,
            f"UNROLL for (int f = 0; f < {self.per_warp}; f++) UNROLL for (int e = 0; e < {self.piece}; e++) total[f][row] += {product};",
            "}",
            spaces=0,
        )

    def _finish(self) -> str:
        """Each of the first threads adds the sums of the warps that shared a feature, and stores it."""
        places = coordinates("row", self.extents)
        place = [*places[: self.epilogue.axis], "feature", *places[self.epilogue.axis :]]
        own = f"(slot / {self.per_warp} * {self.split} + part) * {self.per_warp} + slot % {self.per_warp}"
        return lines(
            f"for (int i = threadIdx.x; i < {self.per_block * self.rows}; i += {WARP * WARPS}) {{",
            f"const int slot = i % {self.per_block}, row = i / {self.per_block}, feature = blockIdx.x * {self.per_block} + slot;",
            "float all[1] = {0.0f};",
            f"UNROLL for (int part = 0; part < {self.split}; part++) all[0] += sums[({own}) * {self.rows} + row];",
            self.epilogue.store(lambda v: f"all[{v}]", place, 1),
            "}",
            spaces=0,
        )


def choose(rows: int, features: int, pieces: int, multiprocessors: int) -> tuple[int, int]:
    """(features of a warp, warps that share them): as few warps as fill the GPU, as long as each has enough to read."""
    wanted = BLOCKS_EACH * multiprocessors
    per_warp = 2 if rows > 2 and features >= 2 * wanted * WARPS else 1
    for split in SPLITS:
        blocks = -(-features // (WARPS // split * per_warp))
        if blocks >= wanted or pieces <= 2 * split * WARP:
            return per_warp, split
    return per_warp, SPLITS[-1]


def check_numbers(rows: int, weight: object, dtype: np.dtype) -> None:
    """NoKernel for what other kernels are for."""
    if rows > MOST_ROWS or not isinstance(weight, Constant) or dtype not in (np.float16, np.float32):
        raise NoKernel(f"not at most {MOST_ROWS} rows of float16 or float32 with a constant matrix")


@lowers(MatMul)
def lower_gemv(node: MatMul, machine: Machine) -> list[Call]:
    """One kernel."""
    a, b = node.a.type, node.b.type
    rows = math.prod(a.shape[:-1])
    check_numbers(rows, node.b, a.dtype)
    check_plain(a, b, node.type)
    if math.prod(b.shape[:-2]) != 1 or node.type.size == 0 or a.shape[-1] == 0:
        raise NoKernel("stacks of matrices")
    assert isinstance(node.b, Constant)
    weight = node.b.data.reshape(b.shape[-2:]).T
    return [_call(node, machine, weight, rows, node.type.shape[:-1])]


@lowers(Conv)
def lower_conv_as_gemv(node: Conv, machine: Machine) -> list[Call]:
    """A convolution of which every output reads one piece of memory, and of which there are few outputs."""
    x, y = node.x.type, node.type
    rows = y.shape[0] * math.prod(y.shape[2:])
    check_numbers(rows, node.weight, x.dtype)
    check_size(x, y)
    assert isinstance(node.weight, Constant)
    if node.groups > 1 or any(map(any, node.pads)) or any(kind.layout and kind.layout.axis != 1 for kind in (x, y)) or not x.is_dense:
        raise NoKernel("groups or padding, or channels among others")
    is_whole = node.kernel == x.shape[2:] and set(node.dilations) == {1}
    is_pointwise = math.prod(node.kernel) == 1 and set(node.strides) == {1} and x.layout is not None
    if not (is_whole or is_pointwise):
        raise NoKernel("outputs that do not read one piece of memory each")
    return [_call(node, machine, flat_weight(node.weight.data, x), rows, (y.shape[0], *y.shape[2:]))]


def flat_weight(weight: np.ndarray, x: TensorType) -> np.ndarray:
    """(k, c, *kernel) as (k, what a row of x holds), zero in the padding lanes."""
    if x.layout is None:
        return weight.reshape(weight.shape[0], -1)
    padded = np.pad(weight, [(0, 0), (0, x.layout.block - weight.shape[1]), *[(0, 0)] * (weight.ndim - 2)])
    return np.moveaxis(padded, 1, -1).reshape(weight.shape[0], -1)


def _call(node: MatMul | Conv, machine: Machine, weight: np.ndarray, rows: int, extents: tuple[int, ...]) -> Call:
    epilogue, dtype = Epilogue.of(node), weight.dtype
    features, depth = epilogue.stored, weight.shape[1]
    piece = unit(dtype)
    per_warp, split = choose(rows, features, -(-depth // piece), machine.architecture.multiprocessors)
    kernel = GemvKernel(dtype, rows, depth, features, per_warp, split, epilogue, extents)
    packed = np.pad(weight, ((0, features - weight.shape[0]), (0, kernel.pieces * piece - depth)))
    return Call(kernel, {"x": node.operands[0], "weight": Table(packed), **epilogue.arguments(node)})
