"""Timing beside other engines: who is asked, what is found, and how it ends when an engine goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import foreign_engines
import numpy as np
import pytest
from command_line import Command, assert_wrong_input
from foreign_engines import QUICK

import tilewright as tw
from tilewright.engine.bench import engines, measure
from tilewright.engine.bench.engines import OURS, Task
from tilewright.engine.bench.measure import Contest, bench
from tilewright.engine.bench.process import EngineFailed, Worker
from tilewright.engine.bench.results import Result, Turnout, geometric_mean
from tilewright.engine.cli import console
from tilewright.engine.errors import MachineError, ModelError


@pytest.fixture
def model(rng: np.random.Generator, tmp_path: pathlib.Path) -> pathlib.Path:
    return foreign_engines.save_model(tmp_path, rng)


@pytest.fixture
def foreign(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    yield foreign_engines.install(tmp_path, monkeypatch)
    foreign_engines.forget()


def test_a_file_beside_onnxruntime(cli: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    saved = tmp_path / "bench.json"
    ending = cli("bench", model, "--against", "onnxruntime", "--shape", "x=2x3x9x11", "--json", saved, *QUICK)
    assert ending.code == 0 and ending.err == "", ending
    (found,) = json.loads(saved.read_text())
    assert found["threads"] == 2 and found["peak"] > 1e9
    assert found["flops"] == tw.load(str(model), {"x": (2, 3, 9, 11)}).flops() > 2 * 2 * 5 * 9 * 11 * 20
    ours, theirs = found["engines"]
    assert (ours["engine"], theirs["engine"]) == (OURS, "onnxruntime")
    for figures in (ours, theirs):
        assert len(figures["seconds"]) >= 4 and min(figures["seconds"]) > 0
        assert figures["median"] == pytest.approx(np.median(figures["seconds"]))
        assert figures["rate"] == pytest.approx(found["flops"] / figures["median"])
        assert figures["share_of_peak"] == pytest.approx(figures["rate"] / found["peak"])
        assert 0 < figures["first_answer"] < 60 and figures["memory"] > 2**20 and figures["agrees"]
    assert theirs["ratio"] == pytest.approx(theirs["median"] / ours["median"])
    assert 0 <= theirs["max_relative_error"] < 1e-5 and ours["max_relative_error"] is None
    assert "onnxruntime" in ending.out and "yes" in ending.out and "NO" not in ending.out


def test_models_of_the_zoo_and_their_mean(cli: Command, model: pathlib.Path) -> None:
    ending = cli("bench", "lenet5", model, "--against", "onnxruntime", "--shape", "x=1x3x9x11", *QUICK)
    assert ending.code == 0, ending
    assert "== lenet5: " in ending.out and "== net: " in ending.out
    assert "geometric mean of the ratio to onnxruntime: " in ending.out


def test_alone(cli: Command) -> None:
    ending = cli("bench", "lenet5", *QUICK)
    assert ending.code == 0 and "geometric" not in ending.out


@pytest.mark.usefixtures("foreign")
def test_wrong_input(cli: Command, model: pathlib.Path) -> None:
    assert_wrong_input(cli("bench", "lenet5", "--against", "onnxruntime,thing"), "no 'thing' among the engines", "openvino", "refuses")
    assert_wrong_input(cli("bench", model, *QUICK), "leaves dimensions open", "--shape x=")
    assert_wrong_input(cli("bench", model, "--shape", "z=1", *QUICK), "no input named z")
    assert_wrong_input(cli("bench", "lenet5", "--window", "-1"), "--window", "'-1'")
    assert_wrong_input(cli("bench", "lenet5", "--json", "file.txt"), ".json")
    assert_wrong_input(cli("bench", "nothing.onnx"), "nothing.onnx")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(engines.importlib, "import_module", absent)
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(MachineError, match=rf'the engine {name} needs the package {name}.*pip install "tilewright\[bench\]"'):
            engines.find(name)(Task("net.onnx", {}, {}, 1))


def test_our_own_failure_is_raised(tmp_path: pathlib.Path) -> None:
    contest = Contest("absent", Task(str(tmp_path / "absent.onnx"), {}, {}, 1), 1, {}, rounds=1, window=0.01)
    with pytest.raises((ModelError, MachineError), match="absent"):
        bench(contest, [])


def await_state(number: int, *wanted: str) -> None:
    """Wait until a process is stopped (T), over but not yet asked for (Z), or gone (an empty text)."""
    deadline = time.monotonic() + 10
    while True:
        state = ""
        with contextlib.suppress(OSError):
            state = pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        if state in wanted:
            return
        assert time.monotonic() < deadline, state
        time.sleep(0.01)


def test_a_worker_rests_between_requests_and_ends(model: pathlib.Path, rng: np.random.Generator) -> None:
    x = {"x": rng.standard_normal((1, 3, 9, 11)).astype(np.float32)}
    with Worker(1) as worker:
        (first,) = worker.ask("load", "onnxruntime", Task(str(model), {"x": (1, 3, 9, 11)}, {"batch": 1}, 1), x)
        assert first.shape == (1, 5, 9, 11)
        if sys.platform == "linux":
            await_state(worker._process.pid, "T")
        assert len(worker.ask("window", 0.01)) >= 2
        with pytest.raises(EngineFailed, match="nothing"):
            worker.ask("load", "onnxruntime", Task("nothing.onnx", {}, {}, 1), x)
    assert worker._process.returncode == 0


ORPHAN = """
import time
from tilewright.engine.bench.process import Worker
worker = Worker(1)
worker.ask("memory")
print(worker._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_no_stopped_worker_outlives_a_killed_parent() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", ORPHAN], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        await_state(worker, "T")
        parent.kill()
    await_state(worker, "Z", "")


def test_an_interrupted_comparison_leaves_no_worker(monkeypatch: pytest.MonkeyPatch, cli: Command) -> None:
    workers: list[Worker] = []

    def interrupted(self: Worker, request: str, *arguments: object) -> None:
        workers.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "ask", interrupted)
    assert cli("bench", "lenet5", "--against", "onnxruntime", *QUICK).code == 130
    assert workers and all(worker._process.poll() is not None for worker in workers)


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.progress(3) as progress:
        progress("[red]first")
        progress("second\x07")
    shown = capsys.readouterr()
    assert "[red]first" in shown.err and "second\\x07" in shown.err and "33%" in shown.err and shown.out == ""


def test_ratios_and_means() -> None:
    def result(**seconds: float) -> Result:
        return Result("m", 1, 100, 50.0, tuple(Turnout(name, (value, value * 3, value * 2)) for name, value in seconds.items()))

    a, b = result(ours=1.0, one=2.0, two=4.0), result(ours=1.0, one=8.0, two=3.0)
    assert [a.ratio(t) for t in a.turnouts] == [1, 2, 4] and a.rate(a.turnouts[1]) == 25 and a.share(a.turnouts[1]) == 0.5
    assert geometric_mean([a, b], ["one"]) == pytest.approx(4.0)
    assert geometric_mean([a, b], ["one", "two"]) == pytest.approx(6**0.5)
    failed = Result("m", 1, 100, None, (Turnout("ours", (1.0,)), Turnout("one", failure="no")))
    assert failed.ratio(failed.turnouts[1]) is None and failed.share(failed.turnouts[0]) is None
    assert geometric_mean([a, failed], ["one"]) is None and not failed.turnouts[1].agrees


def test_a_busy_machine_is_told(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "rest", lambda seconds: 1.3)
    ending = cli("bench", "lenet5", *QUICK)
    assert ending.code == 0 and "other processes kept 1.3 of " in ending.out
    monkeypatch.setattr(measure, "rest", lambda seconds: None)
    assert "other processes" not in cli("bench", "lenet5", *QUICK).out


def test_outputs_are_compared_by_position(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((3, 4)), rng.standard_normal(5).astype(np.float32)
    assert measure._furthest([a, b], [a, b], None).within
    other = b.copy()
    other[2] += 0.5
    found = measure._furthest([a, b], [a, other], None)
    assert found.name == "output 1" and not found.within and found.largest == pytest.approx(0.5 / np.abs(other).max())
    assert not measure._furthest([a], [a, b], None).within
