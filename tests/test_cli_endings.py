"""How commands end, and the parts that the command line is made of."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from command_line import REFERENCE, ROOT, Command, assert_wrong_input

import tilewright as tw
from tilewright.engine import classification as scoring
from tilewright.engine import compiler, plugins
from tilewright.engine.cli import classification, console, files
from tilewright.engine.errors import CompilerBug, MachineError, ModelError


def process(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "tilewright", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_bug_asks_for_a_report(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise CompilerBug("the plan contradicts itself\nwith details")

    monkeypatch.setattr(plugins, "load", broken)
    monkeypatch.delenv("TILEWRIGHT_DEBUG", raising=False)
    ending = cli("run", "lenet5", "--random")
    assert ending.code == 3 and "Traceback" not in ending.err
    assert "CompilerBug: the plan contradicts itself" in ending.err and "report" in ending.err
    written = re.search(r"report it with (\S+);", ending.err)
    assert written
    report = pathlib.Path(written[1])
    assert "Traceback" in report.read_text() and "with details" in report.read_text()
    report.unlink()


def test_an_unexpected_exception_is_a_bug_and_debug_shows_it(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(plugins, "load", broken)
    monkeypatch.setenv("TILEWRIGHT_DEBUG", "1")
    ending = cli("run", "lenet5", "--random")
    assert ending.code == 3 and "Traceback" in ending.err and "ZeroDivisionError: by nothing" in ending.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (MemoryError("9 GB"), 2), (MachineError("no disk"), 2), (OSError("no file"), 2), (ModelError("bad"), 2)],
)
def test_exit_codes(error: BaseException, code: int, cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(plugins, "load", broken)
    ending = cli("run", "lenet5", "--random")
    assert ending.code == code and "Traceback" not in ending.err


def test_a_wrong_knob_is_wrong_input(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_DEBUG", "much")
    assert_wrong_input(cli("run", "lenet5", "--random", *REFERENCE), "TILEWRIGHT_DEBUG='much'")


def test_help_and_version(cli: Command) -> None:
    assert cli("--help").code == 0 and cli("run", "--help").code == 0
    assert cli("--version").out.strip() == tw.__version__
    assert cli().code == 2


def test_as_a_program() -> None:
    done = process("run", "lenet5", "--random", *REFERENCE)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0 and "f32[1,10]" in out and err == ""
    wrong = process("run", "nothing.onnx", "--random")
    out, err = wrong.communicate(timeout=60)
    assert wrong.returncode == 2 and "Traceback" not in err and "nothing.onnx" in err


def test_a_cache_folder_that_cannot_be_written_costs_one_line(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    out, err = (done := process("run", "lenet5", "--random")).communicate(timeout=60)
    assert done.returncode == 0 and "f32[1,10]" in out
    assert err.startswith("tilewright: cannot keep compiled kernels in ") and "TILEWRIGHT_CACHE_DIR" in err and err.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="pipes that close early are a POSIX matter")
def test_a_closed_pipe_is_no_error() -> None:
    listing = process("list", "ops")
    assert listing.stdout is not None and listing.stderr is not None
    listing.stdout.close()
    assert listing.stderr.read() == ""
    assert listing.wait(timeout=60) == 141


def test_files_are_written_whole_or_not_at_all(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "out.npz"
    files.write_arrays(target, {"file": np.arange(3), "/a/b": np.ones((2, 2))})
    with np.load(target) as found:
        assert sorted(found.files) == ["/a/b", "file"]
    before = target.read_bytes()
    with pytest.raises(ValueError):
        files.write_arrays(target, {"good": np.arange(3), "bad": np.array([{}])})
    assert target.read_bytes() == before and list(tmp_path.iterdir()) == [target]
    with pytest.raises(MachineError, match="cannot write"):
        files.write_arrays(tmp_path / "absent" / "out.npz", {})


def unwritable(folder: pathlib.Path) -> pathlib.Path:
    """A folder in which nobody may make files; permissions do not hinder the superuser."""
    if os.name == "posix" and os.geteuid() == 0:
        return pathlib.Path("/proc")
    folder.mkdir(mode=0o555)
    return folder


@pytest.mark.parametrize("what", ["a folder", "in a folder that cannot be written"])
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("out.npz", ("run", "lenet5", "--random", "--output")),
        ("out.tw", ("compile", "lenet5", "-o")),
        ("out.zip", ("compile", "lenet5", "--backend", "cuda", "--arch", "sm_90", "-o")),
        ("out.onnx", ("export", "lenet5")),
    ],
)
def test_a_target_is_refused_before_the_work(
    what: str, name: str, command: tuple[str, ...], cli: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> None:
        raise AssertionError("the model was read")

    monkeypatch.setattr(compiler, "named_model", too_late)
    target = tmp_path / name if what == "a folder" else unwritable(tmp_path / "locked") / name
    if what == "a folder":
        target.mkdir()
    ending = cli(*command, target)
    assert_wrong_input(ending, f"cannot write {str(target)!r}: ")
    assert f".{name}." not in ending.err and list(tmp_path.rglob("*.*")) == ([target] if what == "a folder" else [])


def test_messages_name_the_file_that_was_asked_for(tmp_path: pathlib.Path) -> None:
    (tmp_path / "out.npz").mkdir()
    with pytest.raises(MachineError, match=r"cannot write '.*/out\.npz': [A-Z][a-z ]+$"):
        files.write_arrays(tmp_path / "out.npz", {})
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_scores_become_probabilities(rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    scores = rng.standard_normal((2, 7, 1, 1)) * 3
    classification.print_classes({"map": rng.random((2, 3, 4)), "scores": scores}, None, 7)
    printed = capsys.readouterr().out
    assert "scores holds scores" in printed and "softmax" in printed
    rows = [line.split() for line in printed.splitlines()[2:]]
    powers = np.exp(scores[1, :, 0, 0])
    assert [int(row[2]) for row in rows if row[0] == "1"] == list(np.argsort(-powers))
    assert float(rows[7][1]) == pytest.approx(powers.max() / powers.sum(), abs=0.01)
    assert scoring.looks_like_probabilities(np.full((3, 4), 0.25))
    assert not scoring.looks_like_probabilities(np.array([[0.5, 0.4], [0.5, 0.5]]))


def test_labels_pick_the_output_they_fit() -> None:
    outputs = {"boxes": np.ones((1, 4)), "classes": np.ones((1, 3, 1))}
    assert scoring.class_scores(outputs, ["a", "b", "c"])[0] == "classes"
    with pytest.raises(ModelError, match=r"there are 2 labels, got boxes \(1, 4\), classes"):
        scoring.class_scores(outputs, ["a", "b"])


@pytest.mark.parametrize("terminal", [False, True])
def test_names_are_printed_literally(terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "100")
    console.heading("[bold]x[/bold]")
    console.table(["name", "size"], [["[red]evil\x1b[2J", "12"], ["é/b", "3"]])
    printed = capsys.readouterr().out
    assert "[bold]x[/bold]" in printed and "[red]evil\\x1b[2J" in printed and "é/b" in printed and "\x1b[2J" not in printed


def test_figures() -> None:
    assert [console.quantity(n, "B") for n in (0, 999, 1234, 5.678e9)] == ["0 B", "999 B", "1.23 kB", "5.68 GB"]
    assert [console.duration(s) for s in (0.0000123, 0.0456, 12.3)] == ["0.0123 ms", "45.6 ms", "12.30 s"]
