"""The command line: what each command prints and writes, and how it ends."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import tilewright as tw
from tilewright.engine import plugins
from tilewright.engine.cli import classification, console, files, main
from tilewright.engine.errors import CompilerBug, MachineError, ModelError

ROOT = pathlib.Path(__file__).parents[1]
REAL_MODELS = ROOT.parent / "shared" / "models"
REFERENCE = ("--backend", "reference")


class Ending(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ending]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Command:
    """`cli("run", "lenet5")` in this process."""

    def call(*arguments: str | pathlib.Path) -> Ending:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ending(code, captured.out, captured.err)

    return call


@pytest.fixture
def digit(rng: np.random.Generator) -> np.ndarray:
    return rng.random((1, 1, 28, 28), np.float32)


@pytest.fixture
def digit_file(digit: np.ndarray, tmp_path: pathlib.Path) -> pathlib.Path:
    np.save(tmp_path / "digit.npy", digit)
    return tmp_path / "digit.npy"


def process(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "tilewright", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_wrong_input(ending: Ending, *said: str) -> None:
    assert ending.code == 2, ending
    assert ending.err.count("\n") == 1 and ending.err.startswith("tilewright: "), ending.err
    for text in said:
        assert text in ending.err


# run


def test_run_saves_what_the_session_returns(cli: Command, digit: np.ndarray, digit_file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    saved = tmp_path / "out.npz"
    ending = cli("run", "lenet5", "--input", f"image={digit_file}", "--output", saved, *REFERENCE)
    assert ending.code == 0 and ending.err == ""
    assert "f32[1,10]" in ending.out
    expected = tw.compile("lenet5", backend="reference").run({"image": digit})
    with np.load(saved) as found:
        assert found.files == ["output"]
        np.testing.assert_array_equal(found["output"], expected["output"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digit.npy", "out.npz"]


@pytest.mark.parametrize("how", ["image={folder}/one.npz", "image={folder}/named.npz", "{folder}/named.npz", "{folder}/digit.npy"])
def test_every_way_to_give_an_array(how: str, cli: Command, digit: np.ndarray, digit_file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "one.npz", digit)
    np.savez(tmp_path / "named.npz", image=digit)
    given = cli("run", "lenet5", "--input", how.format(folder=tmp_path), *REFERENCE)
    assert given.code == 0 and given.out == cli("run", "lenet5", "--input", f"image={digit_file}", *REFERENCE).out


def test_random_inputs_depend_on_the_seed_alone(cli: Command) -> None:
    first, again, other = (cli("run", "lenet5", "--random", "--seed", seed, *REFERENCE) for seed in "112")
    assert first.code == 0 and first.out == again.out != other.out


def test_open_dimensions(cli: Command) -> None:
    ending = cli("run", "resnet18", "--random", "--shape", "image=2x3x33x40", *REFERENCE)
    assert ending.code == 0 and "f32[2,1000]" in ending.out


def test_repeat_prints_a_median(cli: Command, digit_file: pathlib.Path) -> None:
    ending = cli("run", "lenet5", "--input", digit_file, "--repeat", "3", *REFERENCE)
    assert re.search(r"median of 3 runs: [\d.]+ m?s", ending.out)


def test_pictures_make_a_batch_and_are_classified(cli: Command, rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    pictures = []
    for i in range(2):
        pictures.append(tmp_path / f"digit{i}.png")
        Image.fromarray(rng.integers(0, 256, (40, 30), dtype=np.uint8)).save(pictures[-1])
    (tmp_path / "labels.txt").write_text("\n".join(f"the digit {i}" for i in range(10)) + "\n")
    options = ["--resize", "28x28", "--order", "grey", "--scale", str(1 / 255), "--labels", tmp_path / "labels.txt", "--top", "2"]
    ending = cli("run", "lenet5", "--image", pictures[0], "--image", f"image={pictures[1]}", *options, *REFERENCE)
    assert ending.code == 0, ending
    assert "f32[2,10]" in ending.out and "softmax" not in ending.out
    rows = [line.split(maxsplit=3) for line in ending.out.splitlines() if "the digit" in line]
    assert [row[0] for row in rows] == ["0", "0", "1", "1"]
    assert all(row[3] == f"the digit {row[2]}" for row in rows)
    assert float(rows[0][1]) >= float(rows[1][1]) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "lenet5"], ["no data for image: f32[batch,1,28,28]", "--input", "--image", "--random"]),
        (["run"], ["required: MODEL"]),
        (["walk", "lenet5"], ["invalid choice: 'walk'"]),
        (["run", "nothing"], ["no 'nothing' among the models", "lenet5"]),
        (["run", "lenet5", "--random", "--backend", "abacus"], ["no 'abacus' among the backends", "reference"]),
        (["run", "lenet5", "--random", "--accuracy", "sloppy"], ["sloppy", "exact"]),
        (["run", "lenet5", "--random", "--threads", "0"], ["expected a positive number, got '0'"]),
        (["run", "lenet5", "--random", "--shape", "image=1x1"], ["expected rank 4"]),
        (["run", "lenet5", "--random", "--shape", "1x1x28x28"], ["expected NAME=1x3x224x224"]),
        (["run", "lenet5", "--random", "--shape", "picture=1x1x28x28"], ["no input named picture"]),
        (["run", "lenet5", "--random", "--passes", "fold_laundry"], ["no 'fold_laundry' among the passes"]),
        (["run", "lenet5", "--input", "mask=x.npy"], ["no input named 'mask'", "image: f32"]),
        (["run", "lenet5", "--input", "image=missing.npy"], ["cannot read 'missing.npy'"]),
        (["run", "lenet5", "--image", "missing.png"], ["no picture 'missing.png'"]),
        (["run", "lenet5", "--random", "--labels", "missing.txt"], ["cannot read labels"]),
        (["run", "lenet5", "--random", "--output", "out.txt"], ["ends in .npz"]),
        (["run", "lenet5", "--random", "--output", "no/such/out.npz"], ["no folder"]),
        (["run", "lenet5", "--random", "--mean", "a,b"], ["expected numbers like"]),
        (["run", "lenet5", "--random", "--crop", "28x"], ["expected WxH or one number, got '28x'"]),
        (["show", "lenet5", "--stop-after", "fold_laundry"], ["--stop-after: expected one of"]),
        (["compare", "lenet5", "--random", "--backends", "reference"], ["at least two"]),
        (["list", "planets"], ["invalid choice"]),
    ],
)
def test_wrong_input_ends_with_one_clear_line(arguments: list[str], said: list[str], cli: Command) -> None:
    assert_wrong_input(cli(*arguments), *said)


def test_wrong_arrays_are_explained(cli: Command, digit: np.ndarray, tmp_path: pathlib.Path) -> None:
    (tmp_path / "noise.npy").write_bytes(bytes(range(200)))
    np.save(tmp_path / "pickle.npy", np.array([{}]))
    np.savez(tmp_path / "two.npz", a=digit, b=digit)
    np.savez(tmp_path / "surplus.npz", image=digit, mask=digit)
    wrong = {
        "noise.npy": "cannot read",
        "pickle.npy": "cannot read",
        "two.npz": "has no array 'image', but a, b",
        "flat.npy": "is the batch dimension missing?",
        "double.npy": "expected dtype float32, got float64",
        "turned.npy": "looks like NHWC order",
    }
    np.save(tmp_path / "flat.npy", digit[0])
    np.save(tmp_path / "double.npy", digit.astype(np.float64))
    np.save(tmp_path / "turned.npy", np.ascontiguousarray(digit.transpose(0, 2, 3, 1)))
    for name, reason in wrong.items():
        assert_wrong_input(cli("run", "lenet5", "--input", f"image={tmp_path / name}", *REFERENCE), reason)
    assert_wrong_input(cli("run", "lenet5", "--input", tmp_path / "surplus.npz", *REFERENCE), "no input named mask")


def test_a_picture_that_does_not_fit_names_the_options(cli: Command, tmp_path: pathlib.Path) -> None:
    Image.new("RGB", (28, 28), (1, 2, 3)).save(tmp_path / "colour.png")
    assert_wrong_input(cli("run", "lenet5", "--image", tmp_path / "colour.png", *REFERENCE), "[1,3,28,28]", "--order")


# show, compare, list, export, demo


def test_show_prints_both_graphs_costs_and_plan(cli: Command) -> None:
    ending = cli("show", "lenet5", "--explain", *REFERENCE)
    assert ending.code == 0, ending
    assert ending.out.count("graph lenet5(image: f32[1,1,28,28])") >= 2
    assert "every node by its NumPy meaning" in ending.out
    assert "what the passes did and declined" in ending.out
    assert re.search(r"^total .* 61,706$", ending.out, re.MULTILINE)
    before, after = (int(n) for n in re.findall(r"== .*: (\d+) nodes", ending.out))
    assert 0 < after < before


def test_show_stops_where_it_is_told(cli: Command) -> None:
    none = cli("show", "lenet5", "--passes", "", *REFERENCE)
    some = cli("show", "lenet5", "--passes", "fold_constants,fuse_activation", "--stop-after", "fold_constants", *REFERENCE)
    assert "after 0 passes: 16 nodes" in none.out and "after 1 passes: 13 nodes" in some.out


def test_compare_ends_with_1_where_backends_differ(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    backends = ["--backends", "reference:float64,reference"]
    same = cli("compare", "lenet5", "--random", *backends)
    assert same.code == 0 and re.search(r"^reference +output .* yes$", same.out, re.MULTILINE)
    differing = cli("compare", "lenet5", "--random", *backends, "--tolerance", "1e-12")
    assert differing.code == 1 and re.search(r"^reference +output .* NO$", differing.out, re.MULTILINE)
    assert "the answer" in differing.out or "first layer that differs" in differing.out


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("ops", ["Conv ", "MaxPool", "LSTM", "Pointwise tanh"]),
        ("passes", ["fold_batchnorm"]),
        ("backends", ["reference", "onnxruntime"]),
        ("models", ["lenet5", "ResNet-18, 1000 classes"]),
        ("knobs", ["TILEWRIGHT_DEBUG ", "TILEWRIGHT_CACHE_DIR"]),
    ],
)
def test_list(what: str, expected: list[str], cli: Command) -> None:
    ending = cli("list", what)
    assert ending.code == 0 and ending.err == ""
    for text in expected:
        assert text in ending.out


def test_list_says_what_a_backend_lacks(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert re.search(r"^onnxruntime +not here: .*pip install", cli("list", "backends").out, re.MULTILINE)


def test_export_writes_a_model_that_onnxruntime_runs_alike(cli: Command, digit: np.ndarray, tmp_path: pathlib.Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "lenet5.onnx"
    assert cli("export", "lenet5", file).code == 0
    (found,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"image": digit})
    np.testing.assert_allclose(found, tw.compile("lenet5", backend="reference")(digit), rtol=1e-5)
    assert_wrong_input(cli("export", "lenet5", tmp_path / "lenet5.txt"), ".onnx")


# how it ends


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


@pytest.mark.skipif(os.name != "posix", reason="pipes that close early are a POSIX matter")
def test_a_closed_pipe_is_no_error() -> None:
    listing = process("list", "ops")
    assert listing.stdout is not None and listing.stderr is not None
    listing.stdout.close()
    assert listing.stderr.read() == ""
    assert listing.wait(timeout=60) == 141


# what it is made of


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


def test_scores_become_probabilities(rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    scores = rng.standard_normal((2, 7, 1, 1)) * 3
    classification.print_classes({"map": rng.random((2, 3, 4)), "scores": scores}, None, 7)
    printed = capsys.readouterr().out
    assert "scores holds scores" in printed and "softmax" in printed
    rows = [line.split() for line in printed.splitlines()[2:]]
    powers = np.exp(scores[1, :, 0, 0])
    assert [int(row[2]) for row in rows if row[0] == "1"] == list(np.argsort(-powers))
    assert float(rows[7][1]) == pytest.approx(powers.max() / powers.sum(), abs=0.01)
    assert classification.looks_like_probabilities(np.full((3, 4), 0.25))
    assert not classification.looks_like_probabilities(np.array([[0.5, 0.4], [0.5, 0.5]]))


def test_labels_pick_the_output_they_fit() -> None:
    outputs = {"boxes": np.ones((1, 4)), "classes": np.ones((1, 3, 1))}
    assert classification.class_scores(outputs, ["a", "b", "c"])[0] == "classes"
    with pytest.raises(ModelError, match=r"there are 2 labels, got boxes \(1, 4\), classes"):
        classification.class_scores(outputs, ["a", "b"])


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


@pytest.mark.skipif(not REAL_MODELS.is_dir(), reason="the collection of real models lies beside the repository only where it was fetched")
def test_a_tabby_is_a_tabby(cli: Command) -> None:
    picture = ["--image", REAL_MODELS / "photos" / "kitten_224.png", "--resize-short", "224", "--crop", "224", "--order", "bgr"]
    labels = ["--mean", "104,117,123", "--labels", REAL_MODELS / "labels" / "imagenet1000_labels.txt"]
    ending = cli("run", REAL_MODELS / "squeezenet_fp32_derived.onnx", *picture, *labels, *REFERENCE)
    assert ending.code == 0, ending
    first = ending.out[ending.out.index("probability") :].splitlines()[1]
    assert "tabby" in first and "0.94" in first
