"""`tilewright compile --arch`: machine code for GPUs that are elsewhere, and what each kernel uses."""

from __future__ import annotations

import json
import pathlib
import zipfile

import onnx.parser
import pytest
from command_line import Command
from cuda_harness import needs_compiler, needs_nvrtc

import tilewright as tw
from tilewright.backends.cuda import nvrtc
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.machine_code import architectures_of
from tilewright.engine.cli import make_parser
from tilewright.engine.errors import MachineError


def wrong(cli: Command, *arguments: object) -> str:
    """The one line that a wrong command ends in."""
    ending = cli("compile", "lenet5", *map(str, arguments))
    assert ending.code == 2 and not ending.out, ending
    return ending.err


@needs_nvrtc
def test_an_archive_for_two_architectures(cli: Command, tmp_path: pathlib.Path) -> None:
    command = ("compile", "lenet5", "--backend", "cuda", "--arch", "sm_80,sm_90", "--precision", "fp16", "-o")
    first, again = cli(*command, tmp_path / "first.zip"), cli(*command, tmp_path / "again.zip")
    assert first.code == 0 and first == again
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        report = json.loads(archive.read("report.json"))
        assert report["model"] == "lenet5" and report["precision"] == "fp16" and list(report["architectures"]) == ["sm_80", "sm_90"]
        for architecture, kernels in report["architectures"].items():
            assert sum(kernel["steps"] for kernel in kernels.values()) >= 9
            for name, used in kernels.items():
                assert archive.read(f"{architecture}/{name}.cubin")[:4] == b"\x7fELF"
                assert 0 < used["registers"] <= 255 and used["spills"] == 0 and not used["exceeds"]
                assert any(line.split()[:2] == [architecture, name] for line in first.out.splitlines())
        assert len(archive.namelist()) == 1 + sum(map(len, report["architectures"].values()))
        assert any("fp16" in name for name in report["architectures"]["sm_90"])


@needs_nvrtc
def test_all_is_all_whatever_stands_beside_it() -> None:
    arguments = make_parser().parse_args(["compile", "lenet5", "-o", "kernels.zip", "--arch", "sm_90, all"])
    assert arguments.arch == ("sm_90", "all")
    assert architectures_of(arguments.arch, "tf32") == architectures_of(["all"], "tf32") == [*ARCHITECTURES][1:]


@needs_nvrtc
def test_a_network_without_kernels(cli: Command, tmp_path: pathlib.Path) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    onnx.save(onnx.parser.parse_model(f"{head} g (float[2,3,4] x) => (float[2,12] y) {{ y = Flatten(x) }}"), tmp_path / "view.onnx")
    ending = cli("compile", tmp_path / "view.onnx", "--backend", "cuda", "--arch", "sm_80,sm_90", "-o", tmp_path / "kernels.zip")
    assert ending == (0, "no kernels: only views\n", "")
    with zipfile.ZipFile(tmp_path / "kernels.zip") as archive:
        assert archive.namelist() == ["report.json"]


@needs_compiler
def test_who_cannot_save_a_session_says_what_can_be_kept(tmp_path: pathlib.Path) -> None:
    how = "`tilewright compile MODEL --backend cuda-emulated --arch all -o FILE.zip` keeps its kernels"
    with pytest.raises(tw.UnsupportedError, match=f"of the cuda-emulated backend cannot be saved; {how}"):
        tw.compile("lenet5", backend="cuda_emulated").save(tmp_path / "model.tw")
    with pytest.raises(tw.UnsupportedError, match="only what the cpu backend has compiled can be saved"):
        tw.compile("lenet5", backend="reference").save(tmp_path / "model.tw")
    assert not list(tmp_path.iterdir())


def test_what_is_refused(cli: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "kernels.zip"
    several = wrong(cli, "--backend", "cuda", "--arch", "sm_12,sm_90,nothing", "-o", target)
    assert "no architecture 'sm_12', 'nothing': expected some of sm_75, sm_80" in several and several.endswith("sm_121, or all\n")
    for empty in ("", ","):
        assert f"--arch: expected sm_80,sm_90 or all, got {empty!r}" in wrong(cli, "--backend", "cuda", "--arch", empty, "-o", target)
    assert "sm_75 has no such products; expected 'fp32' or 'fp16'" in wrong(
        cli, "--backend", "cuda", "--arch", "sm_90,sm_75", "--precision", "bf16", "-o", target
    )
    assert "no architecture 'foo'" in wrong(cli, "--backend", "cuda", "--arch", "all,foo", "-o", target)
    assert "precision='int3'" in wrong(cli, "--backend", "cuda", "--arch", "sm_90", "--precision", "int3", "-o", target)
    assert "the cpu backend compiles for this machine only" in wrong(cli, "--arch", "sm_90", "-o", target)
    assert "give --arch sm_90 -o FILE.zip" in wrong(cli, "--backend", "cuda", "-o", tmp_path / "kernels.tw")
    assert "ends in .zip" in wrong(cli, "--backend", "cuda", "--arch", "sm_90", "-o", tmp_path / "kernels.tw")
    assert "--tune measures" in wrong(cli, "--backend", "cuda", "--arch", "sm_90", "--tune", "-o", target)
    monkeypatch.setattr(nvrtc, "_wheels", list)
    monkeypatch.setattr(nvrtc, "_toolkits", list)
    monkeypatch.setattr(nvrtc, "SYSTEM_NAMES", ())
    nvrtc.nvrtc.cache_clear()
    try:
        text = wrong(cli, "--backend", "cuda", "--arch", "sm_90", "-o", target)
        assert 'pip install "tilewright[cuda13]"' in text and text.count("\n") == 1
        with pytest.raises(MachineError):
            nvrtc.nvrtc()
    finally:
        nvrtc.nvrtc.cache_clear()
    assert not list(tmp_path.iterdir())


@needs_nvrtc
def test_an_architecture_that_is_newer_than_the_compiler(cli: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvrtc.nvrtc.cache_clear()  # one that has been asked already remembers what it said
    monkeypatch.setattr(nvrtc.Nvrtc, "architectures", frozenset({"sm_100", "sm_90", "sm_80"}))
    target = tmp_path / "kernels.zip"
    text = wrong(cli, "--backend", "cuda", "--arch", "sm_90,sm_110", "-o", target)
    assert "does not compile for sm_110, only for sm_80, sm_90, sm_100; take a newer one" in text and not target.exists()


@pytest.mark.parametrize("backend, precision", [("cpu", "fp16"), ("cpu", "float64"), ("reference", "tf32"), ("onnxruntime", "bf16")])
def test_precisions_that_a_backend_lacks(cli: Command, backend: str, precision: str) -> None:
    ending = cli("run", "lenet5", "--random", "--backend", backend, "--precision", precision)
    assert ending.code == 2 and "precision" in ending.err and ending.err.count("\n") == 1


def test_precisions_that_a_backend_has(cli: Command) -> None:
    assert cli("run", "lenet5", "--random", "--backend", "reference", "--precision", "float64").code == 0


@pytest.mark.sweep
@needs_nvrtc
def test_all_architectures(cli: Command, tmp_path: pathlib.Path) -> None:
    ending = cli("compile", "lenet5", "--backend", "cuda", "--arch", "all", "--precision", "tf32", "-o", tmp_path / "kernels.zip")
    assert ending.code == 0 and "sm_75" not in ending.out and "sm_120" in ending.out
