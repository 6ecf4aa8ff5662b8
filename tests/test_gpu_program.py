"""The program benchmarks/gpu.py itself: its steps and their limits, what is kept when one fails, and what it refuses."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from cuda_harness import needs_compiler

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"
F4 = np.dtype(np.float32)
OTHERS = ("resnet18", "resnet50", "efficientnet_b0", "densenet121", "vgg16", "unet")


def options(out: pathlib.Path, **given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"out": str(out), "steps": "", "quick": False, "device": "cuda", "minutes": 9.0, **given})


def test_the_plan(program: Any, tmp_path: pathlib.Path) -> None:
    gpu = program("gpu")
    names = [step.name for step in gpu.chosen_steps(options(tmp_path))]
    assert names == ["versions", "wrappers", "cases", "zoo", "tune", "networks", "compiled"]
    assert sum(step.seconds for step in gpu.STEPS) <= 9 * 60 - gpu.GRACE
    assert [s.name for s in gpu.chosen_steps(options(tmp_path, device="emulated"))] == ["versions", "wrappers", "cases", "zoo"]
    assert [s.name for s in gpu.chosen_steps(options(tmp_path, steps="zoo,versions"))] == ["versions", "zoo"]
    with pytest.raises(ValueError, match="no steps nothing of cuda; expected some of versions,wrappers"):
        gpu.chosen_steps(options(tmp_path, steps="nothing"))
    with pytest.raises(ValueError, match="no steps tune of emulated; expected some of versions,wrappers,cases,zoo"):
        gpu.chosen_steps(options(tmp_path, steps="versions,tune", device="emulated"))
    assert set(importlib.import_module("gpu_steps").WHERE) == set(names)


def test_steps_inherit_time_and_never_take_that_of_others(program: Any) -> None:
    gpu = program("gpu")
    steps = [gpu.Step("a", 10), gpu.Step("b", 20), gpu.Step("c", 30)]
    assert gpu.limits(steps, 0, 60) == 10 and gpu.limits(steps, 1, 57) == 27 and gpu.limits(steps, 2, 41) == 41
    assert gpu.limits(steps, 1, 25) == pytest.approx(10)


def test_a_step_that_fails_or_hangs_loses_nothing(program: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = program("gpu")
    monkeypatch.setattr(gpu, "STEPS", tuple(gpu.Step(name, 0.5) for name in ("good", "broken", "hanging", "last")))
    say = "from gpu_log import Log; Log(r'{}').add('{}', 'version', name='{}', value=1); print('said')"
    then = {"broken": "import os; os.abort()", "hanging": "import subprocess; subprocess.run(['sleep', '60'])"}

    def command(step: Any, given: Any, seconds: float, begun: int) -> list[str]:
        return [sys.executable, "-c", f"{say.format(given.out, step.name, step.name)}\n{then.get(step.name, '')}"]

    started = time.monotonic()
    assert gpu.run(options(tmp_path, minutes=(gpu.GRACE + 5) / 60), command) == 1
    assert time.monotonic() - started < 12
    records = gpu.Log(tmp_path).records()
    outcomes = {r["step"]: r["outcome"] for r in records if r["kind"] == "outcome"}
    assert outcomes == {"good": "done", "broken": "exit code -6", "hanging": "time limit", "last": "done"}
    assert [r["name"] for r in records if r["kind"] == "version"] == ["good", "broken", "hanging", "last"]
    text = (tmp_path / "log.txt").read_text()
    assert text.count("said") >= 3 and "- hanging: time limit" in text


TURNS = """
import os, sys, time
from gpu_steps import Task
task = Task("tune", sys.argv[1], "emulated", 30, False, int(sys.argv[2]))
for what in ("fine", "dying", "endless", "failing", "losing", "last")[task.begun:]:
    with task.turn(what, 1):
        if what in ("failing", "losing"):
            task.check(what, "it differs")
            task._is_lost = lambda: what == "losing"
        os.abort() if what == "dying" else time.sleep(60 * (what == "endless"))
sys.exit(task.failures > 0)
"""


def test_a_turn_that_kills_its_process_costs_no_other(program: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = program("gpu")
    monkeypatch.setattr(gpu, "LEAST", 1.0)
    log, step = gpu.Log(tmp_path), gpu.Step("tune", 30)
    log.add("tune", "begun", what="in an earlier run")
    log.add("zoo", "check", name="of another step", passed=True, why="")
    outcome = gpu.run_step(step, lambda seconds, begun: [sys.executable, "-c", TURNS, str(tmp_path), str(begun)], 30, log)
    records = log.records()
    assert gpu.turns(step, log) == ["fine", "dying", "endless", "failing", "losing", "last"] and outcome == "a check failed"
    assert [r["outcome"] for r in records if r["kind"] == "outcome"] == ["exit code -6", gpu.OUTCOMES[3], gpu.OUTCOMES[3], "done"]
    assert [r["name"] for r in records if r["kind"] == "check"] == ["of another step", "dying", "endless", "failing", "losing", "losing"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--report", "{}/missing"), "nothing was kept in"),
        (("--minutes", "-1"), "--minutes -1: expected more than 0"),
        (("--device", "emulated", "--steps", "tune"), "no steps tune of emulated"),
        (("--out", "/dev/null/folder", "--device", "emulated"), "/dev/null"),
    ],
)
def test_what_cannot_be_done(
    program: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    with pytest.raises(SystemExit) as ending:
        program("gpu").main([a.format(tmp_path) for a in arguments])
    assert ending.value.code == 2 and why in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_without_a_gpu_nothing_else_is_tried(program: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = program("gpu")
    say = "import sys; from gpu_steps import Task; Task('{}', r'{}', 'cuda', 9, True).check('the device', 'there is none'); sys.exit(1)"

    def command(step: Any, given: Any, seconds: float, begun: int) -> list[str]:
        return [sys.executable, "-c", say.format(step.name, given.out)]

    assert gpu.run(options(tmp_path), command) == 2
    assert "nothing can be checked: there is none" in capsys.readouterr().err
    assert {r["step"] for r in gpu.Log(tmp_path).records()} == {"versions"}


@needs_compiler
def test_in_the_emulator(tmp_path: pathlib.Path) -> None:
    """The program itself, all that runs without a GPU."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(FOLDER / "gpu.py"), "--device", "emulated", "--out", str(tmp_path), "--minutes", "3"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    passed = [r["name"] for r in records if r["kind"] == "check" and r["passed"]]
    assert any("test_shuffles" in name for name in passed) and any("test_stages" in name for name in passed) and "lenet5 fp32" in passed
    assert {r["name"] for r in records if r["kind"] == "ceiling"} == {"fp32"}
