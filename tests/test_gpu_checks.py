"""The checks of benchmarks/gpu.py without a GPU: launches on a device, and what is left when one is lost or a process ends."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from cuda_harness import TextKernel, needs_compiler

from tilewright.backends.cuda.device import EmulatedDevice
from tilewright.backends.cuda.emulator import build, memory
from tilewright.backends.cuda.emulator import launch as emulator
from tilewright.backends.cuda.kernel import Parameter

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"
F4 = np.dtype(np.float32)


@needs_compiler
def test_launches_are_brought_to_a_device_and_back(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake device stands for a GPU; what is written outside an array is noticed, and poison arrives."""
    plugin = program("gpu_pytest")
    real_load, real_launch, device = build.kernel_libraries, emulator.launch, EmulatedDevice()
    monkeypatch.setattr(device, "load", lambda kernels: list(zip(kernels, real_load(kernels), strict=True)))
    bridge = plugin.install(device, monkeypatch.setattr)
    launched = []

    def on_device(launches: Any) -> None:
        for (kernel, library), pointers in launches:
            launched.append(pointers)
            real_launch(library, kernel, pointers)

    monkeypatch.setattr(bridge.stream, "launch", on_device)
    given = (Parameter("x", F4), Parameter("y", F4, written=True))
    x, y = memory.GuardedMemory(32 * 4, "x"), memory.GuardedMemory(31 * 4, "y")
    x.bytes.view(F4)[:] = np.arange(32)
    good = TextKernel(given, "if (threadIdx.x < 30) y[threadIdx.x] = x[threadIdx.x + 1] * 2;")
    emulator.launch(build.kernel_libraries([good])[0], good, [x.address, y.address])
    np.testing.assert_array_equal(y.bytes.view(F4)[:30], 2 * np.arange(1, 31))
    assert np.isnan(y.bytes.view(F4)[30]) and bridge.launches == 1 and x.address not in launched[0]
    bad = TextKernel(given, "y[threadIdx.x] = x[threadIdx.x];")
    with pytest.raises(emulator.KernelFault, match="just outside y"):
        emulator.launch(build.kernel_libraries([bad])[0], bad, [x.address, y.address])
    with pytest.raises(pytest.skip.Exception, match="more shared memory than the 232448 B of sm_90"):
        build.kernel_libraries([TextKernel(given, "", bytes_shared=232449)])


def test_which_tests_are_cases(program: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that launches kernels; nothing of the host, no model whose weights every launch would copy; names that there are."""
    checks, asked = program("gpu_checks"), list[list[str]]()
    monkeypatch.setattr(checks, "_pytest", lambda task, arguments, only: asked.append(arguments))
    checks.cases(program("gpu_steps").Task("cases", str(tmp_path), "cuda", 60, True))
    names = {pathlib.Path(argument).stem.removeprefix("test_cuda_") for argument in asked[0] if argument.endswith(".py")}
    assert {"convolution", "gemm", "networks", "conformance"} <= names and not names & {"cupy", "plan", "tuning", "tiles", "zoo"}
    assert all((checks.TESTS / f"test_cuda_{name}.py").exists() for name in checks.NOT_CASES)


LOSE = """
import gpu_pytest
from tilewright.engine.errors import MachineError

class Gpu:
    lost = False

    def stream(self):
        return self

    def synchronise(self):
        if self.lost:
            raise MachineError("misaligned address")

GPU = Gpu()

def pytest_configure(config):
    config.pluginmanager.register(gpu_pytest.Watch(GPU))
"""
LOSING = """
import pytest
from conftest import GPU

@pytest.mark.parametrize("index", range(4))
def test_something(index):
    assert not GPU.lost
    GPU.lost = index == 1
    assert index not in (1, 2)
"""


@pytest.mark.parametrize(("workers", "passed"), [(1, [True, False, False, True]), (0, [True, False])])
def test_whoever_loses_the_gpu_is_replaced(tmp_path: pathlib.Path, workers: int, passed: list[bool]) -> None:
    """The test after the one that lost it finds another GPU; a test that only fails changes nothing."""
    (tmp_path / "conftest.py").write_text(LOSE)
    (tmp_path / "test_losing.py").write_text(LOSING)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path]), "TILEWRIGHT_GPU_OUT": str(tmp_path)}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gpu_pytest", "-p", "no:cacheprovider", *(["-n", "1"] if workers else [])]
    ended = subprocess.run([*command, str(tmp_path)], env=environment, cwd=tmp_path, capture_output=True, text=True)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = {r["name"].rpartition("[")[2]: r["passed"] for r in records if r["kind"] == "check"}
    assert ended.returncode and [found[name] for name in sorted(found)] == passed, ended.stdout


def die(task: Any, name: str) -> None:
    """A check: "wrong" fails, "killed" ends its process, "endless" does not end."""
    task.check(name, "it differs" if name == "wrong" else "")
    if name == "killed":
        os.abort()
    time.sleep(60 if name == "endless" else 0)


def test_checks_side_by_side(program: Any, tmp_path: pathlib.Path) -> None:
    """Whatever one does, the others have their turn, and it is told."""
    checks, task = program("gpu_checks"), program("gpu_steps").Task("zoo", str(tmp_path), "emulated", 12, False)
    checks.side_by_side(task, die, ["killed", "wrong", "right", "endless"])
    records = task.log.records()
    assert sorted((r["name"], r["why"]) for r in records if r["kind"] == "check") == [
        ("endless", ""), ("killed", ""), ("killed", "its process ended with -6"), ("right", ""), ("wrong", "it differs"),
    ]  # fmt: skip
    assert [r["what"] for r in records if r["kind"] == "skipped"] == ["zoo: all or a part of endless: no time left"]
    assert task.failures == 2
