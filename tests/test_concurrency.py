"""The walker and its pool: right answers on any number of threads, from several callers, over forks, signals and exits.

Each test runs a few rounds; `pytest -m sweep` runs them 200 times.
"""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from runtime_kernels import GATE, LAST, THREAD, RandomProgram, run_script

from tilewright.backends.cpu import pool
from tilewright.backends.cpu.program import Program, ProgramStep

linux = pytest.mark.skipif(not pool.HAS_WORKERS, reason="worker threads are for Linux")
rounds = pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.sweep)])

SCRIPT = """
import os, signal, sys, threading, time
import numpy as np
from runtime_kernels import *
rng = np.random.default_rng(int(sys.argv[2]))
rounds = int(sys.argv[1])
programs = [RandomProgram(rng, threads) for threads in (1, 2, 3, 4, 2)]
def tasks():
    return len(os.listdir("/proc/self/task"))
"""


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
def test_a_step_of_one_grain_is_not_shared() -> None:
    program = Program([ProgramStep(THREAD.address(), (0, 0, 0, 8 * 999 * i, 0), 999, 999) for i in range(30)], 3)
    threads = np.full((30, 999), -1, np.int64)
    program.run([threads.ctypes.data])
    assert (threads == threads[:, :1]).all() and (threads >= 0).all()


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


@linux
@rounds
def test_forked_children_run_it(rounds: int) -> None:
    """Also while another Python thread is running it, and the child of a child; no worker is alive during a fork."""
    before = """
alive = []
os.register_at_fork(before=lambda: alive.append(tasks() - threading.active_count()))
"""
    body = """
stop = False
def busy():
    own = np.random.default_rng(5)
    while not stop:
        programs[1].check(own)
other = threading.Thread(target=busy)
other.start()
for i in range(rounds):
    programs[i % 5].check(rng)
    child = os.fork()
    if not child:
        for program in programs:
            program.check(rng)
        grandchild = os.fork()
        programs[2].check(rng)
        if grandchild:
            assert os.waitpid(grandchild, 0)[1] == 0
        os._exit(0)
    programs[2].check(rng)
    assert os.waitpid(child, 0)[1] == 0, f"round {i}"
stop = True
other.join()
assert len(alive) == rounds and sum(n <= 0 for n in alive) >= rounds * 0.9, alive
print("done")
"""
    script = SCRIPT.replace("import numpy", before.replace("tasks()", 'len(os.listdir("/proc/self/task"))') + "import numpy")
    assert run_script(script + body, rounds, 1).endswith("done\n")


@linux
@rounds
def test_the_interpreter_ends_right_after_a_run(rounds: int) -> None:
    """A forked child takes its interpreter down as any process does."""
    body = """
for i in range(rounds):
    child = os.fork()
    if not child:
        programs[1 + i % 4].check(rng)
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7, f"round {i}"
for program in programs:
    program.check(rng)
print("done")
"""
    assert run_script(SCRIPT + body, rounds, 2) == "done\n"


@linux
@pytest.mark.parametrize("fresh", [4, pytest.param(50, marks=pytest.mark.sweep)])
def test_the_interpreter_ends_while_threads_still_run(fresh: int) -> None:
    """Daemon threads are inside native code then, and what the last references keep alive goes away."""
    body = """
def forever(program):
    own = np.random.default_rng(5)
    while True:
        program.check(own)
for program in programs[1:4]:
    threading.Thread(target=forever, args=(program,), daemon=True).start()
programs[1].check(rng)
time.sleep(0.05)
print("leaving", flush=True)
"""
    for seed in range(fresh):
        assert run_script(SCRIPT + body, 0, seed) == "leaving\n"


@linux
@rounds
def test_signal_handlers_may_run_programs_and_fork(rounds: int) -> None:
    """Signals arrive between any two instructions of the Python side; the native side takes and frees the pool by itself."""
    body = """
own, calls = np.random.default_rng(3), 0
def handler(*_):
    global calls
    calls += 1
    programs[calls % 5].check(own)
    if calls % 8 == 0:
        child = os.fork()
        if not child:
            programs[2].check(own)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    if calls < 10 * rounds:
        signal.setitimer(signal.ITIMER_REAL, 0.0003)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001)
while calls < 10 * rounds:
    for program in programs:
        program.check(rng)
print("done")
"""
    assert run_script(SCRIPT + body, rounds, 3) == "done\n"


@linux
def test_interrupting_a_run_leaves_everything_usable() -> None:
    """Ctrl-C is seen when the native call returns, at whatever instruction it comes."""
    body = """
gate, marks = np.zeros(1, np.int64), np.zeros(4, np.int64)
long = Program([ProgramStep(GATE.address(), (0, 0, 1, 0, 0), 4, 1)], 2)
def interrupt():
    while not marks.any():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
    gate[0] = 1
thread = threading.Thread(target=interrupt)
thread.start()
try:
    long.run([gate.ctypes.data, marks.ctypes.data])
    raise SystemExit("no interrupt")
except KeyboardInterrupt:
    assert (marks == 1).all(), "the run was cut short"
thread.join()
caught = 0
signal.signal(signal.SIGALRM, signal.default_int_handler)
while caught < 30:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.0001 * caught)
        while True:
            programs[1 + caught % 4].check(rng)
    except KeyboardInterrupt:
        caught += 1
for program in programs:
    program.check(rng)
inside = np.full(4096, -1, np.int64)
shared = Program([ProgramStep(THREAD.address(), (0, 0, 0, 0, 0), 4096, 1)], 2)
deadline = time.time() + 60
while 1 not in inside:
    shared.run([inside.ctypes.data])
    assert time.time() < deadline, "the pool is gone"
print("done")
"""
    assert run_script(SCRIPT + body, 0, 4) == "done\n"


@linux
def test_subprocesses_and_workers_leave_each_other_alone(rng: np.random.Generator) -> None:
    """`subprocess` forks without Python's hooks."""
    body = """
import subprocess
for program in programs * 3:
    program.check(rng)
    assert subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True).stdout == b"5\\n"
print("done")
"""
    assert run_script(SCRIPT + body, 0, 5) == "done\n"
