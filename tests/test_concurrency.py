"""The walker and its pool: right answers on any number of threads and from several callers.

Each test runs a few rounds; `pytest -m sweep` runs them 200 times.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import pathlib
import re
import signal
import threading
import time

import numpy as np
import pytest
from runtime_kernels import CALLS, GATE, LAST, THREAD, RandomProgram

from tilewright.backends.cpu import pool
from tilewright.backends.cpu.program import Program, ProgramStep

linux = pytest.mark.skipif(not pool.HAS_WORKERS, reason="worker threads are for Linux")
rounds = pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.sweep)])


@rounds
@pytest.mark.parametrize("threads", [1, 2, 3, 6])
def test_random_programs(rng: np.random.Generator, threads: int, rounds: int) -> None:
    for _ in range(rounds):
        program = RandomProgram(rng, threads)
        for _ in range(4):
            program.check(rng)


@rounds
@pytest.mark.parametrize("threads", [1, 3])
def test_a_program_in_pieces(rng: np.random.Generator, threads: int, rounds: int) -> None:
    for _ in range(rounds):
        program = RandomProgram(rng, threads)
        cuts = [0, *sorted(int(c) for c in rng.integers(0, len(program.program) + 1, 3)), len(program.program)]

        def in_pieces(p: Program, bases: object, cuts: list[int] = cuts) -> None:
            for first, last in itertools.pairwise(cuts):
                p.run_range(bases, first, last)  # type: ignore[arg-type]

        program.check(rng, in_pieces)


@linux
@rounds
def test_units_are_stolen_from_a_thread_that_is_held_up(rounds: int) -> None:
    """Unit 0 does not end before all others have begun, those of the same thread's range too."""
    units = 32
    owners = np.repeat([1, 2], units // 2)
    program = Program([ProgramStep(LAST.address(), (0, 0, 1, 0, units), units, 1)], 2)
    for _ in range(min(rounds, 40)):
        begun, marks = np.zeros(1, np.int64), np.zeros(units, np.int64)
        program.run([begun.ctypes.data, marks.ctypes.data])
        holder = marks[0]
        assert holder in (1, 2), "unit 0 waited in vain"
        assert begun[0] == units
        assert (marks != owners).any(), marks


@linux
def test_every_thread_has_its_number(rng: np.random.Generator) -> None:
    program = Program([ProgramStep(THREAD.address(), (0, 0, 0, 0, 0), 999, 1)] * 30, 5)
    seen = set()
    threads = np.empty(999, np.int64)
    for _ in range(40):
        threads[:] = -1
        program.run([threads.ctypes.data])
        seen |= set(threads.tolist())
    assert seen <= set(range(5)) and len(seen) > 1
    alone = Program([ProgramStep(THREAD.address(), (0, 0, 0, 0, 0), 999, 1)], 1)
    alone.run([threads.ctypes.data])
    assert set(threads.tolist()) == {0}


@linux
@pytest.mark.skipif(pool.HAS_WORKERS and len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_workers_keep_off_the_callers_processor(rng: np.random.Generator) -> None:
    """Woken there, a worker would wait behind its caller while another processor idles."""
    program = RandomProgram(rng, 2)
    libc, tasks = ctypes.CDLL(None), pathlib.Path("/proc/self/task")
    pool.pool().rest()
    others = {task.name for task in tasks.iterdir()}
    pool.pool().resume()
    for _ in range(100):
        before = libc.sched_getcpu()
        program.check(rng)
        statuses = [task / "status" for task in tasks.iterdir() if task.name not in others]
        allowed = [re.search(r"Cpus_allowed:\s*([0-9a-f,]+)", status.read_text()) for status in statuses]
        masks = [int(found[1].replace(",", ""), 16) for found in allowed if found]
        if before == libc.sched_getcpu():
            assert masks and all(not mask >> before & 1 for mask in masks)
            return
    pytest.fail("the system moved this thread at every run")


@linux
@pytest.mark.parametrize(("units", "grain", "calls"), [(999, 999, 1), (999, 5000, 1), (999, 333, 3), (10, 1, 10), (0, 1, 0)])
def test_grains_decide_how_often_a_kernel_is_called(units: int, grain: int, calls: int) -> None:
    """A step of one grain is not shared."""
    program = Program([ProgramStep(CALLS.address(), (0, 8 * i, 0, 8 * i, 0), units, grain) for i in range(40)], 3)
    counts = np.zeros(40, np.int64)
    program.run([counts.ctypes.data])
    assert (counts == calls).all()


@linux
def test_workers_come_back_after_a_rest_and_block_all_signals() -> None:
    program = Program([ProgramStep(THREAD.address(), (0, 0, 0, 0, 0), 4096, 1)], 2)
    marks = np.zeros(4096, np.int64)
    for _ in range(3):
        pool.pool().rest()
        pool.pool().resume()
        marks[:] = 0
        deadline = time.monotonic() + 60
        while 1 not in marks:
            program.run([marks.ctypes.data])
            assert time.monotonic() < deadline, "no worker joins"
    ours = {str(thread.native_id) for thread in threading.enumerate()}
    status = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/status") if path.parent.name not in ours]
    blocked = [int(text.partition("SigBlk:")[2].split()[0], 16) for text in status]
    wanted = sum(1 << (number - 1) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGPROF))
    assert any(mask & wanted == wanted for mask in blocked), blocked


@linux
def test_a_run_that_finds_the_pool_taken_goes_alone(rng: np.random.Generator) -> None:
    gate = np.zeros(1, np.int64)
    held = np.zeros(2, np.int64)
    holder = Program([ProgramStep(GATE.address(), (0, 0, 1, 0, 0), 2, 1)], 2)
    thread = threading.Thread(target=holder.run, args=([gate.ctypes.data, held.ctypes.data],))
    thread.start()
    try:
        while not held.any():
            pass
        for _ in range(5):
            RandomProgram(rng, 3).check(rng)
        inside = np.full(64, -1, np.int64)
        Program([ProgramStep(THREAD.address(), (0, 0, 0, 0, 0), 64, 1)], 3).run([inside.ctypes.data])
        assert thread.is_alive() and not inside.any()
    finally:
        gate[0] = 1
        thread.join()
    assert (held == 1).all()


@rounds
@pytest.mark.parametrize("callers", [2, 3])
def test_python_threads_run_one_program_at_once(callers: int, rounds: int) -> None:
    failures = []

    def call(program: RandomProgram, seed: int) -> None:
        try:
            own = np.random.default_rng(seed)
            for _ in range(10):
                program.check(own)
        except BaseException as error:
            failures.append(error)

    for seed in range(rounds):
        program = RandomProgram(np.random.default_rng(seed), 2 + seed % 2)
        threads = [threading.Thread(target=call, args=(program, seed + 1000 * i)) for i in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]
