"""benchmarks/gpu.py without a GPU: its table, its floor, tuning and measuring, and PyTorch's twins."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pathlib
import re
from typing import Any

import numpy as np
import pytest
from cuda_harness import check_compiles, needs_compiler, needs_nvrtc

import tilewright as tw
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"
F4 = np.dtype(np.float32)
OTHERS = ("resnet18", "resnet50", "efficientnet_b0", "densenet121", "vgg16", "unet")


def test_the_floor_of_a_layer_by_hand(program: Any) -> None:
    floor = program("gpu_floor")
    x = Input(name="x", shape=(2, 4, 6, 6))
    graph = Graph((x,), (Conv(x, Constant(np.zeros((8, 4, 3, 3), np.float32))),), ("y",))
    operations, elements = 2 * 2 * 8 * 16 * 4 * 9, 2 * 4 * 36 + 8 * 4 * 9 + 2 * 8 * 16
    ceilings = floor.Ceilings(1e9, {"fp32": 1e9, "fp16": 1e12})
    assert floor.floor_seconds(graph, "fp32", ceilings) == pytest.approx(operations / 1e9)
    assert floor.floor_seconds(graph, "fp16", ceilings) == pytest.approx(2 * elements / 1e9)
    kept = [{"kind": "ceiling", "name": "copy", "value": 2e12}, {"kind": "ceiling", "name": "fp16", "value": 5e14}]
    assert floor.measured_ceilings(kept) == floor.Ceilings(2e12, {"fp32": 60e12, "tf32": 390e12, "fp16": 5e14})


@pytest.mark.parametrize(("batch", "microseconds"), [(1, (138, 45, 23)), (8, (1092, 229, 115))])
def test_the_floor_of_resnet50(program: Any, batch: int, microseconds: tuple[int, ...]) -> None:
    """By an independent list of its layers."""
    floor = program("gpu_floor")
    graph = tw.load("resnet50", {"image": (batch, 3, 224, 224)})
    found = [1e6 * floor.floor_seconds(graph, precision, floor.ASSUMED) for precision in ("fp32", "tf32", "fp16")]
    assert found == pytest.approx(microseconds, rel=0.02)


@needs_nvrtc
def test_the_kernel_that_measures_arithmetic(program: Any) -> None:
    """Its sums stay in registers, and none is left out."""
    kernel = program("gpu_ceilings").MultiplyAdds(132, 400)
    check_compiles(kernel, [ARCHITECTURES["sm_75"], ARCHITECTURES["sm_90"]])
    assert kernel.operations == 2 * 16 * 64 * 400 * 256 * 132


def test_the_table(program: Any) -> None:
    table = program("gpu_table")
    case = {"step": "networks", "network": "resnet18", "batch": 1, "precision": "fp32"}
    records = [
        {"step": "cases", "kind": "check", "name": "one", "passed": True, "why": ""},
        {"step": "cases", "kind": "check", "name": "two", "passed": False, "why": "it differs"},
        {"kind": "floor", "seconds": 50e-6, **case},
        {"kind": "choices", "measured": 7, "by_rule": 3, **case},
        {"kind": "time", "engine": "tilewright", "samples": [90e-6, 100e-6, 200e-6], **case},
        {"kind": "time", "engine": "eager", "samples": [500e-6], **case},
        {"kind": "time", "engine": "graph", "samples": [150e-6], **case},
    ]
    lines = table.report(records)
    assert "1 of 2 passed" in lines and "- cases: two FAILED: it differs" in lines
    assert lines[-1] == "| resnet18 | 1 | fp32 | 7 of 10 | 100.0 | 500.0 | 150.0 | 1.50 | 50% |"
    assert table.report([])


def test_a_line_that_was_cut_off(program: Any, tmp_path: pathlib.Path) -> None:
    log = program("gpu_log").Log(tmp_path)
    log.add("a", "version", name="x", value=1)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": "b", "ki')
    assert log.records() == [{"step": "a", "kind": "version", "name": "x", "value": 1}]


def test_everybody_has_turns(program: Any) -> None:
    calls = list[str]()
    runners = {name: lambda name=name: calls.append(name) for name in "ab"}
    samples = program("gpu_networks").turns(runners, rounds=2, window=0)
    assert calls == [*"aaabbb", *"ab", *"ba"] and all(len(found) == 2 for found in samples.values())


@pytest.mark.parametrize(("quick", "shares"), [(True, [10] * 6), (False, [6] * 9)])
def test_shares_of_the_time_for_tuning(
    program: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, quick: bool, shares: list[float]
) -> None:
    """Equal where they are of use; otherwise the first cases get what is."""
    networks, task = program("gpu_networks"), program("gpu_steps").Task("tune", str(tmp_path), "emulated", 0, quick)
    found, now = list[float](), [0.0]
    monkeypatch.setattr(type(task), "left", property(lambda _: 65 - now[0]))

    def tune(task: Any, case: Any, seconds: float) -> None:
        found.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(networks, "_tune", tune)
    networks.tune(task)
    assert found == pytest.approx(shares)
    assert [r["what"][:19] for r in task.log.records() if r["kind"] == "skipped"] == ["tuning of 54 cases "] * (not quick)


@needs_compiler
def test_a_network_is_tuned_and_measured(program: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake device instead of a GPU, and PyTorch, where it is installed, on the processor."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    networks, steps, peers = program("gpu_networks"), program("gpu_steps"), program("gpu_peers")
    monkeypatch.setattr(networks, "NETWORKS", {"lenet5": (1, 28, 28)})
    monkeypatch.setattr(peers, "PLACE", "cpu")
    task = steps.Task("networks", str(tmp_path), "emulated", 60, True)
    case = networks.Case("lenet5", 1, "fp32")
    networks._tune(task, case, 0.01)
    assert list(json.loads((tmp_path / "tuned.json").read_text())) == ["emulated sm_90"]
    has_torch = importlib.util.find_spec("torch") is not None
    monkeypatch.setattr(networks, "turns", lambda runners: {name: [runner() or 1e-3] for name, runner in runners.items()})
    ways = [
        peers.Way(name, lambda torch, module, given: lambda: module(given) and None, *how)
        for name, how in {"eager": (False,), "NCHW": (True, False)}.items()
    ]
    networks.measure(task, case, ways if has_torch else [])
    assert not task.failures
    lines = program("gpu_table").report(task.log.records())
    assert re.match(r"\| lenet5 \| 1 \| fp32 \| 0 of [1-9]\d* \| 1000\.0 \|", lines[-1]) and ("| eager |" in lines[-3]) == has_torch


@needs_compiler
def test_what_was_tuned_in_a_run_is_used_in_it(program: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table in the folder of the run decides, and the record says for how many choices."""
    networks, steps, log = program("gpu_networks"), program("gpu_steps"), program("gpu_log")
    monkeypatch.setattr(networks, "NETWORKS", {"lenet5": (1, 28, 28)})
    task, case = steps.Task("networks", str(tmp_path), "emulated", 60, True), networks.Case("lenet5", 1, "fp32")
    graph, x = networks.graph_of(case), np.zeros(case.shapes["image"], np.float32)
    used, compile = list[Any](), tw.compile
    monkeypatch.setattr(tw, "compile", lambda graph, backend: used.append(backend.schedules) or compile(graph, backend=backend))
    networks.ours(task, case, graph, x)
    question = max(used[0].open.values(), key=lambda question: len(question.candidates))
    log.write_answers(tmp_path, "emulated sm_90", {question.key: repr(question.candidates[0])})
    networks.ours(task, case, graph, x)
    found = [(r["measured"], r["by_rule"]) for r in task.log.records() if r["kind"] == "choices"]
    assert used[1].used == {question.key} and found == [(0, len(used[0].open)), (1, len(used[0].open) - 1)]
    assert log.read_answers(tmp_path, "another GPU") == {}


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="settings of PyTorch need torch")
@pytest.mark.torch
@pytest.mark.parametrize("on", [True, False])
def test_tf32_is_on_or_off_in_all_of_pytorch(program: Any, on: bool) -> None:
    """Reading a setting raises where others disagree."""
    import torch  # pyright: ignore[reportMissingImports]

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    program("gpu_peers").use_tf32(torch, on)
    assert cudnn.allow_tf32 == matmul.allow_tf32 == on
    if hasattr(cudnn, "fp32_precision"):
        assert {place.fp32_precision for place in (cudnn, cudnn.conv, matmul)} == {"tf32" if on else "ieee"}


def test_outputs_of_others(program: Any) -> None:
    difference, ours = program("gpu_peers").difference, np.array([1.0, -2.0])
    assert difference(ours + 1e-3, ours, "fp32") == ""
    assert "0.005 of the largest number" in difference(ours + 1e-2, ours, "fp32") and difference(ours + 1e-2, ours, "fp16") == ""
    assert difference(np.array([1.0, np.nan]), ours, "tf32")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch's twins need torch")
@pytest.mark.torch
@pytest.mark.parametrize("folded", [pytest.param(False, marks=pytest.mark.sweep), True])
@pytest.mark.parametrize("name", ["mobilenet_v2", *(pytest.param(n, marks=pytest.mark.sweep) for n in OTHERS)])
def test_twins_in_pytorch(program: Any, name: str, folded: bool, rng: np.random.Generator) -> None:
    import torch  # pyright: ignore[reportMissingImports]

    from tilewright.engine.compiler import optimize

    shape = (1, 1, 188, 188) if name == "unet" else (2, 3, 40, 48)
    graph = tw.load(name, {"image": shape})
    x = rng.standard_normal(shape).astype(np.float32)
    names = ["fold_constants", *(["fold_batchnorm", "fold_constants"] if folded else [])]
    module = program("gpu_torch").torch_module(optimize(graph, names))
    with torch.inference_mode():
        (found,) = module(torch.from_numpy(x).to(memory_format=torch.channels_last))
    wanted = tw.compile(graph)(x)
    assert np.abs(found.numpy() - wanted).max() <= 1e-4 * np.abs(wanted).max()
