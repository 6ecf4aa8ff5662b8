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

import numpy as np
import onnx
import pytest
from command_line import Command, assert_wrong_input

import tilewright as tw
from tilewright.engine.bench import engines, measure
from tilewright.engine.bench.engines import OURS, Task
from tilewright.engine.bench.measure import Contest, bench
from tilewright.engine.bench.process import EngineFailed, Worker
from tilewright.engine.bench.results import Result, Turnout, geometric_mean
from tilewright.engine.cli import console
from tilewright.engine.errors import MachineError, ModelError

QUICK = ("--rounds", "2", "--window", "0.01", "--threads", "2")

FOREIGN = '''
"""Engines of someone else's: one that is wrong, one that refuses, one that dies, and one that lacks a package."""
import os
import numpy as np
from tilewright.engine.bench.engines import onnxruntime

def wrong(task):
    run = onnxruntime(task)
    return lambda inputs: [1.01 * output for output in run(inputs)]

def refuses(task):
    print("a line that must not get among the answers", flush=True)
    raise NotImplementedError(f"cannot read {os.path.basename(task.path)}\\nin two lines")

def dies(task):
    run, left = onnxruntime(task), [3]
    def step(inputs):
        left[0] -= 1
        if left[0] == 0:
            print("its last words", flush=True)
            os._exit(7)
        return run(inputs)
    return step

def lacks(task):
    import absent_package
'''


@pytest.fixture
def model(rng: np.random.Generator, tmp_path: pathlib.Path) -> pathlib.Path:
    """A small network whose batch is open."""
    weight = rng.standard_normal((5, 3, 3, 3)).astype(np.float32)
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[batch, 3, 9, 11] x) => (float[batch, 5, 9, 11] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            y = Relu (c)
        }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def foreign(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package that offers engines, found by this process and by workers."""
    site = tmp_path / "site"
    (site / "foreign-1.0.dist-info").mkdir(parents=True)
    (site / "foreign.py").write_text(FOREIGN)
    (site / "foreign-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    points = "".join(f"{name} = foreign:{name}\n" for name in ("wrong", "refuses", "dies", "lacks"))
    (site / "foreign-1.0.dist-info" / "entry_points.txt").write_text(f"[tilewright.engines]\n{points}")
    monkeypatch.syspath_prepend(str(site))
    forget()


def forget() -> None:
    """What packages offer is looked up once."""
    engines.plugins.entry_points.cache_clear()


@pytest.fixture(autouse=True)
def forget_foreign_engines() -> Iterator[None]:
    yield
    forget()


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
def test_an_answer_that_differs_is_a_failed_check(cli: Command, model: pathlib.Path) -> None:
    arguments = ("bench", model, "--shape", "x=1x3x9x11", "--against", "onnxruntime,wrong", *QUICK)
    ending = cli(*arguments)
    assert ending.code == 1
    rows = {line.split()[0]: line for line in ending.out.splitlines() if line}
    assert rows["onnxruntime"].endswith("yes") and rows["wrong"].endswith("NO") and "9.9e-03" in rows["wrong"]
    assert cli(*arguments, "--tolerance", "0.02").code == 0


@pytest.mark.usefixtures("foreign")
def test_engines_that_fail_do_not_stop_the_others(cli: Command, model: pathlib.Path) -> None:
    ending = cli("bench", model, "--shape", "x=1x3x9x11", "--against", "refuses,dies,onnxruntime", *QUICK)
    assert ending.code == 1
    assert "refuses failed: cannot read net.onnx\n" in ending.out
    assert "dies failed: its process ended with code 7: its last words\n" in ending.out
    (row,) = [line for line in ending.out.splitlines() if line.startswith("onnxruntime")]
    assert row.endswith("yes")


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
