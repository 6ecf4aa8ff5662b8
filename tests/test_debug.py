"""The debug ladder shows one stage more at each level, and the table of settings is read strictly."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
from command_line import Command
from cuda_harness import needs_compiler, needs_nvrtc

import tilewright as tw
from tilewright.backends.cuda.executable import CudaExecutable
from tilewright.engine import knobs
from tilewright.engine.debug import dump_each
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


@needs_compiler
def test_the_cuda_backend_shows_its_sources(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level in (3, 4):
        with tw.knobs(debug=level, debug_dir=str(tmp_path / str(level))):
            session = tw.compile("lenet5", backend="cuda_emulated")
    assert "---" not in capsys.readouterr().out
    assert isinstance(session.executable, CudaExecutable)
    kernels = {step.kernel.name: step.kernel.source() for step in session.executable.steps}
    plan, sources = ({p.stem: p.read_text() for p in (tmp_path / level).iterdir()} for level in "34")
    assert "plan" in plan and sources.keys() - plan.keys() == kernels.keys()
    assert all(sources[name].strip() == text.strip() and name in text for name, text in kernels.items())


@needs_nvrtc
def test_machine_code_for_elsewhere_is_shown_like_any_other(cli: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_DEBUG", "4")
    monkeypatch.setenv("TILEWRIGHT_DEBUG_DIR", str(tmp_path / "stages"))
    ending = cli("compile", "lenet5", "--backend", "cuda", "--arch", "sm_80,sm_90", "-o", tmp_path / "kernels.zip")
    assert ending.code == 0 and "tilewright: backend: " in ending.out and "---" not in ending.out
    shown = {path.stem: path.read_text() for path in (tmp_path / "stages").iterdir()}
    for name in ("sm_80", "sm_90"):
        assert "conv1, tanh1" in shown[f"plan_{name}"] and f"kernels; {name}, fp32" in shown[f"plan_{name}"]
        kernels = [line.split()[1] for line in ending.out.splitlines() if line.split()[0] == name]
        assert kernels and all("__global__ void __launch_bounds__" in shown[kernel] and kernel in shown[kernel] for kernel in kernels)


def test_nothing_is_made_that_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    asked = list[str]()
    for level in (3, 4):
        with tw.knobs(debug=level):
            dump_each(((title, asked.append(title)) for title in ("a", "b")), level=4)
        assert asked == list("ab" if level == 4 else "")
    assert capsys.readouterr().out == "--- a\nNone\n--- b\nNone\n"


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
