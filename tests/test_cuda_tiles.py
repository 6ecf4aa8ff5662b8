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
from tilewright.backends.cuda.schedule import GemmProblem, best_tiles, choose_tile, estimate, fitting, most_together, rate_of
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


@pytest.mark.parametrize("precision", PRECISIONS)
def test_small_gpus_get_few_blocks(precision: str) -> None:
    """The same layers of ResNet-50 at batch 1 on the same architecture."""
    problems = [GemmProblem(precision, *sizes) for sizes in ((49, 512, 4608), (196, 256, 2304), (784, 128, 1152), (196, 1024, 256))]
    large, small, smallest = ([choose_tile(p, dc.replace(SM_90, multiprocessors=n)) for p in problems] for n in (132, 28, 8))
    for problem, *tiles in zip(problems, large, small, strict=True):
        blocks = [t.splits * -(-problem.rows // t.rows) * -(-problem.columns // t.columns) for t in tiles]
        assert blocks[0] > blocks[1], (problem, tiles)
    splits = [sum(tile.splits for tile in tiles) for tiles in (large, small, smallest)]
    assert splits[0] > splits[1] > splits[2], splits


def test_each_architecture_has_speeds_of_its_own() -> None:
    """Of as many multiprocessors each."""

    def cycles(name: str, product: str) -> float:
        problem, architecture = GemmProblem(product, 3136, 256, 2304), dc.replace(ARCHITECTURES[name], multiprocessors=48)
        return estimate(problem, choose_tile(problem, architecture), architecture)

    assert cycles("sm_75", "fp32") > 1.5 * cycles("sm_86", "fp32") and cycles("sm_75", "fp32") > 4 * cycles("sm_75", "fp16")
    assert 1.5 * cycles("sm_86", "fp16") < cycles("sm_86", "fp32") < 3 * cycles("sm_86", "fp16")
    assert cycles("sm_90", "fp16") < cycles("sm_80", "fp16") < cycles("sm_86", "fp16")
    assert rate_of("tf32", SM_90) == 640 and rate_of("fp32", ARCHITECTURES["sm_80"]) == 64


def test_small_shared_memory_holds_two_blocks_or_one_of_more_stages() -> None:
    """The model weighs both; where there is more of it, two blocks have room beside each other anyway."""
    problem = GemmProblem("fp32", 10**5, 256, 1152)

    def stages(name: str) -> dict[int, int]:
        tiles = fitting(problem, ARCHITECTURES[name])
        squares = [tile for tile in tiles if (tile.rows, tile.columns, tile.splits) == (64, 64, 1)]
        return {tile.stages: most_together("fp32", tile, ARCHITECTURES[name]) for tile in squares}

    assert (stages("sm_75"), stages("sm_86"), stages("sm_90")) == ({2: 2, 4: 1}, {3: 2, 4: 1}, {4: 3})
    chosen = choose_tile(problem, ARCHITECTURES["sm_75"])
    assert chosen.stages * chosen.depth * (chosen.rows + chosen.columns) * 4 <= 64 * 1024


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
    for architecture, precision, batch in itertools.product(ARCHITECTURES.values(), PRECISIONS, (1, 64)):
        found = best_tiles(GemmProblem(precision, batch * 784, 128, 1152), architecture, 12)
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
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in ("sm_75", "sm_86") else pytest.mark.sweep) for n in ARCHITECTURES])
def test_machine_code_of_what_is_chosen(name: str) -> None:
    """The tile of a layer at batch 1, for its own architecture."""
    machine = Machine(ARCHITECTURES[name])
    for precision in PRECISIONS:
        if machine.architecture.supports(precision):
            node, _ = node_of(Case(256, 256, (14, 14), (3, 3), pad=1), precision, np.random.default_rng(1))
            (call,) = lower_convolution(node, dc.replace(machine, precision=precision))
            check_compiles(call.kernel, [machine.architecture])


@needs_nvrtc
@pytest.mark.sweep
@pytest.mark.parametrize("precision", PRECISIONS)
def test_machine_code_of_every_tile(precision: str) -> None:
    for kernel in compiled_kernels(precision):
        for stages in (2, kernel.tile.stages):
            smaller = dc.replace(kernel, tile=dc.replace(kernel.tile, stages=stages))
            check_compiles(smaller, architectures_for(smaller))
