"""The kernel of every convolution that has no faster one: any rank, groups, layouts and phases, constant or computed weights.

A block computes a tile of output channels of one group by positions of one phase. The depth, channels by taps, goes through shared
memory in pieces; while one is multiplied, the next is on its way to registers. Neighbouring threads read and write what are
neighbours in memory: positions in plain values, channels where these are last.
"""

from __future__ import annotations

import dataclasses as dc
import itertools
import math

from ...engine.tensor import TensorType
from ..common.cuda_expression import loaded, memory_type, register_type
from .conv_direct_tile import Tile
from .elements import coordinates, lines, strides_of, weighted
from .epilogue import Epilogue, sum_dtype
from .kernel import Extent, Kernel, Parameter
from .phases import PhasedAxis


@dc.dataclass(frozen=True)
class DirectConvKernel(Kernel):
    """y[n,k,o] = epilogue(sum over c and taps of x[n, g*C + c, ...] * weight[g,k,c,tap]), g = k's group."""

    x: TensorType
    axes: tuple[PhasedAxis, ...]
    groups: int
    channels: int
    """Of x in a group."""
    rows: int
    """Channels that are written of a group."""
    weight_strides: tuple[int, int, int, int]
    """From one group, output channel, input channel, tap to the next."""
    is_packed: bool
    """The weight's rows are neighbours and padded to whole tiles."""
    tile: Tile
    epilogue: Epilogue

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return Parameter("x", self.x.dtype), Parameter("weight", self.x.dtype), *self.epilogue.parameters

    @property
    def positions(self) -> int:
        """Of one phase, of all images."""
        return self.x.shape[0] * math.prod(axis.count for axis in self.axes)

    @property
    def row_tiles(self) -> int:
        """Of a group."""
        return -(-self.rows // self.tile.rows)

    @property
    def grid(self) -> Extent:
        phases = math.prod(axis.phases for axis in self.axes)
        return -(-self.positions // self.tile.columns) * phases, self.row_tiles * self.groups, 1

    @property
    def block(self) -> Extent:
        return self.tile.threads, 1, 1

    @property
    def shared(self) -> int:
        return 2 * self.tile.depth * (self.tile.pitch + self.tile.rows) * sum_dtype(self.x.dtype).itemsize

    @property
    def number(self) -> str:
        """What is multiplied and summed."""
        return register_type(sum_dtype(self.x.dtype))

    @property
    def unit(self) -> int:
        """Channels of x that a thread reads at once."""
        whole = self.channels % self.tile.unit == 0 and self.x.layout is not None
        return self.tile.unit if whole else 1

    def body(self) -> str:
        tile, phases = self.tile, coordinates("phase", [axis.phases for axis in self.axes])
        fast, slow = ("thread % {}", "thread / {}") if self.epilogue.y.layout else ("thread / {}", "thread % {}")
        threads = (tile.rows // tile.row_run) if self.epilogue.y.layout else (tile.columns // tile.column_run)
        return lines(
            "SHARED_MEMORY(shared);",
            f"{self.number}* const left = ({self.number}*)shared;",
            f"{self.number}* const right = left + {2 * tile.depth * tile.rows};",
            f"const int thread = threadIdx.x, tiles = {-(-self.positions // tile.columns)};",
            f"const int phase = blockIdx.x / tiles, first_column = blockIdx.x % tiles * {tile.columns};",
            f"const int group = blockIdx.y / {self.row_tiles}, first_row = blockIdx.y % {self.row_tiles} * {tile.rows};",
            f"const int own_row = {fast.format(threads)}, own_column = {slow.format(threads)};",
            *(f"const int f{i} = {text};" for i, text in enumerate(phases)),
            *(f"const int first{i} = {axis.first_text(f'f{i}')};" for i, axis in enumerate(self.axes)),
            *(f"const int offset{i} = {axis.offset_text(f'f{i}', f'first{i}')};" for i, axis in enumerate(self.axes)),
            f"{self.number} total[{tile.row_run}][{tile.column_run}];",
            self._each_sum("total[v][j] = 0;"),
            self._columns(),
            *(self._case(counts) for counts in itertools.product(*(axis.counts for axis in self.axes)) if 0 not in counts),
            self._finish(),
        )

    def _each_sum(self, body: str) -> str:
        tile = self.tile
        return f"UNROLL for (int v = 0; v < {tile.row_run}; v++) UNROLL for (int j = 0; j < {tile.column_run}; j++) {body}\n"

    # reading

    @property
    def _reading(self) -> tuple[int, int, int]:
        """How many columns, and units of depth, a thread reads; and how many threads read the same columns."""
        tile, units = self.tile, self.tile.depth // self.unit
        if self.unit > 1:
            return max(1, tile.columns * units // tile.threads), 1, units
        beside = max(1, tile.threads // tile.columns)
        return max(1, tile.columns // tile.threads), units // beside, beside

    def _columns(self) -> str:
        """Where in x the columns start that this thread reads."""
        (columns, _, beside), strides = self._reading, strides_of(self.x)
        apart = self.tile.threads // beside
        read = "thread / {0}, own_unit = thread % {0}" if self.unit > 1 else f"thread % {apart}, own_unit = thread / {apart}"
        places = coordinates("column", [self.x.shape[0], *(axis.count for axis in self.axes)])
        names = ", ".join(f"at{i}[{columns}]" for i in range(len(self.axes)))
        return lines(
            f"const int read_column = {read.format(beside)};",
            f"int start[{columns}], {names};",
            f"UNROLL for (int i = 0; i < {columns}; i++) {{",
            f"const int column = first_column + read_column + i * {apart};",
            f"start[i] = column < {self.positions} ? {places[0]} * {strides[0]} + group * {self.channels * strides[1]} : -1;",
            *(f"at{i}[i] = {places[1 + i]} * {axis.step} + offset{i};" for i, axis in enumerate(self.axes)),
            "}",
            spaces=0,
        )

    def _case(self, counts: tuple[int, ...]) -> str:
        """The sums of the phases that have so many taps."""
        tile, depth = self.tile, self.channels * math.prod(counts)
        steps = -(-depth // tile.depth)
        axes = enumerate(zip(self.axes, counts, strict=True))
        conditions = [axis.is_count_text(f"f{i}", f"first{i}", count) for i, (axis, count) in axes if len(axis.counts) > 1]
        more = f"if (step + 1 < {steps}) "
        return lines(
            f"if ({' && '.join(conditions) or 'true'}) {{",
            self._fetch(counts, depth),
            self._put(),
            "fetch(0);",
            "put(0);",
            "__syncthreads();",
            f"for (int step = 0; step < {steps}; step++) {{",
            f"{more}fetch((step + 1) * {tile.depth});",
            self._multiply(),
            f"{more}put((step + 1) % 2);",
            "__syncthreads();",
            "}",
            "}",
            spaces=0,
        )

    def _decode(self, counts: tuple[int, ...]) -> str:
        """From a place `k` in the depth to the channel `c` and the place m0, m1, ... among the taps."""
        inside = coordinates("tap", counts)
        return lines(
            f"const int c = k % {self.channels}, tap = k / {self.channels};",
            *(f"const int m{i} = {text};" for i, text in enumerate(inside)),
            spaces=0,
        )

    def _fetch(self, counts: tuple[int, ...], depth: int) -> str:
        """Reads one piece of the depth to registers."""
        (columns, units, beside), tile, memory = self._reading, self.tile, memory_type(self.x.dtype)
        strides, pack = strides_of(self.x), f"Pack<{memory}, {self.unit}>"
        places = [f"(at{i}[i] + m{i} * {axis.offset_step})" for i, axis in enumerate(self.axes)]
        inside = " && ".join(f"{place} >= 0 && {place} < {axis.size}" for place, axis in zip(places, self.axes, strict=True))
        return lines(
            f"{pack} given[{units}][{columns}];",
            f"Pack<{memory}, {self._row_unit}> weights[{self._weight_units}];",
            "auto fetch = [&](int first_depth) {",
            f"UNROLL for (int u = 0; u < {units}; u++) {{",
            f"const int k = first_depth + (own_unit + u * {beside}) * {self.unit};",
            self._decode(counts),
            f"UNROLL for (int i = 0; i < {columns}; i++) {{",
            f"given[u][i] = {pack}{{}};",
            f"if (k < {depth} && start[i] >= 0 && {inside})",
            f"given[u][i] = *(const {pack}*)(x + (start[i] + {weighted(['c', *places], strides[1:])}));",
            "}",
            "}",
            f"UNROLL for (int u = 0; u < {self._weight_units}; u++) {{",
            f"const int part = thread + u * {tile.threads}, row = first_row + part % {self._row_units} * {self._row_unit};",
            f"const int k = first_depth + part / {self._row_units};",
            self._decode(counts),
            self._fetch_weight(depth),
            "}",
            "};",
            spaces=0,
        )

    @property
    def _row_unit(self) -> int:
        """Rows of the weight that a thread reads at once."""
        return min(4, self.tile.rows) if self.is_packed else 1

    @property
    def _row_units(self) -> int:
        return self.tile.rows // self._row_unit

    @property
    def _weight_units(self) -> int:
        """Of a thread."""
        return -(-self.tile.depth * self._row_units // self.tile.threads)

    def _fetch_weight(self, depth: int) -> str:
        pack = f"Pack<{memory_type(self.x.dtype)}, {self._row_unit}>"
        text = "0"
        for i, axis in enumerate(self.axes):
            text = f"({text} * {axis.kernel} + first{i} + m{i} * {axis.tap_step})"
        at = weighted(["group", "row", "c", text], self.weight_strides)
        row = "" if self.is_packed else f" && row < {self.epilogue.channels // self.groups}"
        return lines(
            f"weights[u] = {pack}{{}};",
            f"if (k < {depth} && part < {self.tile.depth * self._row_units}{row}) weights[u] = *(const {pack}*)(weight + ({at}));",
            spaces=0,
        )

    def _put(self) -> str:
        """Registers to shared memory."""
        (columns, units, beside), tile = self._reading, self.tile
        apart = tile.threads // beside
        return lines(
            "auto put = [&](int buffer) {",
            f"UNROLL for (int u = 0; u < {units}; u++) UNROLL for (int i = 0; i < {columns}; i++)",
            f"UNROLL for (int e = 0; e < {self.unit}; e++)",
            f"right[(buffer * {tile.depth} + (own_unit + u * {beside}) * {self.unit} + e) * {tile.pitch} + read_column + i * {apart}]",
            f"  = {loaded('given[u][i].at[e]', self.x.dtype)};",
            f"UNROLL for (int u = 0; u < {self._weight_units}; u++) {{",
            f"const int part = thread + u * {tile.threads};",
            f"if (part < {tile.depth * self._row_units})",
            f"UNROLL for (int e = 0; e < {self._row_unit}; e++)",
            f"left[buffer * {tile.depth * tile.rows} + part * {self._row_unit} + e] = {loaded('weights[u].at[e]', self.x.dtype)};",
            "}",
            "};",
            spaces=0,
        )

    def _multiply(self) -> str:
        tile = self.tile
        pack = f"Pack<{self.number}, {tile.row_run}>"
        return lines(
            f"UNROLL for (int k = 0; k < {tile.depth}; k++) {{",
            f"const int line = step % 2 * {tile.depth} + k;",
            f"const {pack} a = *(const {pack}*)(left + line * {tile.rows} + own_row * {tile.row_run});",
            f"UNROLL for (int j = 0; j < {tile.column_run}; j++) {{",
            f"const {self.number} b = right[line * {tile.pitch} + own_column + j * {tile.columns // tile.column_run}];",
            f"UNROLL for (int v = 0; v < {tile.row_run}; v++) total[v][j] += a.at[v] * b;",
            "}",
            "}",
            spaces=0,
        )

    # writing

    def _finish(self) -> str:
        tile = self.tile
        places = coordinates("column", [self.x.shape[0], *(axis.count for axis in self.axes)])
        outside = [f"o{i} < {axis.out}" for i, axis in enumerate(self.axes) if axis.out % axis.spacing]
        place = ["n", "channel", *(f"o{i}" for i in range(len(self.axes)))]
        is_aligned = self.groups == 1 or self.rows % tile.row_run == 0
        outputs = (f"const int o{i} = {p} * {axis.spacing} + f{i};" for i, (p, axis) in enumerate(zip(places[1:], self.axes, strict=True)))
        store = self.epilogue.store(
            lambda v: f"total[{v}][j]", place, tile.row_run, f"(group + 1) * {self.rows}" if self.groups > 1 else "", is_aligned
        )
        return lines(
            f"const int channel = group * {self.rows} + first_row + own_row * {tile.row_run};",
            f"UNROLL for (int j = 0; j < {tile.column_run}; j++) {{",
            f"const int column = first_column + own_column + j * {tile.columns // tile.column_run};",
            f"const int n = {places[0]};",
            *outputs,
            f"if ({' && '.join([f'column < {self.positions}', *outside])}) {{",
            store,
            self._padding(place) if self.groups > 1 and self.epilogue.stored > self.epilogue.channels else "",
            "}",
            "}",
            spaces=0,
        )

    def _padding(self, place: list[str]) -> str:
        """The block of the last channels writes zeros behind them."""
        y = self.epilogue.y
        at = weighted([place[0], "lane", *place[2:]], strides_of(y))
        loop = f"for (int lane = {self.epilogue.channels}; lane < {self.epilogue.stored}; lane++) y[{at}] = {memory_type(y.dtype)}{{}};"
        return f"if (blockIdx.y == {self.grid[1] - 1} && own_row == 0) {loop}\n"
