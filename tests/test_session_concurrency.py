"""One session under stress: Python threads that share it, forked children, and interpreters that exit right after a run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

PROLOGUE = """
import os, sys, threading
import numpy as np
import tilewright as tw
session = tw.compile("lenet5", shapes={"image": (4, 1, 28, 28)}, threads=2)
images = np.random.default_rng(0).random((8, 4, 1, 28, 28), np.float32)
expected = [session(image).tobytes() for image in images]
"""

THREADS = """
wrong = []
def work(first):
    for i in range(25):
        index = (first + i) % 8
        if session(images[index]).tobytes() != expected[index]:
            wrong.append(index)
for _ in range({rounds}):
    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
assert not wrong, wrong
"""

FORKS = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
for k in range({rounds}):
    child = os.fork()
    if child == 0:
        right = all(session(image).tobytes() == answer for image, answer in zip(images, expected))
        os._exit(0 if right else 1)
    assert session(images[k % 8]).tobytes() == expected[k % 8]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

COMPILING = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
started, go_on, build, parent = threading.Event(), threading.Event(), session._build, os.getpid()
def slow(graph, report):
    started.set()
    assert os.getpid() != parent or go_on.wait(60)
    return build(graph, report)
session._build = slow
compiling = threading.Thread(target=session, args=(images[0][:3],))
compiling.start()
assert started.wait(60)
assert session(images[1]).tobytes() == expected[1]
child = os.fork()
if child == 0:
    right = session(images[2]).tobytes() == expected[2] and session(images[0][:2]).shape == (2, 10)
    os._exit(0 if right else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
go_on.set()
compiling.join()
assert len(session._plans) == 2
"""

EXIT = """
session(images[0])
"""


def run(body: str, rounds: int) -> None:
    """The program in an interpreter of its own; it must end by itself, and well."""
    source = PROLOGUE + textwrap.dedent(body).replace("{rounds}", str(rounds))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.sweep)])
def test_python_threads_share_a_session(rounds: int) -> None:
    run(THREADS, rounds)


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.sweep)])
def test_forked_children_run_a_session(rounds: int) -> None:
    run(FORKS, rounds)


def test_a_plan_that_is_being_made_holds_up_neither_those_there_are_nor_a_child() -> None:
    run(COMPILING, 1)


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.sweep)])
def test_exit_right_after_a_run(rounds: int) -> None:
    for _ in range(rounds):
        run(EXIT, 1)
