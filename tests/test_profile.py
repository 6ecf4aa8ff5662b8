"""Where the time of a run goes: every step is there, under its names, with what it costs."""

from __future__ import annotations

import collections
import dataclasses as dc
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import pytest
from command_line import Command, assert_wrong_input
from cuda_harness import needs_compiler

import tilewright as tw
from tilewright.engine import plugins, profiling, rest
from tilewright.engine.backend import Itemized, Measurable, Options
from tilewright.engine.cli.profile import print_lagging
from tilewright.engine.graph import Graph, Input, Node
from tilewright.engine.ops import Conv, MatMul, MaxPool
from tilewright.engine.ops.layout import Reorder
from tilewright.engine.profiling import CONTRACTIONS, Profile, Row
from tilewright.engine.tensor import Blocked

QUICK = ("--repeat", "1", "--threads", "2")


@pytest.fixture
def digit(rng: np.random.Generator) -> np.ndarray:
    return rng.random((1, 1, 28, 28), np.float32)


def test_every_step_under_its_names(cli: Command) -> None:
    ending = cli("profile", "lenet5", *QUICK)
    assert ending.code == 0 and ending.err == "", ending
    steps, totals, lagging, whole = re.split(r"\n== .*\n", ending.out)[1:]
    for operator, name in (
        ("conv", "conv1, tanh1"),
        ("average_pool", "average_pool2"),
        ("mat_mul", "linear1, tanh3"),
        ("softmax", "softmax1"),
    ):
        assert sum(line.split()[0] == operator and line.endswith(f" {name}") for line in steps.splitlines()) == 1, name
    counted = collections.Counter[str]()  # an operator has a line for each of its kernels
    for line in totals.splitlines()[1:]:
        counted[line.split()[0]] += int(line.split()[2])
    executable = tw.compile("lenet5", threads=2).executable
    assert isinstance(executable, Itemized) and counted == collections.Counter(node.opname for node, _ in executable.items())
    assert sum(line.startswith("conv ") for line in steps.splitlines()) == 2, "however many steps a convolution takes"
    parts = {cells[2]: cells[0].split() for line in whole.splitlines()[1:] if len(cells := re.split(r"\s{2,}", line.strip())) == 4}
    assert {"the whole run", "the steps", "reorders", "contractions alone", "on one thread"} <= parts.keys()
    (whole_run, unit), (alone, same_unit) = parts["the whole run"], parts["contractions alone"]
    ratio = re.search(r"the whole run / contractions alone = (\S+)\n", whole)
    assert ratio and unit == same_unit and float(ratio[1]) == pytest.approx(float(whole_run) / float(alone), rel=0.02, abs=0.006)
    assert lagging.strip() == "none" or lagging.split()[:3] == ["operator", "kernel", "time"]
    found = re.search(r"= 1 - ([\d.e-]+) / \(2 x ([\d.e-]+)\) = (-?[\d.]+)%", whole)
    assert found and float(found[3]) == pytest.approx(100 * (1 - float(found[1]) / (2 * float(found[2]))), abs=0.2)


def test_the_slowest_steps_first(cli: Command) -> None:
    everything, two = (cli("profile", "lenet5", *QUICK, *options).out.split("\n== ")[1] for options in ((), ("--top", "2")))
    assert len(two.strip().splitlines()) == 2 + 2 < len(everything.strip().splitlines())
    slower, faster = (float(line.split()[2]) for line in two.strip().splitlines()[2:])
    assert slower >= faster > 0


def shown(text: str, times: int) -> list[str]:
    """The lines of a table with times after so many columns, which must fall."""
    lines = text.strip().splitlines()[1:]
    found = [milliseconds(line, times) for line in lines]
    assert found == sorted(found, reverse=True)
    return lines


def milliseconds(line: str, column: int = 0) -> float:
    number, unit = line.split()[column : column + 2]
    return float(number) * {"ms": 1, "s": 1e3}[unit]


def test_a_backend_that_knows_only_times(cli: Command) -> None:
    ending = cli("profile", "lenet5", "--backend", "reference", "--repeat", "1")
    assert ending.code == 0 and "conv1" in ending.out and "GFLOP/s" not in ending.out
    steps, whole = re.split(r"\n== .*\n", cli("profile", "lenet5", "--backend", "reference", "--repeat", "1", "--top", "3").out)
    assert len(shown(steps, 0)) == 3
    assert "the whole run" in whole and "around the steps" in whole


def test_a_compiled_model(cli: Command, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "lenet5.tw"
    tw.compile("lenet5", threads=1).save(file)
    ending = cli("profile", file, "--repeat", "1", "--top", "2")
    assert ending.code == 0, ending
    steps, whole = re.split(r"\n== .*\n", ending.out)
    assert len(shown(steps, 0)) == 2 and "the whole run" in whole
    assert len(cli("profile", file, "--repeat", "1").out.split("\n== ")[0].splitlines()) > 3


@needs_compiler
def test_nodes_without_a_peak(cli: Command) -> None:
    """What is known of nodes is printed also where the backend measures no peak."""
    ending = cli("profile", "lenet5", "--backend", "cuda-emulated", "--repeat", "1", "--top", "3")
    assert ending.code == 0, ending
    steps, totals, whole = re.split(r"\n== .*\n", ending.out)
    assert len(shown(steps, 2)) == 3 and steps.splitlines()[0].split()[:2] == ["operator", "kernel"]
    assert "names in the model" in steps and "% of peak" not in steps and "gain" not in steps
    counted = collections.Counter[str]()
    for line in shown(totals, 3):
        counted[line.split()[0]] += int(line.split()[2])
    executable = tw.compile("lenet5", backend="cuda-emulated").executable
    assert isinstance(executable, Itemized) and counted == collections.Counter(node.opname for node, _ in executable.items())
    whole_run, total, around = (milliseconds(line) for line in whole.strip().splitlines()[1:])
    assert whole_run > 0 and around == pytest.approx(whole_run - total, abs=0.02 * (whole_run + total))


def test_wrong_input(cli: Command) -> None:
    assert_wrong_input(cli("profile", "lenet5", "--top", "0"), "--top", "a positive number")
    assert_wrong_input(cli("profile", "lenet5", "--backend", "thing"), "no 'thing' among the backends")


def test_costs_are_those_of_the_graph(digit: np.ndarray) -> None:
    executable = tw.compile("lenet5", threads=2).executable
    single = tw.compile("lenet5", threads=1).executable
    found = profiling.measure(executable, single, 2, [digit], repeats=1)
    assert sum(row.flops for row in found.rows) == executable.graph.flops() > 8e5
    assert isinstance(executable, Itemized) and sum(row.steps for row in found.rows) == len(executable.items())
    assert [label.split()[0] for label, _ in executable.profile([digit], 1)] == [node.opname for node, _ in executable.items()]
    assert found.wall > 0 and found.alone > 0 and found.single > 0
    assert found.lost == pytest.approx(1 - found.single / (2 * found.wall))
    assert sum(row.seconds for row in profiling.totals(found.rows)) == pytest.approx(sum(row.seconds for row in found.rows))
    assert found.steps > 0
    kernels = [row.single for row in found.rows if row.kind is not Reorder]
    assert all(single and single > 0 for single in kernels) and sum(filter(None, kernels)) == pytest.approx(found.single)


def test_contractions_alone(rng: np.random.Generator) -> None:
    """Only they are timed, and the others still run, so that operands are what they are in a whole run."""
    session = tw.compile("lenet5", threads=2)
    executable = session.executable
    assert isinstance(executable, Itemized)
    x = rng.random((1, 1, 28, 28), np.float32)
    expected = session(x)
    times = executable.profile_alone([x], CONTRACTIONS, repeats=2)
    for (node, _), seconds in zip(executable.items(), times, strict=True):
        assert (seconds > 0) == isinstance(node, Conv | MatMul)
    assert not any(executable.profile_alone([x], (), repeats=2))
    np.testing.assert_array_equal(session(x), expected)


def test_rows_of_one_node_are_one_and_totals_are_sums() -> None:
    x = Input(name="x", shape=(4, 5))
    weight = Input(name="w", shape=(5, 3))
    first, second = MatMul(x, weight), MatMul(x, weight, origin=("b", "c"))
    found = profiling.rows([(first, "pack"), (first, "gemm"), (first, "gemm"), (second, "gemm")], [1.0, 2.0, 4.0, 8.0])
    assert [(row.kernel, row.seconds, row.steps, row.origin) for row in found] == [
        ("pack + gemm", 7.0, 3, ()),
        ("gemm", 8.0, 1, ("b", "c")),
    ]
    assert found[0].flops == 2 * 4 * 5 * 3 and found[0].nbytes == 4 * (20 + 15 + 12)
    assert found[1].rate == 15.0 and found[1].traffic == 4 * 47 / 8
    (total,) = profiling.totals(found, lambda row: row.operator)
    assert (total.seconds, total.flops, total.nbytes, total.steps) == (15.0, 240, 2 * 4 * 47, 4)
    assert [row.kernel for row in profiling.totals(found)] == ["gemm", "pack + gemm"]


def row(kind: type, seconds: float, single: float | None = None, nbytes: int = 0) -> Row:
    return Row(kind, kind.__name__, "k", (f"{kind.__name__} of {seconds}",), seconds, 0, nbytes, single=single)


def test_reorders_are_lost_time() -> None:
    profile = Profile(2, (row(Reorder, 1.0), row(Conv, 6.0)), wall=8.0, steps=7.0, alone=5.0, single=10.0)
    assert (profile.reorders, profile.lost) == (1.0, 1 - 10 / 16)


def test_what_gains_too_little_from_threads(capsys: pytest.CaptureFixture[str]) -> None:
    steps = (row(Conv, 2e-4, 3.6e-4, 4_000_000), row(Conv, 1e-3, 1.9e-3), row(Conv, 9e-5, 9e-5), row(MaxPool, 1.0, 1.0), row(MatMul, 1.0))
    assert [step.gain for step in steps] == [pytest.approx(1.8), pytest.approx(1.9), 1.0, 1.0, None]
    profile = Profile(2, steps, wall=3.0, steps=2.0, alone=1.0, single=2.0)
    assert profile.lagging() == [steps[0]]
    assert dc.replace(profile, threads=1).lagging() == [] and dc.replace(profile, threads=4).lagging() == list(steps[:2])
    print_lagging(profile, 40e9)
    heading, _, line = capsys.readouterr().out.strip().splitlines()
    assert heading == "== convolutions and products above 0.1 ms that gain less than 1.85"
    assert line.split()[2:] == ["0.2", "ms", "0.36", "ms", "1.80", "20", "50.0", "Conv", "of", "0.0002"]
    print_lagging(dc.replace(profile, threads=1), 40e9)
    assert capsys.readouterr().out == ""


def test_rows_beside_those_of_one_thread() -> None:
    many, one = [row(Conv, 1.0), row(MatMul, 2.0)], [row(Conv, 1.0), row(MatMul, 2.0)]
    one = [dc.replace(each, seconds=3 * each.seconds) for each in one]
    assert [each.single for each in profiling.beside(many, one)] == [3.0, 6.0]
    assert profiling.beside(many, one[:1]) == many and profiling.beside(many, one[::-1]) == many, "other nodes, nothing to compare"
    (total,) = profiling.totals(profiling.beside(many, one), lambda each: None)
    assert (total.seconds, total.single) == (3.0, 9.0)
    (total,) = profiling.totals([*many, dc.replace(many[0], single=1.0)], lambda each: None)
    assert total.single is None


def test_memory() -> None:
    assert 1e8 < profiling.memory_rate(2) < 1e13


class Pretend:
    """A plan of one convolution between two reorders; each step takes a second more than the one before."""

    def __init__(self) -> None:
        x, weight = Input(name="x", shape=(1, 20, 6, 7)), Input(name="w", shape=(9, 20, 1, 1))
        blocked = Reorder(x, layout=Blocked(1, 16))
        conv = Conv(blocked, weight, strides=(1, 1), pads=((0, 0), (0, 0)), dilations=(1, 1))
        self.graph = Graph((x, weight), (Reorder(conv),), ("y",))
        self.steps = [node for node in self.graph if isinstance(node, Reorder | Conv)]

    def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        return list(inputs)

    def describe(self) -> str:
        return ""

    def profile(self, inputs: Sequence[np.ndarray], repeats: int = 10) -> list[tuple[str, float]]:
        return [(node.opname, 1.0 + i) for i, node in enumerate(self.steps)]

    def items(self) -> list[tuple[Node, str]]:
        return [(node, "k") for node in self.steps]

    def profile_alone(self, inputs: Sequence[np.ndarray], kinds: tuple[type[Node], ...], repeats: int = 10) -> list[float]:
        return [0.5 * isinstance(node, kinds) for node in self.steps]


def test_kernels_of_one_thread_leave_reorders_out(rng: np.random.Generator) -> None:
    found = profiling.measure(Pretend(), Pretend(), 1, [rng.standard_normal(3)], 1)
    assert (found.steps, found.reorders, found.single, found.alone) == (6.0, 4.0, 2.0, 0.5)


def test_how_busy_others_are(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = tmp_path / "stat"

    def later(seconds: float) -> None:
        statistics.write_text("cpu  130 20 40 580 20 5 5 0 900 900\ncpu0 1 1 1 1 1 1 1 1\n")

    monkeypatch.setattr(rest.time, "sleep", later)
    monkeypatch.setattr(rest.os, "cpu_count", lambda: 4)
    statistics.write_text("cpu  100 20 30 500 10 5 5 0 100 100\n")
    busy = rest.rest(0.1, statistics)
    assert busy == pytest.approx(4 * (1 - 90 / 130))
    assert rest.warning(busy).startswith("other processes kept 1.2 of 4 processors busy")
    assert rest.warning(None) == rest.warning(0.05) == ""
    monkeypatch.setattr(rest.time, "sleep", lambda seconds: None)
    assert rest.rest(0.1, statistics) is None and rest.rest(0.1, tmp_path / "absent") is None


def test_the_peak_of_the_cpu_backend() -> None:
    backend = plugins.load("backends", "cpu")(Options(threads=1))
    assert isinstance(backend, Measurable) and backend.threads == 1
    assert 1e9 < backend.peak() < 1e13
    assert not isinstance(plugins.load("backends", "reference")(Options()), Measurable)
