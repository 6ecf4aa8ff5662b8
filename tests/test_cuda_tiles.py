"""Tiles of matrix products: no bank conflicts, no column twice, which one is chosen, and what the compiler makes of each."""

from __future__ import annotations

import dataclasses as dc
import itertools
from typing import Any

import numpy as np
import pytest
from cuda_harness import check_compiles, needs_nvrtc
from cuda_products import FIRST, PRECISIONS, SM_90, SUM, Case, candidate_tiles, kernel_of, node_of

from tilewright.backends.common.choices import Kept
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.conv_implicit_gemm import ImplicitGemmKernel
from tilewright.backends.cuda.convolution import lower_convolution
from tilewright.backends.cuda.gemm_call import with_tile
from tilewright.backends.cuda.gemm_tile import SharedRows
from tilewright.backends.cuda.kernel import Machine
from tilewright.backends.cuda.products import PRODUCTS
from tilewright.backends.cuda.schedule import GemmProblem, best_tiles, choose_tile
from tilewright.engine.expression import apply

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


def test_what_was_measured_comes_before_the_rule() -> None:
    node, _ = node_of(Case(64, 64, (8, 8), (3, 3), pad=1), "tf32", np.random.default_rng(1))
    (by_rule,) = lower_convolution(node, Machine(SM_90, "tf32"))
    asked = Kept({})
    lower_convolution(node, Machine(SM_90, "tf32", schedules=asked))
    (question,) = asked.open.values()
    assert question.rule == kernel_of(by_rule).tile and len(question.candidates) == 11
    other = question.candidates[5]
    (call,) = lower_convolution(node, Machine(SM_90, "tf32", schedules=asked.having(question, other)))
    assert kernel_of(call).tile == other != question.rule


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
    (call,) = lower_convolution(node, Machine(SM_90, precision))
    tiles = [tile for p, tile in candidate_tiles() if p == precision]
    return [kernel_of(with_tile(kernel_of(call), call.arguments, dc.replace(tile, splits=3))) for tile in tiles]


def architectures_for(kernel: ImplicitGemmKernel) -> list[Any]:
    able = [a for a in ARCHITECTURES.values() if a.supports(kernel.product)]
    return [a for a in able if kernel.shared <= a.shared_per_block]


@needs_nvrtc
@pytest.mark.parametrize("precision", PRECISIONS)
def test_machine_code(precision: str) -> None:
    """The largest tile, which needs the most registers, on the oldest and the newest architecture that has the product."""
    kernel = compiled_kernels(precision)[0]
    able = architectures_for(kernel)
    check_compiles(kernel, [able[0], able[-1]])


@needs_nvrtc
@pytest.mark.sweep
@pytest.mark.parametrize("precision", PRECISIONS)
def test_machine_code_of_every_tile(precision: str) -> None:
    for kernel in compiled_kernels(precision):
        for stages in (2, kernel.tile.stages):
            smaller = dc.replace(kernel, tile=dc.replace(kernel.tile, stages=stages))
            check_compiles(smaller, architectures_for(smaller))
