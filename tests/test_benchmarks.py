"""The programs in benchmarks/ that other tests do not need: they run, and their figures are what they say."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys
from typing import Any

import pytest

import tilewright as tw
from tilewright.engine import plugins
from tilewright.engine.bench.engines import Task
from tilewright.models import lenet5

pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path: pathlib.Path) -> pathlib.Path:
    """LeNet-5 as a file, for one image and under the name of the one for eight."""
    path = tmp_path / "models" / "lenet5.onnx"
    path.parent.mkdir()
    path.write_bytes(plugins.load("frontends", "onnx.export")(tw.load(lenet5)).SerializeToString())
    shutil.copy(path, path.with_stem("lenet5_b8"))
    return path


def test_accuracy(program: Any, model: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy = program("accuracy")
    assert accuracy.main([str(model)]) == 0
    heads, row, _, verdict = capsys.readouterr().out.splitlines()
    assert heads.split() == ["network", "fast", "strict", "exact", "onnxruntime"] and row.split()[0] == "lenet5"
    assert all(1e-9 < float(error) < 1e-5 for error in row.split()[1:])
    assert verdict == "fast <= 1e-04: yes; strict <= 2e-05: yes"
    monkeypatch.setitem(accuracy.BOUNDS, "strict", 1e-10)
    assert accuracy.main([str(model)]) == 1 and "strict <= 1e-10: NO" in capsys.readouterr().out


def test_startup(program: Any, model: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    assert program("startup").main([str(model), "--rounds", "1", "--threads", "1"]) == 0
    title, heads, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("lenet5, 1 threads: saving takes ") and heads.split()[-1] == "MB"
    figures = {row.split()[0]: list(map(float, row.split()[1:])) for row in rows}
    assert list(figures) == ["numpy", "cold", "warm", "opened", "verified", "onnxruntime"]
    assert all(0 < ready <= answered and 10 < memory < 2000 for ready, _, answered, _, memory in figures.values())
    assert figures["opened"][0] < figures["cold"][0]


def test_networks(program: Any, model: pathlib.Path, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    networks, saved = program("networks"), tmp_path / "saved.jsonl"
    arguments = ["--models", str(model.parent), "--networks", "lenet5", "--against", "onnxruntime,peers:ncnn", "--save", str(saved)]
    assert networks.main([*arguments, "--threads", "1", "--batch", "1,8", "--runs", "2", "--rounds", "1", "--window", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "## batch 1, 1 thread:" in printed and "## batch 8, 1 thread:" in printed and printed.count("| lenet5 |") == 2
    assert "lenet5: peers:ncnn failed: " in printed, "without its files"
    records = [json.loads(line) for line in saved.read_text().splitlines()]
    assert [(r["run"], r["batch"], len(r["engines"])) for r in records] == [(0, 1, 3), (0, 8, 2), (1, 1, 3), (1, 8, 2)]
    assert networks.main(["--report", str(saved)]) == 0 and capsys.readouterr().out == printed


def record(network: str, run: int, **medians: float) -> dict[str, Any]:
    """What one run of one network leaves behind, as far as the tables read it."""
    engines = [
        {"engine": name.replace("_", ":"), "median": value / 1e3, "failure": "", "agrees": name != "bad", "max_relative_error": 0.5}
        for name, value in medians.items()
    ]
    return {"network": network, "run": run, "batch": 1, "threads": 2, "engines": engines, "processors_kept_busy_by_others": 0.1}


def test_figures_of_networks(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    networks = program("networks")
    records = [
        record("resnet18", 0, tilewright=10, onnxruntime=20, peers_ncnn=15),
        record("resnet18", 1, tilewright=10, onnxruntime=22, peers_ncnn=30),
        record("resnet18", 2, tilewright=20, onnxruntime=24, peers_ncnn=18),
        record("unet", 0, tilewright=10, onnxruntime=60),
        record("unet", 1, tilewright=10, onnxruntime=40),
        record("unet", 2, tilewright=10, onnxruntime=50),
    ]
    assert networks.report(records)
    lines = capsys.readouterr().out.splitlines()
    assert "| network | Tilewright | onnxruntime | ncnn | over the fastest | over onnxruntime |" in lines
    assert "| ResNet-18 | 10 | 22 | 18 | 1.50 (1.50, 2.20, 0.90) | 2.00 (2.00, 2.20, 1.20) |" in lines
    assert "| U-Net | 10 | 50 | - | 5.00 (6.00, 4.00, 5.00) | 5.00 (6.00, 4.00, 5.00) |" in lines
    assert "geometric mean over the fastest, run by run: 3.000, 2.966, 2.121" in lines
    assert "geometric mean over onnxruntime, run by run: 3.464, 2.966, 2.449" in lines
    assert "lowest ratio of a run: 0.90 (resnet18)" in lines
    assert not networks.report([record("unet", 0, tilewright=1, bad=2)])
    assert "unet: bad and Tilewright DIFFER by 0.5" in capsys.readouterr().out


def test_ncnn_takes_one_image(program: Any) -> None:
    with pytest.raises(NotImplementedError, match="one image, got 8"):
        program("peers").ncnn(Task("net.onnx", {"x": (8, 3, 4, 4)}, {}, 1))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are tied to processors as on Linux")
def test_competition(program: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    competition = program("competition")
    code = competition.main(["lenet5", "--threads", "2", "--rounds", "1", "--window", "0.02"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["lenet5", "tilewright"], ["lenet5", "onnxruntime"]]
    ours, theirs = (float(line.split()[-1]) for line in lines[1:3])
    assert code == (1 if ours > theirs else 0) or ours == theirs
    monkeypatch.setattr(competition, "measure", lambda *_: {"tilewright": (1.0, 1.5), "onnxruntime": (1.0, 1.4)})
    assert competition.main(["lenet5"]) == 1 and capsys.readouterr().out.endswith("than onnxruntime on: lenet5\n")
    monkeypatch.setattr(competition, "measure", lambda *_: {"tilewright": (1.0, 1.3), "onnxruntime": (1.0, 1.4)})
    assert competition.main(["lenet5"]) == 0 and capsys.readouterr().out.endswith("than onnxruntime on: none\n")
