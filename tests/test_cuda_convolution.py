"""Convolutions as tiled products: every kind of product and geometry in the emulator, against float64; and as machine code."""

from __future__ import annotations

import dataclasses as dc
import itertools
import math
from typing import Any

import numpy as np
import pytest
from cpu_harness import assert_close, expected, operand
from cuda_harness import NodeRun, check_compiles, needs_compiler, needs_nvrtc

from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.conv_implicit_gemm import ImplicitGemmKernel
from tilewright.backends.cuda.emulator.build import kernel_libraries
from tilewright.backends.cuda.emulator.launch import BASIC, THOROUGH, Schedule
from tilewright.backends.cuda.gemm_call import into_slice, with_tile
from tilewright.backends.cuda.gemm_tile import SharedRows
from tilewright.backends.cuda.kernel import Call, Machine, NoKernel, lower
from tilewright.backends.cuda.products import PRODUCTS
from tilewright.backends.cuda.schedule import GemmProblem, Tile, best_tiles, choose_tile, fitting
from tilewright.engine.expression import Expression, Operand, apply
from tilewright.engine.graph import Constant, Node
from tilewright.engine.ops import Conv, ConvTranspose
from tilewright.engine.tensor import Blocked

F2, F4 = np.dtype(np.float16), np.dtype(np.float32)
SM_90 = ARCHITECTURES["sm_90"]
TOLERANCE = {"fp32": 1e-5, "tf32x3": 1e-5, "tf32": 3e-3, "fp16": 1e-2, "bf16": 1e-2}
"""Of the largest result."""
SUM, FIRST, SECOND = Operand(0), Operand(1), Operand(2)
RELU = apply("relu", SUM)


@dc.dataclass(frozen=True)
class Case:
    """A convolution."""

    channels: int
    outputs: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    batch: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1
    epilogue: Expression = SUM
    extras: tuple[str, ...] = ()
    bias: bool = True
    transposed: bool = False
    more: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        marks = [f"{'t' if self.transposed else ''}{self.batch}x{self.channels}x{'x'.join(map(str, self.size))}", f"k{self.outputs}"]
        marks += ["x".join(map(str, self.kernel)), f"s{self.stride}p{self.pad}d{self.dilation}g{self.groups}", *self.extras]
        return "-".join(marks) + ("-" + "-".join(f"{n}{v}" for n, v in self.more) if self.more else "")


SHAPES = [
    Case(8, 16, (5, 7), (3, 3), pad=1),
    Case(3, 20, (9, 8), (7, 7), stride=2, pad=3, epilogue=RELU),
    Case(10, 6, (6, 6), (1, 1), batch=3, bias=False),
    Case(64, 40, (7, 7), (1, 1), stride=2),
    Case(24, 33, (11, 5), (5, 5), pad=2, batch=2),
    Case(16, 70, (4, 9), (3, 2), stride=3, pad=1),
    Case(12, 12, (13, 13), (3, 3), dilation=3, pad=3, epilogue=apply("silu", SUM + FIRST), extras=("full",)),
    Case(9, 31, (8, 8), (3, 3), pad=1, epilogue=apply("relu", SUM) * FIRST + SECOND, extras=("channel", "full"), batch=2),
    Case(20, 24, (6, 6), (3, 3), epilogue=SUM * FIRST + SECOND, extras=("one", "pixel"), batch=2),
    Case(16, 24, (6, 7), (3, 3), pad=1, groups=2),
    Case(64, 64, (6, 5), (3, 3), pad=1, groups=2, epilogue=RELU, batch=2),
    Case(32, 64, (5, 5), (3, 3), pad=1, groups=8, epilogue=SUM + FIRST, extras=("full",)),
    Case(15, 30, (5, 6), (3, 3), groups=3, stride=2, pad=1),
    Case(128, 128, (4, 4), (1, 1), groups=4, epilogue=SUM * FIRST, extras=("channel",), batch=2),
    Case(10, 18, (23,), (5,), pad=2, stride=2),
    Case(8, 20, (31,), (3,), dilation=4, batch=2, epilogue=apply("tanh", SUM)),
    Case(6, 10, (4, 5, 6), (3, 3, 3), pad=1),
    Case(4, 36, (5, 3, 7), (2, 1, 3), stride=2, pad=1, batch=2),
    Case(200, 12, (2, 3), (3, 3), pad=1),
    Case(72, 130, (3, 3), (1, 1)),
    Case(5, 7, (1, 1), (1, 1), batch=5),
    Case(12, 9, (10, 12), (4, 4), stride=4),
    Case(8, 8, (17, 3), (1, 3), pad=1, more=(("pads", ((0, 0), (2, 0))),)),
    Case(7, 40, (9, 9), (3, 3), pad=1, epilogue=apply("log", apply("abs", SUM) + 1)),
    Case(12, 20, (5, 6), (3, 3), stride=2, pad=1, transposed=True, epilogue=SUM + FIRST, extras=("full",)),
    Case(16, 16, (4, 4), (2, 2), stride=2, transposed=True, groups=2, batch=2),
    Case(8, 5, (5,), (5,), stride=3, dilation=2, transposed=True),
    Case(6, 9, (3, 3), (1, 1), stride=2, transposed=True, epilogue=RELU),
]
PRECISIONS = tuple(TOLERANCE)


def shared_by(precision: str) -> Tile:
    """A small tile of each kind."""
    return Tile(32, 32, {"fp32": 32, "fp16": 64}.get(precision, 32), 3, (8, 8) if precision == "fp32" else (2, 1))


def node_of(case: Case, precision: str, rng: np.random.Generator) -> tuple[Conv | ConvTranspose, dict[Node, np.ndarray]]:
    """The node over channels-last operands, and random values of these."""
    dtype = F2 if precision == "fp16" else F4
    unit = 16 // dtype.itemsize

    def last(array: np.ndarray) -> tuple[Node, np.ndarray]:
        return operand("x", array, Blocked(1, -(-array.shape[1] // unit) * unit)), array

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    x, value = last(random(case.batch, case.channels, *case.size))
    first, second = (case.channels, case.outputs) if case.transposed else (case.outputs, case.channels)
    weight = random(first, second // case.groups, *case.kernel)
    weight = (weight / math.sqrt(weight.size / case.outputs)).astype(dtype)
    spatial = len(case.size)
    given = {
        "strides": (case.stride,) * spatial, "pads": ((case.pad, case.pad),) * spatial, "dilations": (case.dilation,) * spatial,
        "groups": case.groups, **dict(case.more),
    }  # fmt: skip
    kind = ConvTranspose if case.transposed else Conv
    bias = Constant(data=random(case.outputs)) if case.bias else None
    shape = kind(x, Constant(data=weight), **given).type.shape
    values = {x: value}
    extras = []
    for name in case.extras:
        of = {"full": shape, "channel": (shape[0], shape[1], *[1] * spatial), "one": (1,), "pixel": (shape[0], 1, *shape[2:])}[name]
        extra, array = (operand("e", random(1)), random(1)) if name == "one" else last(random(*of))
        if name == "pixel":
            extra = operand("e", array)
        values[extra] = array
        extras.append(extra)
    layout = Blocked(1, -(-shape[1] // unit) * unit)
    node = kind(x, Constant(data=weight), bias, tuple(extras), epilogue=case.epilogue, layout=layout, **given)
    return node, values


def check(case: Case, precision: str, tile: Tile | None = None, schedules: tuple[Schedule, ...] = BASIC) -> list[Call]:
    """Assert that the kernels give what NumPy gives in float64, and the same bits in every schedule."""
    node, values = node_of(case, precision, np.random.default_rng(7))
    run = NodeRun(node, values, Machine(SM_90, precision))
    if tile is not None:
        run.calls = [with_tile(kernel_of(call), call.arguments, tile) for call in run.calls]
        run.libraries = kernel_libraries([call.kernel for call in run.calls])
    (wanted,) = expected(node, values)
    found = [run.run(schedule)[0] for schedule in schedules]
    assert_close(found[0], wanted, 0, TOLERANCE[precision] * float(np.abs(wanted).max()), str(case))
    for schedule, other in zip(schedules, found, strict=True):
        assert other.tobytes() == found[0].tobytes(), f"{case}: {schedule} gives other bits than {schedules[0]}"
    return run.calls


def kernel_of(call: Call) -> ImplicitGemmKernel:
    assert isinstance(call.kernel, ImplicitGemmKernel)
    return call.kernel


def sampled(cases: list[Any], every: int) -> list[Any]:
    """All cases, of which CI runs a part."""
    return [
        pytest.param(*case, marks=[] if i % every == 0 else pytest.mark.sweep, id="-".join(map(str, case))) for i, case in enumerate(cases)
    ]


@needs_compiler
@pytest.mark.parametrize(("case", "precision"), sampled([(c, p) for c in SHAPES for p in PRECISIONS], 3))
def test_geometry(case: Case, precision: str) -> None:
    check(case, precision)


DEEP = Case(72, 44, (5, 6), (3, 3), pad=1, epilogue=apply("silu", SUM + FIRST), extras=("full",))


@needs_compiler
@pytest.mark.parametrize(("splits", "precision"), sampled([(s, p) for s in (1, 2, 3, 4, 6, 8, 12, 16) for p in PRECISIONS], 4))
def test_splits(splits: int, precision: str) -> None:
    """Blocks share tiles and sum in the same order whoever comes last; the counters are zero again."""
    (call,) = check(DEEP, precision, dc.replace(shared_by(precision), depth=32, splits=splits))
    assert call.kernel.grid[2] == splits


@needs_compiler
@pytest.mark.sweep
@pytest.mark.parametrize("precision", PRECISIONS)
def test_splits_in_many_schedules(precision: str) -> None:
    check(DEEP, precision, dc.replace(shared_by(precision), splits=4, stages=4), THOROUGH)


def candidate_tiles() -> list[tuple[str, Tile]]:
    problem = {p: GemmProblem(p, 1000, 1000, 1000) for p in PRECISIONS}
    return [(p, t) for p in PRECISIONS for t in fitting(problem[p], SM_90) if t.splits == 1]


@needs_compiler
@pytest.mark.parametrize(("precision", "tile"), sampled(candidate_tiles(), 7))
def test_every_candidate(precision: str, tile: Tile) -> None:
    """Each tile, with odd numbers of positions and channels, in two schedules."""
    check(Case(20, 77, (9, 9), (3, 3), pad=1, stride=2, batch=5, epilogue=RELU), precision, tile, (BASIC[0], BASIC[-1]))


@needs_compiler
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_stages(stages: int) -> None:
    check(Case(40, 33, (6, 6), (3, 3), pad=1), "fp32", dc.replace(shared_by("fp32"), stages=stages))


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_padding_lanes_of_inputs_are_not_seen(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold any finite numbers."""
    import cuda_harness

    to_physical = cuda_harness.to_physical

    def with_garbage(array: np.ndarray, layout: Blocked | None) -> np.ndarray:
        physical = to_physical(array, layout)
        if layout is not None and array.dtype.kind == "f":
            physical[~to_physical(np.ones(array.shape, bool), layout)] = 1e4
        return physical

    monkeypatch.setattr(cuda_harness, "to_physical", with_garbage)
    check(Case(10, 18, (5, 5), (3, 3), pad=1, epilogue=SUM + FIRST, extras=("full",)), precision, schedules=BASIC[:1])


@needs_compiler
def test_result_in_a_slice(rng: np.random.Generator) -> None:
    """Channels 8 to 20 of 32, and an offset that fills no 16 bytes: the neighbours stay as they are."""
    for start, outputs in ((8, 12), (5, 11)):
        node, values = node_of(Case(8, outputs, (4, 5), (3, 3), pad=1), "fp32", rng)
        whole = operand("whole", np.zeros((1, 32, 4, 5), F4), Blocked(1, 32))
        run = NodeRun(node, values, Machine(SM_90))
        run.node = whole
        run.calls = [into_slice(call, node, whole, start, 32) for call in run.calls]
        run.libraries = kernel_libraries([call.kernel for call in run.calls])
        run._result = lambda memory, index: memory.bytes.view(F4).reshape(4, 5, 32).copy()  # type: ignore[method-assign]
        (found,) = run.run(BASIC[3])
        (wanted,) = expected(node, values)
        np.testing.assert_allclose(found[..., start : start + outputs], np.moveaxis(wanted[0], 0, -1), atol=1e-5)
        assert np.isnan(np.delete(found, np.s_[start : start + outputs], axis=-1)).all()


# what is declined


@pytest.mark.parametrize(
    ("case", "why"),
    [(Case(16, 16, (5, 5), (3, 3), groups=16), "depthwise"), (Case(16, 16, (5, 5), (3, 3), more=(("layout", None),)), "channels-last")],
)
def test_declined(case: Case, why: str, rng: np.random.Generator) -> None:
    from cuda_harness import load_kernels

    load_kernels()
    node, _ = node_of(dc.replace(case, more=()), "fp32", rng)
    if case.more:
        node = node.replace(layout=None)
    from tilewright.backends.cuda.convolution import lower_convolution

    with pytest.raises(NoKernel, match=why):
        lower_convolution(node, Machine(SM_90))


# shared memory


def wavefronts(addresses: list[int]) -> int:
    """Passes over the banks that 32 accesses of 16 bytes take: of each eight lanes, different pieces in the same banks wait for another."""
    total = 0
    for first in range(0, len(addresses), 8):
        banks: dict[int, set[int]] = {}
        for address in addresses[first : first + 8]:
            banks.setdefault(address // 16 % 8, set()).add(address)
        total += max(map(len, banks.values()))
    return total


def test_shared_memory_has_no_bank_conflicts() -> None:
    """Enumerated from the very text of the kernels: 4 passes for 32 times 16 bytes, which is the least."""
    for precision, tile in candidate_tiles():
        for width in (4, 8) if precision == "fp16" and tile.columns // tile.parts[1] % 32 == 0 else (4,):
            product: Any = PRODUCTS[precision](tile, width, True)
            for rows, extent in ((product.left_rows, tile.rows), (product.right_rows, tile.columns)):
                places = {place(rows, row, chunk) for row in range(extent) for chunk in range(rows.chunks)}
                assert places == set(range(0, extent * rows.nbytes, 16)), "places of chunks overlap"
                copied = [place(rows, lane // rows.chunks, lane % rows.chunks) for lane in range(32)]
                assert wavefronts(copied) == 4, f"copying {precision} {tile}"
            for read in (reads_of_threads if precision == "fp32" else reads_of_warps)(product):
                assert wavefronts(read) <= 4, f"reading {precision} {tile}"


def place(rows: SharedRows, row: int, chunk: int) -> int:
    return eval(rows.place("row", "chunk"), {"row": row, "chunk": chunk})


def reads_of_warps(product: Any) -> list[list[int]]:
    found = []
    for chunk in range(0, product.left_rows.chunks, 2):
        found.append([place(product.left_rows, lane % 16, chunk + lane // 16) for lane in range(32)])
    for chunk, p in itertools.product(range(0, product.right_rows.chunks, 2), range(product.column_fragments // 2)):
        text = product.right_row().replace("/", "//")
        rows = [eval(text, {"lane": lane, "p": p, "part_column": 0}) for lane in range(32)]
        found.append([place(product.right_rows, row, chunk + lane // 8 % 2) for lane, row in enumerate(rows)])
    return found


def reads_of_threads(product: Any) -> list[list[int]]:
    columns = product.tile.parts[1]
    right = [[place(product.right_rows, lane % columns * 4, chunk) for lane in range(32)] for chunk in range(8)]
    return right + [[place(product.left_rows, lane // columns, chunk) for lane in range(32)] for chunk in range(8)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vectors_cover_every_column_once(precision: str) -> None:
    """Rows and columns of all threads, by the text of the kernels, are those of the tile."""
    for tile in [t for p, t in candidate_tiles() if p == precision]:
        product: Any = PRODUCTS[precision](tile, 4, True)
        seen = set()
        loops = itertools.product(*(range(n) for _, n in product.row_loops), range(product.groups), range(product.threads))
        for *numbers, g, thread in loops:
            names = dict(zip((name for name, _ in product.row_loops), numbers, strict=True))
            rows, columns = tile.parts
            if precision == "fp32":
                names |= {"part_column": thread % columns, "part_row": thread // columns}
            else:
                names |= {"lane": thread % 32, "part_row": thread // 32 % rows * product.part_rows}
                names |= {"part_column": thread // (32 * rows) * product.part_columns}
            row, column = (eval(text.replace("/", "//"), names | {"g": g}) for text in (product.row, product.column))
            seen |= {(row, column + v) for v in range(4)}
        assert len(seen) == tile.rows * tile.columns and max(seen) == (tile.rows - 1, tile.columns - 1)


# the choice of tiles


def test_few_tiles_are_split() -> None:
    """At batch 1 the deep layers of ResNet-50 have fewer tiles than a GPU has multiprocessors."""
    for precision in PRECISIONS:
        deep = GemmProblem(precision, 49, 512, 4608)
        tile = choose_tile(deep, SM_90)
        blocks = -(-deep.rows // tile.rows) * -(-deep.columns // tile.columns) * tile.splits
        assert tile.splits > 1 and blocks >= 64, (precision, tile)
        wide = choose_tile(GemmProblem(precision, 64 * 56 * 56, 256, 576), SM_90)
        assert wide.splits == 1 and wide.rows * wide.columns >= 64 * 64, (precision, wide)


def test_tiles_fit_their_architecture() -> None:
    for architecture, precision in itertools.product(ARCHITECTURES.values(), PRECISIONS):
        found = best_tiles(GemmProblem(precision, 784, 128, 1152), architecture, 12)
        assert len(set(found)) == 12
        for tile in found:
            product: Any = PRODUCTS[precision](tile, 4, False)
            needed = tile.stages * tile.depth * (tile.rows * product.item + tile.columns * product.right_item)
            assert needed <= architecture.shared_per_block


# machine code


def compiled_kernels(precision: str) -> list[ImplicitGemmKernel]:
    """Each tile with the shape, and the epilogue, of a layer that uses everything."""
    case = Case(72, 200, (14, 14), (3, 3), stride=2, pad=1, batch=3, epilogue=apply("silu", SUM + FIRST), extras=("full",))
    node, _ = node_of(case, precision, np.random.default_rng(1))
    (call,) = lower(node, Machine(SM_90, precision))
    tiles = [tile for p, tile in candidate_tiles() if p == precision]
    return [kernel_of(with_tile(kernel_of(call), call.arguments, dc.replace(tile, splits=3))) for tile in tiles]


def architectures_for(kernel: ImplicitGemmKernel) -> list[Any]:
    able = [a for a in ARCHITECTURES.values() if a.supports(kernel.product)]
    return [a for a in able if kernel.shared <= a.shared_per_block]


@needs_nvrtc
@pytest.mark.parametrize("precision", PRECISIONS)
def test_machine_code(precision: str) -> None:
    """The largest tile, which needs the most registers, on the oldest and the newest architecture that has the product."""
    from cuda_harness import load_kernels

    load_kernels()
    kernel = compiled_kernels(precision)[0]
    able = architectures_for(kernel)
    check_compiles(kernel, [able[0], able[-1]])


@needs_nvrtc
@pytest.mark.sweep
@pytest.mark.parametrize("precision", PRECISIONS)
def test_machine_code_of_every_tile(precision: str) -> None:
    from cuda_harness import load_kernels

    load_kernels()
    for kernel in compiled_kernels(precision):
        for stages in (2, kernel.tile.stages):
            smaller = dc.replace(kernel, tile=dc.replace(kernel.tile, stages=stages))
            check_compiles(smaller, architectures_for(smaller))
