"""The command line: what each command prints and writes."""

from __future__ import annotations

import pathlib
import re
import shlex
import sys

import numpy as np
import onnx.parser
import pytest
from command_line import REAL_MODELS, REFERENCE, Command, assert_wrong_input
from PIL import Image

import tilewright as tw
from tilewright.passes.default import default


@pytest.fixture
def digit(rng: np.random.Generator) -> np.ndarray:
    return rng.random((1, 1, 28, 28), np.float32)


@pytest.fixture
def digit_file(digit: np.ndarray, tmp_path: pathlib.Path) -> pathlib.Path:
    np.save(tmp_path / "digit.npy", digit)
    return tmp_path / "digit.npy"


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


@pytest.mark.parametrize("name", ["x", "the input"])
def test_what_open_dimensions_ask_for_can_be_pasted(name: str, cli: Command, tmp_path: pathlib.Path) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    model = onnx.parser.parse_model(f"{head} g (float[batch_size,3,h] x) => (float[batch_size,3,h] y) {{ y = Relu(x) }}")
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    onnx.save(model, tmp_path / "open.onnx")
    ending = cli("run", tmp_path / "open.onnx", "--random", *REFERENCE)
    assert_wrong_input(ending, "[batch_size,3,h]", "=1x3x1")
    hint = shlex.split(ending.err.partition("fix them with ")[2])
    assert "f32[1,3,1]" in cli("run", tmp_path / "open.onnx", "--random", *hint, *REFERENCE).out


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
        (["walk", "lenet5"], ["invalid choice: 'walk'", "see `tilewright --help`"]),
        (["bench", "lenet5", "--backend", "cuda"], ["unrecognized arguments: --backend cuda; see `tilewright bench --help`"]),
        (["--quiet", "list", "ops"], ["unrecognized arguments: --quiet; see `tilewright --help`"]),
        (["run", "nothing"], ["no 'nothing' among the models: alexnet", "lenet5"]),
        (["run", "mobilenet2"], ["no 'mobilenet2' among the models (is it mobilenet_v2 or "]),
        (["run", "lenet5", "--random", "--backend", "abacus"], ["no 'abacus' among the backends", "reference"]),
        (["run", "lenet5", "--random", "--accuracy", "sloppy"], ["sloppy", "exact"]),
        (["run", "lenet5", "--random", "--threads", "0"], ["expected a positive number, got '0'"]),
        (["run", "lenet5", "--random", "--shape", "image=1x1"], ["expected rank 4"]),
        (["run", "lenet5", "--random", "--shape", "1x1x28x28"], ["expected NAME=1x3x224x224"]),
        (["run", "lenet5", "--random", "--shape", "picture=1x1x28x28"], ["no input named picture"]),
        (["show", "resnet18", "--shape", "picture=1x3x64x64"], ["no input named picture", "image: f32[batch,3,height,width]"]),
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
        (["compare", "lenet5", "--random", "--tolerance=-1e-4"], ["--tolerance", "expected a number of at least 0, got '-1e-4'"]),
        (["compare", "lenet5", "--random", "--tolerance", "nan"], ["expected a number of at least 0, got 'nan'"]),
        (["bench", "lenet5", "--tolerance", "nan"], ["expected a number of at least 0, got 'nan'"]),
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


def test_show_prints_both_graphs_costs_and_plan(cli: Command) -> None:
    ending = cli("show", "lenet5", "--explain", *REFERENCE)
    assert ending.code == 0, ending
    assert ending.out.count("graph lenet5(image: f32[1,1,28,28])") >= 2
    assert "every node by its NumPy meaning" in ending.out
    assert "what the passes did and declined" in ending.out
    assert re.search(r"^total .* 61,706$", ending.out, re.MULTILINE)
    before, after = (int(n) for n in re.findall(r"== .*: (\d+) nodes", ending.out))
    assert 0 < after < before


def test_show_says_first_that_there_is_no_such_backend_here(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ending = cli("show", "lenet5", "--backend", "onnxruntime")
    assert_wrong_input(ending, "pip install")
    assert not ending.out


def test_show_stops_where_it_is_told(cli: Command) -> None:
    none = cli("show", "lenet5", "--passes", "", *REFERENCE)
    some = cli("show", "lenet5", "--passes", "fold_constants,fuse_activation", "--stop-after", "fold_constants", *REFERENCE)
    assert "after 0 passes: 16 nodes" in none.out and "after 1 pass: 13 nodes" in some.out


def test_compare_ends_with_1_where_backends_differ(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    backends = ["--backends", "reference:float64,reference"]
    same = cli("compare", "lenet5", "--random", *backends)
    assert same.code == 0 and re.search(r"^reference +output .* yes$", same.out, re.MULTILINE)
    differing = cli("compare", "lenet5", "--random", *backends, "--tolerance", "1e-12")
    assert differing.code == 1 and re.search(r"^reference +output .* NO$", differing.out, re.MULTILINE)
    assert "the answer" in differing.out or "first layer that differs" in differing.out


def test_compare_prints_both_limits_as_they_were_given(cli: Command) -> None:
    ending = cli("compare", "lenet5", "--random", "--backends", "reference:float64,reference", "--tolerance", "2.5e-5")
    assert re.search(r"^reference +output +\S+ +\S+ +2\.5e-5 +\S+ +1\.25e-5 +yes$", ending.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("ops", ["Conv ", "MaxPool", "LSTM", "Pointwise tanh", "max($0, 0)"]),
        ("passes", ["fold_batchnorm", "lstm|gru|rnn(x"]),
        ("backends", ["reference", "onnxruntime"]),
        ("models", ["lenet5", "ResNet-18, 1000 classes", "1,814,073,344  He, Zhang, Ren, Sun: Deep"]),
        ("knobs", ["TILEWRIGHT_DEBUG ", "TILEWRIGHT_CACHE_DIR"]),
    ],
)
def test_list(what: str, expected: list[str], cli: Command) -> None:
    ending = cli("list", what)
    assert ending.code == 0 and ending.err == ""
    for text in expected:
        assert text in ending.out


def test_list_tells_every_place_of_a_pass_and_counts_like_a_person(cli: Command) -> None:
    first, last = (str(f(i for i, name in enumerate(default, start=1) if name == "fold_constants")) for f in (min, max))
    assert re.search(rf"^fold_constants +{first}, (\d+, )*{last} ", cli("list", "passes").out, re.MULTILINE)
    models = cli("list", "models").out
    assert models.index("resnet50 ") < models.index("resnet101 ")


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


@pytest.mark.skipif(not REAL_MODELS.is_dir(), reason="the collection of real models lies beside the repository only where it was fetched")
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_tabby_is_a_tabby(backend: str, cli: Command) -> None:
    picture = ["--image", REAL_MODELS / "photos" / "kitten_224.png", "--resize-short", "224", "--crop", "224", "--order", "bgr"]
    labels = ["--mean", "104,117,123", "--labels", REAL_MODELS / "labels" / "imagenet1000_labels.txt"]
    ending = cli("run", REAL_MODELS / "squeezenet_fp32_derived.onnx", *picture, *labels, "--backend", backend)
    assert ending.code == 0, ending
    first = ending.out[ending.out.index("probability") :].splitlines()[1]
    assert "tabby" in first and "0.94" in first
