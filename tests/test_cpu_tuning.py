"""compile(tune=True): what the cpu backend measures, keeps and uses again."""

from __future__ import annotations

import dataclasses as dc
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from command_line import Command, assert_wrong_input

import tilewright as tw
from tilewright.backends.common import choice_store
from tilewright.backends.common.choices import RULE, Schedules
from tilewright.backends.common.tuner import Run
from tilewright.backends.cpu import cpu, tuning
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.weights import LARGE
from tilewright.engine import expression as ex
from tilewright.engine.backend import Options
from tilewright.engine.errors import ModelError
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.knobs import knobs
from tilewright.engine.ops import Conv, pointwise
from tilewright.engine.ops.layout import from_physical
from tilewright.engine.progress import working
from tilewright.engine.tensor import Blocked
from tilewright.frontends.dsl import conv, model, relu


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty cache folder."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_one_image_is_measured_whatever_the_batch(rng: np.random.Generator) -> None:
    """Alone, with all its operands, and by the steps of the layer only."""
    backend = cpu(Options(threads=2))
    lanes = backend.machine.target.lanes(np.dtype(np.float32))
    x, residual = (Input(name=name, shape=(8, 20, 13, 11), layout=Blocked(1, lanes)) for name in "xr")
    scale = Constant(rng.standard_normal((8, 20, 1, 1)).astype(np.float32), layout=Blocked(1, lanes))
    weight = Constant(rng.standard_normal((20, 20, 3, 3)).astype(np.float32))
    epilogue = ex.apply("mul", ex.apply("add", ex.Operand(0), ex.Operand(1)), ex.Operand(2))
    node = Conv(x, weight, None, (residual, scale), epilogue=epilogue, pads=((1, 1), (1, 1)), layout=Blocked(1, lanes))
    graph = tuning.single_image(node)
    (alone,) = graph.outputs
    assert alone.type == dc.replace(node.type, shape=(1, 20, 13, 11)) and alone.operands[1] is weight
    assert [given.type.shape for given in graph.inputs] == [(1, 20, 13, 11)] * 2
    for ballast in (np.ones(0), np.ones(1000)):
        bench = tuning.Bench(graph, backend.machine, ballast)
        given = [from_physical(a, i.type.shape, i.layout) for a, i in zip(bench.arrays[:-1], graph.inputs, strict=True)]
        expected = evaluate(widen(graph), given)
        bench.arrays[-1][:] = np.nan
        assert 0 < bench.run(RULE)() < 1
        np.testing.assert_allclose(from_physical(bench.arrays[-1], alone.type.shape, alone.layout), expected[0], rtol=1e-3, atol=1e-4)


def test_layers_that_are_alike_are_measured_once(rng: np.random.Generator) -> None:
    weights = [Constant(rng.standard_normal((24, 24, 3, 3)).astype(np.float32)) for _ in range(3)]
    x = Input(name="x", shape=(2, 24, 13, 11))
    first, second, third = (Conv(x, weight, strides=(2, 1)) for weight in weights)
    computed = Conv(x, pointwise("relu", Input(name="w", shape=(24, 24, 3, 3))), strides=(2, 1))
    other = Conv(x, weights[0])
    graph = Graph((x,), (first, second, other, third, computed), tuple("abcde"))
    assert [(node, count) for node, count in tuning.distinct_nodes(graph)] == [(first, 3), (other, 1)]


# the whole road


@model(image=("batch=1", 3, 20, 22))
def network(image: Any) -> Any:
    """Three layers that ask."""
    return conv(relu(conv(relu(conv(image, 40, 3, pad=1)), 72, 1)), 33, 1, stride=2)


def pretend(monkeypatch: pytest.MonkeyPatch, fastest: Callable[[str], int]) -> list[str]:
    """Measurements that say that the kernels with the largest of these figures are fastest; what was measured."""
    measured = list[str]()

    def run(bench: tuning.Bench, schedules: Schedules) -> Run:
        executable = NativeExecutable(bench.graph, dc.replace(bench.machine, schedules=schedules))
        text = kernels(executable)
        measured.append(text)
        return lambda: 1 / (2 + fastest(text))

    monkeypatch.setattr(tuning.Bench, "run", run)
    return measured


def kernels(executable: Any) -> str:
    return repr([step.call.kernel for step in executable.steps if step.call])


def test_winners_are_kept_and_used_again(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    measured = pretend(monkeypatch, lambda text: text.count("vectors=1,"))
    by_rule = tw.compile(network, accuracy="exact", threads=2)
    assert not measured
    tuned = tw.compile(network, accuracy="exact", threads=2, tune=True)
    assert len(measured) > 20 and kernels(tuned.executable) != kernels(by_rule.executable)
    assert kernels(tuned.executable).count("vectors=1,") > kernels(by_rule.executable).count("vectors=1,")
    x = rng.standard_normal((8, 3, 20, 22), np.float32)
    np.testing.assert_array_equal(tuned(x[:1]), by_rule(x[:1]), strict=True)

    measured.clear()
    monkeypatch.setattr(choice_store, "_remembered", {})
    again = tw.compile(network, accuracy="exact", threads=1, tune=3)
    widths = [re.findall(r"vectors=\d+", kernels(session.executable)) for session in (again, tuned)]
    assert not measured and widths[0] == widths[1], "another number of threads measures nothing anew"
    np.testing.assert_array_equal(again(x), np.concatenate([tuned(image[None]) for image in x]), strict=True)
    assert not measured, "nor does another batch"
    for session in (by_rule, tuned, again):
        large = [node for node in session.graph.find(Constant) if node.type.nbytes >= LARGE]
        assert large and not any("data" in vars(node) for node in large), "weights are in memory once, packed"
    assert kernels(tw.compile(network, accuracy="exact", threads=2).executable) == kernels(by_rule.executable), "unasked the rule decides"


def test_real_measurements(folder: pathlib.Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    with knobs(debug=1):
        session = tw.compile(network, tune=0.5, accuracy="exact")
    assert "different layers" in capsys.readouterr().out
    x = rng.standard_normal((1, 3, 20, 22), np.float32)
    np.testing.assert_array_equal(session(x), tw.compile(network, accuracy="exact")(x), strict=True)
    assert 1 <= len(tuning.store_for(cpu().machine).read()) <= 3


@pytest.mark.parametrize("tune", [-1, float("nan"), float("inf")])
def test_wrong_budgets(tune: float) -> None:
    with pytest.raises(ModelError, match="tune="):
        tw.compile(network, tune=tune)


def test_wrong_input(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in ("reference", "onnxruntime"):
        with pytest.raises(ModelError, match="tune"):
            tw.compile(network, backend=backend, tune=True)
    assert_wrong_input(cli("run", "lenet5", "--random", "--tune", "--backend", "reference"), "tune", "reference")
    monkeypatch.setenv("TILEWRIGHT_TUNE_SECONDS", "0")
    assert_wrong_input(cli("run", "lenet5", "--random", "--tune"), "tune=True", "0 seconds")


COMMANDS = {
    "run": ("--random",),
    "show": (),
    "profile": ("--repeat", "1"),
    "compile": ("-o", "FOLDER/lenet5.tw"),
    "bench": ("--rounds", "1", "--window", "0.01"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_on_the_command_line(cli: Command, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("TILEWRIGHT_TUNE_SECONDS", "2")
    given = [option.replace("FOLDER", str(folder.parent)) for option in COMMANDS[command]]
    for options, is_tuned in (((), False), (("--tune",), True)):
        ending = cli(command, "lenet5", "--threads", "2", *given, *options)
        assert ending.code == 0 and ending.err == "", ending
        assert (folder / choice_store.LOCK).exists() == is_tuned


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_on_a_terminal_only(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    pretend(monkeypatch, lambda text: 0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    with working("compiling [red]it"):
        tw.compile(network, tune=True, accuracy="exact")
    said = capsys.readouterr()
    assert ("measuring candidates for" in said.err and "compiling [red]it" in said.err) == is_terminal
    assert said.out == "" and bool(said.err) == is_terminal
