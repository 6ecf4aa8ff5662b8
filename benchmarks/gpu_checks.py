"""Numbers on the GPU: wrappers, the tables of the emulated tests, and the zoo, against float64."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gpu_steps import Task

TESTS = pathlib.Path(__file__).parents[1] / "tests"
NOT_CASES = ("prelude", "emulator", "planted_bugs", "convolution_bugs", "barriers", "compile", "operators_compile", "tuning", "plan")
NOT_CASES += ("architectures", "cupy", "layout", "tiles", "real_models", "zoo")
"""Tests of the emulator itself, of the compiler, and of the host; and whole models, whose weights would be copied for every launch."""
NOT_ON_A_GPU = "not compiles and not machine_code and not registers and not the_zoo_has_kernels"
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
        _pytest(task, [*map(str, files), "-m", marked, *beside_each_other()], NOT_ON_A_GPU)


def beside_each_other() -> list[str]:
    """Options for tests in several processes, where pytest-xdist is there: each compiles its kernels."""
    return ["-n", str(min(12, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []


def _pytest(task: Task, arguments: list[str], only: str) -> None:
    if importlib.util.find_spec("pytest") is None:
        task.check(task.step, 'it needs pytest: pip install "tilewright[test]"')
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

    names = [row.model for row in sorted(ROWS.values(), key=lambda row: row.parameters)]
    names = ["lenet5"] if task.device != "cuda" else names[:10] if task.quick else names
    os.environ["OPENBLAS_NUM_THREADS"] = "2"  # of each of the processes
    side_by_side(task, check_model, names)


def side_by_side(task: Task, check: Callable[[Task, str], None], names: Sequence[str]) -> None:
    """Every check in a process of its own, which compiles its kernels: one that loses the GPU, or does not end, costs no other one."""
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        ended = list(zip(names, pool.map(lambda name: _apart(task, check, name), names), strict=True))
    if left := [name for name, has_ended in ended if not has_ended]:
        task.skip(f"{task.step}: all or a part of {', '.join(left)}: no time left")


def _apart(task: Task, check: Callable[[Task, str], None], name: str) -> bool:
    """Whether it has ended."""
    if task.left < 3:
        return False
    process = multiprocessing.get_context("spawn").Process(target=_there, args=(task, check, name))
    process.start()
    process.join(max(task.left - 1, 1))
    if process.exitcode is None:
        process.kill()
        return False
    if process.exitcode not in (0, 1):
        task.check(name, f"its process ended with {process.exitcode}")
    task.failures += process.exitcode == 1
    return True


def _there(task: Task, check: Callable[[Task, str], None], name: str) -> None:
    task.failures = 0
    task.attempt(name, lambda: check(task, name))
    sys.exit(1 if task.failures else 0)


def check_model(task: Task, name: str) -> None:
    """A model of the zoo in every precision against float64."""
    from zoo_table import ROWS  # pyright: ignore[reportMissingImports]

    from tilewright.engine.compiler import load
    from tilewright.engine.evaluate import evaluate, widen

    graph = load(name, dict(ROWS[name].shapes))
    given = arrays(graph, dict(ROWS[name].below))
    wanted = evaluate(widen(graph), list(given.values()))
    for precision in BOUND if task.device == "cuda" else ("fp32",):
        label = f"{name} {precision}"
        task.attempt(label, lambda label=label, precision=precision: _compare(task, label, precision, graph, given, wanted))


def _compare(task: Task, label: str, precision: str, graph: Any, given: dict[str, np.ndarray], wanted: list[np.ndarray]) -> None:
    """Three runs with the same bits, near what the graph means in float64."""
    import tilewright as tw

    session = tw.compile(graph, backend=task.backend, precision=precision)
    runs = [list(session.run(given).values()) for _ in range(3)]
    same = all(a.tobytes() == b.tobytes() for run in runs[1:] for a, b in zip(runs[0], run, strict=True))
    error = max(relative_error(a, b) for a, b in zip(runs[0], wanted, strict=True))
    why = "" if error <= BOUND[precision] else f"error {error:.2g} is more than {BOUND[precision]:g} of the largest output"
    task.check(label, why if same else "three runs gave different bits")
    task.add("error", name=label, value=error)


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
