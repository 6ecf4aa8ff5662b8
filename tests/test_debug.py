"""The debug ladder shows one stage more at each level, and the table of settings is read strictly."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine import knobs
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import BatchNorm, pointwise


def printed_at(level: int, capsys: pytest.CaptureFixture[str]) -> str:
    with tw.knobs(debug=level):
        tw.compile("lenet5", backend="reference", passes=["drop_identity", "fold_constants"])
    return capsys.readouterr().out


def test_each_level_shows_one_stage_more(capsys: pytest.CaptureFixture[str]) -> None:
    silent, stages, graphs, plan = (printed_at(level, capsys) for level in range(4))
    assert silent == ""
    assert "tilewright: passes: " in stages and "tilewright: backend: " in stages and "---" not in stages
    assert "--- 00_import\ngraph lenet5" in graphs and "--- 02_fold_constants\ngraph lenet5" in graphs and "--- plan" not in graphs
    assert "drop_identity" not in graphs, "a pass that changed nothing is not shown"
    assert "--- plan" in plan and "NumPy meaning" in plan


def test_stages_become_files(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tw.knobs(debug_dir=str(tmp_path / "stages")):
        assert "graph lenet5" not in printed_at(3, capsys)
    assert sorted(p.name for p in (tmp_path / "stages").iterdir()) == ["00_import.txt", "02_fold_constants.txt", "plan.txt"]
    assert (tmp_path / "stages" / "00_import.txt").read_text().startswith("graph lenet5(image: f32[1,1,28,28]):")


def cpu_prints(level: int, capsys: pytest.CaptureFixture[str]) -> str:
    """What compiling relu(batch norm) shows, of which the batch norm has no kernel while no pass takes it apart."""
    x = Input(name="x", shape=(2, 3, 5, 4))
    parameters = [Constant(np.linspace(0.5, 1.5, 3, dtype=np.float32) * i) for i in range(1, 5)]
    graph = Graph((x,), (pointwise("relu", BatchNorm(x, *parameters, origin=("bn7",))),), ("y",))
    with tw.knobs(debug=level):
        tw.compile(graph, backend="cpu", passes=[])
    return capsys.readouterr().out


def test_the_cpu_backend_shows_fallbacks_then_the_plan_then_sources(capsys: pytest.CaptureFixture[str]) -> None:
    cpu_prints(0, capsys)  # from here on all kernels are known to the process and to the cache
    silent, stages, graphs, plan, sources = (cpu_prints(level, capsys) for level in range(5))
    assert silent == ""
    fallback = "tilewright: falls back to NumPy: batch_norm [numpy] bn7: no kernel for batch_norm\n"
    assert fallback in stages and "tilewright: backend: " in stages
    assert fallback in graphs and "--- 00_import" in graphs and "vector" not in graphs
    assert "--- plan" in plan and "   1 vector pointwise [" in plan and "define" not in plan
    symbol = re.search(r"pointwise \[(\w+)\]", plan)
    assert symbol and re.search(rf"^--- {symbol[1]}_\w+$", sources, re.MULTILINE) and "define void @" in sources


def test_sources_become_files(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tw.knobs(debug_dir=str(tmp_path)):
        assert "---" not in cpu_prints(4, capsys)
    (source,) = (path for path in tmp_path.iterdir() if path.stem not in ("00_import", "plan"))
    assert f"define void @{source.stem}(" in source.read_text().replace('"', "")


def test_overrides_end_with_their_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_THREADS", "3")
    assert knobs.get("threads") == 3
    with tw.knobs(threads=2), tw.knobs(debug=1):
        assert (knobs.get("threads"), knobs.get("debug")) == (2, 1)
    assert (knobs.get("threads"), knobs.get("debug")) == (3, 0)
    with pytest.raises(tw.ModelError, match="no knob named colour"), tw.knobs(colour=1):
        pass


def test_a_setting_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_THREADS", "many")
    with pytest.raises(tw.ModelError, match="TILEWRIGHT_THREADS='many': expected int"):
        knobs.get("threads")


def test_explain_says_what_was_done() -> None:
    session = tw.compile("lenet5", backend="reference")
    assert "fold_constants: 3 rewrites" in session.explain()
