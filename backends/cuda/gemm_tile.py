"""The operands of a tiled matrix product: where their elements lie, and how a block copies them into shared memory stage by stage.

Both are rows whose elements follow each other along K. A row of the left one is an output position: for each tap of the kernel
that slides over x a run of channels, or zeros where the tap falls outside. A row of the right one is an output channel.
"""

from __future__ import annotations

import dataclasses as dc
import math

CHUNK = 16
"""Bytes that one copy moves."""


def loop(name: str, count: int, body: list[str], unroll: str = "UNROLL") -> list[str]:
    """Lines of an unrolled loop."""
    return [f"{unroll} for (int {name} = 0; {name} < {count}; {name}++) {{", *(f"  {line}" for line in body), "}"]


@dc.dataclass(frozen=True)
class SharedRows:
    """Rows of `nbytes` bytes in shared memory, in chunks of 16 bytes that change their places from row to row.

    Threads read one chunk of 8 rows at a time, rows that differ in the three `bits` of their numbers. These eight pieces, and those
    that eight neighbouring threads copy, lie in different banks.
    """

    nbytes: int
    bits: tuple[int, int, int]

    @property
    def chunks(self) -> int:
        """Of a row."""
        return self.nbytes // CHUNK

    def place(self, row: str, chunk: str) -> str:
        """Bytes from the first row to a chunk. The text means the same in C++ and in Python."""
        low, middle, high = self.bits
        assert high == middle + 1, self
        if self.nbytes == 128:
            key = f"({row}) >> {low} & 7" if middle == low + 1 else f"(({row}) >> {low} & 1 | ({row}) >> {middle - 1} & 6)"
            return f"(({row}) * 128 + ((({chunk}) ^ ({key})) << 4))"
        assert self.nbytes == 64 and low == 0, self
        return f"(({row}) * 64 + ((({chunk}) ^ (({row}) >> {middle} & 3)) << 4))"


@dc.dataclass(frozen=True)
class Walk:
    """One spatial axis of x: output j of phase f meets tap t at input j*step + offset + f*moved + t*spacing."""

    size: int
    """Inputs."""
    count: int
    """Outputs."""
    step: int
    taps: int
    offset: int
    spacing: int
    stride: int
    """Elements from one input to the next."""
    phases: int = 1
    moved: int = 0
    behind: int = 1
    """Products of the stack from those of one phase to those of the next."""

    @property
    def is_bounded(self) -> bool:
        """Whether some tap of some output falls outside."""
        reaches = (self.taps - 1) * self.spacing, (self.phases - 1) * self.moved
        low, high = (sum(limit(0, reach) for reach in reaches) for limit in (min, max))
        return self.offset + low < 0 or (self.count - 1) * self.step + self.offset + high >= self.size

    @property
    def offset_text(self) -> str:
        """Where tap 0 of output 0 reads, in the phase that the product `number` of the stack is of."""
        return f"{self.offset} + number / {self.behind} % {self.phases} * {self.moved}" if self.moved else str(self.offset)


@dc.dataclass(frozen=True)
class Gather:
    """The left operand: `channels` neighbouring elements of x for each tap; its rows count images, then the outputs of each axis."""

    images: int
    image: int
    """Elements from one image to the next."""
    axes: tuple[Walk, ...]
    channels: int
    is_aligned: bool = True
    """Every chunk of channels starts at a multiple of 16 bytes and ends before the channels do."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.images * math.prod(axis.count for axis in self.axes)

    @property
    def depth(self) -> int:
        """Elements of a row."""
        return self.channels * math.prod(axis.taps for axis in self.axes)


@dc.dataclass(frozen=True)
class Columns:
    """The right operand: row n is output channel n."""

    columns: int
    depth: int
    """Elements of a row: as many as the left operand's, or a few zeros more."""
    stride: int
    """Elements from one row to the next."""
    step: int = 1
    """Elements from one to the next along K."""
    is_aligned: bool = True


@dc.dataclass(frozen=True)
class Copying:
    """What the threads of a block copy together at a time: `rows` rows of one operand, `depth` elements of each."""

    name: str
    """Of the operand; variables begin with it."""
    pointer: str
    rows: int
    depth: int
    itemsize: int
    threads: int
    shared: SharedRows
    first_row: str

    @property
    def chunks(self) -> int:
        """Of all rows together, for each thread."""
        return self.rows * self.shared.chunks // self.threads

    @property
    def elements(self) -> int:
        """Of a chunk."""
        return CHUNK // self.itemsize

    @property
    def rows_at_once(self) -> int:
        return self.threads // self.shared.chunks

    def begin(self) -> list[str]:
        """Which chunk of which rows this thread copies."""
        return [
            f"const int {self.name}_chunk = thread % {self.shared.chunks}, {self.name}_row = thread / {self.shared.chunks};",
        ]

    def row(self, i: str) -> str:
        """The i-th row of this thread."""
        return f"{self.name}_row + {i} * {self.rows_at_once}"

    def copy(self, row: str, chunk: str, source: str, conditions: list[str]) -> list[str]:
        """One aligned chunk."""
        inside = " && ".join(conditions) or "true"
        given = f"inside ? {source} : {self.pointer}" if conditions else source
        return [f"const bool inside = {inside};", f"cp_async16(to + {self.shared.place(row, chunk)}, {given}, inside);"]

    def copy_elements(self, row: str, chunk: str, source: str, conditions: list[str], k: str, depth: int, step: int) -> list[str]:
        """One chunk whose elements lie apart, or not at a multiple of 16 bytes."""
        inside = " && ".join([*conditions, f"{k} + e < {depth}"])
        to = f"to + {self.shared.place(row, chunk)} + e * {self.itemsize}"
        source = f"{source} + e{f' * {step}' if step > 1 else ''}"
        if self.itemsize == 4:
            one = f"cp_async4({to}, inside ? {source} : {self.pointer}, inside);"
        else:
            one = f"*(uint16*)({to}) = inside ? *(const uint16*)({source}) : (uint16)0;"
        return loop("e", self.elements, [f"const bool inside = {inside};", one])


def begin_left(left: Gather, copying: Copying) -> list[str]:
    """For each row of this thread where its output lies in x: before tap 0, in elements and along every axis."""
    count, name = copying.chunks, copying.name
    arrays = [f"{name}_at[{count}]", *(f"{name}_at{d}[{count}]" for d, axis in enumerate(left.axes) if axis.is_bounded)]
    body, terms, rest = [f"int m = {copying.first_row} + {copying.row('i')};"], list[str](), 1
    for d, axis in reversed(list(enumerate(left.axes))):
        rest *= axis.count
        body.append(f"const int p{d} = m % {axis.count} * {axis.step} + ({axis.offset_text});")
        body.append(f"m /= {axis.count};")
        terms.append(f"p{d} * {axis.stride}")
        if axis.is_bounded:
            body.append(f"{name}_at{d}[i] = p{d};")
    body.append(f"{name}_at[i] = {' + '.join([f'm * {left.image}', *terms])};")
    return [*copying.begin(), f"int {', '.join(arrays)};", *loop("i", count, body)]


def copy_left(left: Gather, copying: Copying) -> list[str]:
    """Statements that copy stage `step` of the left operand to `to`."""
    name, depth = copying.name, left.depth
    lines = [f"const int k = step * {copying.depth} + {name}_chunk * {copying.elements};"]
    moved, outside = "k", [f"k < {depth}"] if depth % copying.depth or not left.is_aligned else []
    tests = list[str]()
    if left.axes:
        lines += [f"int tap = k / {left.channels};", f"int moved = k - tap * {left.channels};"]
        moved = "moved"
        for d, axis in reversed(list(enumerate(left.axes))):
            lines += [f"const int r{d} = tap % {max(axis.taps, 1)} * ({axis.spacing});", f"tap /= {max(axis.taps, 1)};"]
            lines.append(f"moved += r{d} * {axis.stride};")
            if axis.is_bounded:
                tests.append(f"(uint32)({name}_at{d}[i] + r{d}) < {axis.size}u")
    if left.rows % copying.rows:
        tests.append(f"{copying.first_row} + {copying.row('i')} < {left.rows}")
    source = f"{copying.pointer} + {name}_at[i] + {moved}"
    conditions = [*outside, *tests]
    if left.is_aligned:
        body = copying.copy(copying.row("i"), f"{name}_chunk", source, conditions)
    else:
        body = copying.copy_elements(copying.row("i"), f"{name}_chunk", source, conditions, "k", depth, 1)
    return [*lines, *loop("i", copying.chunks, body)]


def copy_right(right: Columns, copying: Copying) -> list[str]:
    """Statements that copy stage `step` of the right operand to `to`."""
    name, tail = copying.name, right.depth % copying.depth
    in_rows = [f"{copying.first_row} + row < {right.columns}"] if right.columns % copying.rows else []
    if right.is_aligned and right.step == 1:
        lines = [f"const int k = step * {copying.depth} + {name}_chunk * {copying.elements};"]
        source = f"{copying.pointer} + ({copying.first_row} + row) * {right.stride} + k"
        conditions = [*([f"k < {right.depth}"] if tail else []), *in_rows]
        body = [f"const int row = {copying.row('i')};", *copying.copy("row", f"{name}_chunk", source, conditions)]
        return [*lines, *loop("i", copying.chunks, body)]
    body = [  # neighbouring threads copy neighbouring rows, which are neighbours in memory
        f"const int number = thread + i * {copying.threads}, row = number % {copying.rows}, chunk = number / {copying.rows};",
        f"const int k = step * {copying.depth} + chunk * {copying.elements};",
    ]
    step = f" * {right.step}" if right.step > 1 else ""
    source = f"{copying.pointer} + ({copying.first_row} + row) * {right.stride} + k{step}"
    body += copying.copy_elements("row", "chunk", source, in_rows, "k", right.depth, right.step)
    return loop("i", copying.chunks, body)
