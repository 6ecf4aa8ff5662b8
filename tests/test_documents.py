"""What README.md, CONTRIBUTING.md and docs/dsl.md show works, and the files they name are there."""

from __future__ import annotations

import pathlib
import re
import textwrap
from typing import Any

import numpy as np
import pytest
from command_line import ROOT

import tilewright as tw
from tilewright.engine.cli import make_parser
from tilewright.engine.graph import Graph, Input
from tilewright.engine.ops import pointwise
from tilewright.models import resnet18

README, CONTRIBUTING, GUIDE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "docs/dsl.md"))
SAID = [
    "61706 416520",
    "['classes.bias', 'classes.weight', 'residual1.batch_norm1.bias']",
    "{'kind': (2, 5), 'good': (2, 1)}",
    "8 4 ['weight']",
    "0.0",
    "falls back to NumPy: snake [numpy] waves: no kernel for snake",
    "epilogue=$0 + sin($0 * 2) * sin($0 * 2) * 0.5",
    "drop_softmax: 1 rewrites",
    "the softmax is along another axis",
]
"""What the guide says that its code prints."""


def blocks(text: str, language: str) -> list[str]:
    return [textwrap.dedent(code) for code in re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)]


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {}
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("safetensors.numpy").save_file(resnet18.parameters(), "resnet18.safetensors")
    codes = blocks(README, "python")
    assert len(codes) == 4
    for code in codes:
        exec(code, names)
    outputs, scores = names["outputs"], names["scores"]
    assert isinstance(outputs, dict) and outputs["output"].shape == (1, 1000)
    assert isinstance(scores, np.ndarray) and scores.shape == (4, 10)
    np.testing.assert_allclose(names["likely"].sum(), 1, rtol=1e-4)  # type: ignore[attr-defined]
    assert isinstance(names["session"], tw.Session) and (tmp_path / "resnet18.tw").exists()
    np.testing.assert_array_equal(names["session"].run({"image": names["image"]})["output"], outputs["output"])  # type: ignore[dict-item]
    assert "graph resnet18" in capsys.readouterr().out


def test_the_python_of_the_guide_runs(capsys: pytest.CaptureFixture[str], rng: np.random.Generator) -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    codes = blocks(GUIDE, "python")
    assert len(codes) == 9
    for code in codes:
        exec(compile(code, "docs/dsl.md", "exec", dont_inherit=True), names)
    printed = capsys.readouterr().out
    for text in SAID:
        assert text in GUIDE and text in printed
    assert names["scores"].shape == (3, 10) and np.allclose(names["scores"].sum(1), 1, atol=1e-5)
    image = rng.random((2, 1, 28, 28), np.float32)
    likely, read = tw.compile(names["lenet"])(image), names["read"](image)
    np.testing.assert_array_equal(read[0][:, 0], likely.argmax(1))
    np.testing.assert_array_equal(read[1][0], likely.argmax(0))


def test_the_links_of_the_guide_lead_somewhere() -> None:
    links = [target.replace("\\", "") for target in re.findall(r"\]\(([^)]+)\)", GUIDE)]
    assert len(links) >= 4 and all((ROOT / "docs" / target).exists() for target in links)


def test_the_pass_of_the_recipe_works(rng: np.random.Generator) -> None:
    (code,) = blocks(CONTRIBUTING, "python")
    names: dict[str, object] = {"__name__": "recipe"}
    exec(code, names)
    x = Input(name="x", shape=(3, 5))
    twice, once = pointwise("neg", pointwise("neg", x)), pointwise("neg", pointwise("abs", x))
    graph = tw.optimize(Graph((x,), (twice, once), ("twice", "once")), [names["drop_double_negation"]])  # type: ignore[list-item]
    assert graph.outputs == (x, once)


def test_the_shell_commands_parse() -> None:
    parser = make_parser()
    (script,) = [code for code in blocks(README, "sh") if code.startswith("tilewright run")]
    lines = [line.partition("#")[0].split() for line in script.replace("\\\n", " ").splitlines()]
    assert len(lines) == 15
    for words in lines:
        assert words[0] == "tilewright" and parser.parse_args(words[1:]).command == words[1]


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_the_files_it_names_exist(text: str) -> None:
    folders = "engine|frontends|passes|backends|models|tests|benchmarks|src|.ci"
    named = set(re.findall(rf"`((?:{folders})/[\w/.*-]*)`", text)) - {"passes/verb_object.py", "backends/name.py"}
    assert len(named) > 8
    for path in named:
        assert list(ROOT.glob(path.rstrip("/"))), f"{path} does not exist"
    assert all((ROOT / target).exists() for target in re.findall(r"\]\(([\w./-]+)\)", text) if not pathlib.Path(target).is_absolute())


def test_the_commands_for_a_fresh_machine_are_there() -> None:
    assert 'pip install -e ".[image]" && tilewright demo' in README
    assert 'pip install -e ".[test,image]" && pytest' in README
