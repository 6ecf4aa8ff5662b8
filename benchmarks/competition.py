"""How much a model slows down while another process keeps every processor busy: Tilewright beside onnxruntime.

    python benchmarks/competition.py MODEL ... [--threads 2] [--rounds 10] [--window 0.5]

The competitor is one busy process tied to each processor. In each round both engines run once by themselves
and once beside the competitor, in processes of their own, the other one stopped. Medians in milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np

from tilewright.engine.bench.engines import OURS, Task
from tilewright.engine.bench.measure import PAUSE
from tilewright.engine.bench.process import Worker
from tilewright.engine.cli import bench, console
from tilewright.engine.cli.inputs import random_array, require_shapes
from tilewright.engine.compiler import load_source
from tilewright.engine.source import specialize

ENGINES = (OURS, "onnxruntime")
COLUMNS = ["model", "engine", "alone", "beside the competitor", "slower by"]
COMPETITOR = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # it ends with the process that started it
os.sched_setaffinity(0, {int(sys.argv[1])})
print("ready", flush=True)
while True:
    pass
"""


class Competitor:
    """One process on each processor, stopped unless it is asked to compete."""

    def __init__(self) -> None:
        commands = [[sys.executable, "-c", COMPETITOR, str(processor)] for processor in os.sched_getaffinity(0)]
        self._processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
        for process in self._processes:
            assert process.stdout
            process.stdout.readline()
        self._signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def competing(self) -> Iterator[None]:
        """It computes inside, and rests outside."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, what: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(what)

    def __enter__(self) -> Competitor:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def measure(model: str, threads: int, rounds: int, window: float) -> dict[str, tuple[float, float]]:
    """(median alone, median beside the competitor) of each engine, in seconds."""
    source, rng = load_source(model), np.random.default_rng(0)
    fixed = require_shapes(source, {})
    inputs = {spec.name: random_array(spec, fixed[spec.name], rng) for spec in source.inputs}
    alone, beside = ({engine: list[float]() for engine in ENGINES} for _ in range(2))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = bench.onnx_file(model if os.path.exists(model) else None, specialize(source, inputs), folder)
        workers = {engine: stack.enter_context(Worker(threads)) for engine in ENGINES}
        for engine, worker in workers.items():
            worker.ask("load", engine, Task(path, fixed, bench.dimensions(source, fixed), threads), inputs)
        competitor = stack.enter_context(Competitor())
        for index in range(rounds):
            for engine in ENGINES if index % 2 else ENGINES[::-1]:
                time.sleep(PAUSE)
                alone[engine] += workers[engine].ask("window", window)
                with competitor.competing():
                    beside[engine] += workers[engine].ask("window", window)
    return {engine: (statistics.median(alone[engine]), statistics.median(beside[engine])) for engine in ENGINES}


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when Tilewright slows down by more than onnxruntime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="ONNX files or names of the zoo")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--window", type=float, default=0.5, help="seconds of a turn")
    options = parser.parse_args(arguments)
    rows, worse = list[list[str]](), list[str]()
    for model in options.models:
        with console.working(f"measuring {model}"):
            found = measure(model, options.threads, options.rounds, options.window)
        ratios = {engine: beside / alone for engine, (alone, beside) in found.items()}
        rows += [
            [os.path.basename(model), engine, console.duration(alone), console.duration(beside), f"{ratios[engine]:.2f}"]
            for engine, (alone, beside) in found.items()
        ]
        if ratios[OURS] > ratios["onnxruntime"]:
            worse.append(os.path.basename(model))
    console.table(COLUMNS, rows)
    print(f"\nTilewright slows down by more than onnxruntime on: {', '.join(worse) or 'none'}")
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
