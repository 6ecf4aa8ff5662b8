"""Numbers on the GPU: wrappers, the tables of the emulated tests, and the zoo, against float64."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from gpu_steps import Task

TESTS = pathlib.Path(__file__).parents[1] / "tests"
NOT_CASES = ("prelude", "emulator", "planted_bugs", "convolution_bugs", "barriers", "compile", "operators_compile", "tuning", "plan")
"""Tests of the emulator itself, of the compiler, and of the host."""
BOUND = {"fp32": 1e-4, "tf32x3": 1e-4, "tf32": 2e-2, "bf16": 1e-1, "fp16": 5e-2}
"""Of the largest number of an output, after a whole network."""


def wrappers(task: Task) -> None:
    """The step: PTX against what it is defined to do."""
    _pytest(task, [str(TESTS / "test_cuda_prelude.py")], "test_shuffles" if task.device != "cuda" else "")


def cases(task: Task) -> None:
    """The step."""
    files = [p for p in sorted(TESTS.glob("test_cuda_*.py")) if p.stem.removeprefix("test_cuda_") not in NOT_CASES]
    if task.device != "cuda":
        return _pytest(task, [str(TESTS / "test_cuda_convolution.py")], "test_stages")
    for marked in ("not sweep",) if task.quick else ("not sweep", "sweep"):
        _pytest(task, [*map(str, files), "-m", marked, *beside_each_other()], "not compiles and not machine_code and not registers")


def beside_each_other() -> list[str]:
    """Options for tests in several processes, where pytest-xdist is there: each compiles its kernels."""
    return ["-n", str(min(12, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []


def _pytest(task: Task, arguments: list[str], only: str) -> None:
    if importlib.util.find_spec("pytest") is None:
        task.skip(f"{task.step}: pytest is not installed")
        return
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of tests that run this program
    environment = {**outer, "TILEWRIGHT_GPU_OUT": str(task.log.folder.resolve()), "TILEWRIGHT_GPU_STEP": task.step}
    if task.device == "cuda":
        environment["TILEWRIGHT_GPU_TESTS"] = "1"
    ours = ["-o", "addopts=", "-q", "--strict-markers", "--tb=short"]  # nothing that needs more than pytest itself
    command = [sys.executable, "-m", "pytest", "-p", "gpu_pytest", "-p", "no:cacheprovider", *ours, *arguments]
    ended = subprocess.run([*command, *(["-k", only] if only else [])], env=environment, cwd=TESTS.parent)
    task.failures += ended.returncode != 0


def zoo(task: Task) -> None:
    """The step: small shapes of every model in every precision, as far as the time goes; the small models first."""
    from zoo_table import ROWS  # pyright: ignore[reportMissingImports]

    rows = sorted(ROWS.values(), key=lambda row: row.parameters)
    rows = [r for r in rows if r.model == "lenet5"] if task.device != "cuda" else rows[:10] if task.quick else rows
    os.environ["OPENBLAS_NUM_THREADS"] = "2"  # of each of the processes that compute in float64 meanwhile
    pool = ProcessPoolExecutor(max(1, (os.cpu_count() or 1) // 2), multiprocessing.get_context("spawn"))
    wanted = [pool.submit(_exact, row.model, dict(row.shapes), dict(row.below)) for row in rows]
    for index, (row, exact) in enumerate(zip(rows, wanted, strict=True)):
        if task.left < 3:
            task.skip(f"zoo from {row.model} on ({len(rows) - index} models): no time left")
            break
        for precision in BOUND if task.device == "cuda" else ("fp32",):
            label = f"{row.model} {precision}"
            task.attempt(label, lambda row=row, exact=exact, precision=precision: _compare(task, row, exact.result(task.left), precision))
    pool.shutdown(wait=False, cancel_futures=True)


def _exact(model: str, shapes: Any, below: Any) -> list[np.ndarray]:
    """What the graph means, in float64."""
    from tilewright.engine.compiler import load
    from tilewright.engine.evaluate import evaluate, widen

    graph = load(model, shapes)
    return evaluate(widen(graph), list(arrays(graph, below).values()))


def _compare(task: Task, row: Any, wanted: list[np.ndarray], precision: str) -> None:
    """Three runs with the same bits, near the graph in float64."""
    import tilewright as tw
    from tilewright.engine.compiler import load

    graph = load(row.model, dict(row.shapes))
    given = arrays(graph, dict(row.below))
    session = tw.compile(graph, backend=task.backend, precision=precision)
    runs = [list(session.run(given).values()) for _ in range(3)]
    same = all(a.tobytes() == b.tobytes() for run in runs[1:] for a, b in zip(runs[0], run, strict=True))
    error = max(relative_error(a, b) for a, b in zip(runs[0], wanted, strict=True))
    why = "" if error <= BOUND[precision] else f"error {error:.2g} is more than {BOUND[precision]:g} of the largest output"
    task.check(f"{row.model} {precision}", why if same else "three runs gave different bits")
    task.add("error", name=row.model, precision=precision, value=error)


def arrays(graph: Any, below: dict[str, int]) -> dict[str, np.ndarray]:
    """Random inputs: normally distributed, or indices."""
    rng, found = np.random.default_rng(0), {}
    for node in graph.inputs:
        kind = node.type
        is_index = kind.dtype.kind in "iu"
        numbers = rng.integers(0, below.get(node.name, 2), kind.shape) if is_index else rng.standard_normal(kind.shape)
        found[node.name] = numbers.astype(kind.dtype)
    return found


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, as a part of the largest number; infinite where something is not finite."""
    if not wanted.size:
        return 0.0
    difference = np.abs(found.astype(np.float64) - wanted).max()
    return float(difference / max(np.abs(wanted).max(), 1e-30)) if np.isfinite(difference) else float("inf")
