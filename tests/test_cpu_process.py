"""Programs over forks, signals and the end of the interpreter: right answers, no hang, no crash.

Each test runs a few rounds; `pytest -m sweep` runs them 200 times.
"""

from __future__ import annotations

import pytest
from runtime_kernels import run_script

from tilewright.backends.cpu import pool

linux = pytest.mark.skipif(not pool.HAS_WORKERS, reason="worker threads are for Linux")
rounds = pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.sweep)])

SCRIPT = '''
import os, signal, sys, threading, time
import numpy as np
from runtime_kernels import *
rng = np.random.default_rng(int(sys.argv[2]))
rounds = int(sys.argv[1])
programs = [RandomProgram(rng, threads) for threads in (1, 2, 3, 4, 2)]
def tasks(most):
    """How many threads the system sees; an ended one may take a moment to go."""
    for _ in range(1000):
        count = len(os.listdir("/proc/self/task"))
        if count <= most:
            break
        time.sleep(0.001)
    return count
'''


@linux
@rounds
def test_forked_children_run_it(rounds: int) -> None:
    """Also while another Python thread is running it, and the child of a child; no worker is alive during a fork."""
    before = """
alive = []
os.register_at_fork(before=lambda: alive.append(tasks(threading.active_count()) - threading.active_count()))
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
assert alive == [0] * rounds, alive
print("done")
"""
    script = SCRIPT.replace("import numpy", before + "import numpy")
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
def test_workers_end_before_the_interpreter_and_exit_handlers_still_work() -> None:
    before = """
import atexit
def late():
    print(tasks(1), "thread")
    child = os.fork()
    programs[3].check(rng)
    if not child:
        os._exit(5)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
atexit.register(late)
"""
    script = SCRIPT.replace("import numpy", before + "import numpy") + "for program in programs:\n    program.check(rng)\n"
    assert run_script(script, 0, 6, seconds=60) == "1 thread\n5\n"


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
def test_subprocesses_and_workers_leave_each_other_alone() -> None:
    """`subprocess` forks without Python's hooks."""
    body = """
import subprocess
for program in programs * 3:
    program.check(rng)
    assert subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True).stdout == b"5\\n"
print("done")
"""
    assert run_script(SCRIPT + body, 0, 5) == "done\n"
