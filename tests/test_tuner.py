"""The search for faster choices with a pretended clock, and the file in which they are kept."""

from __future__ import annotations

import dataclasses as dc
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from runtime_kernels import ROOT

from tilewright.backends.common import choice_store, object_cache, tuner
from tilewright.backends.common.choice_store import ChoiceStore
from tilewright.backends.common.choices import RULE, Kept, Question, Schedules
from tilewright.backends.common.tuner import MARGIN, Layer, Run, Tuner, fastest
from tilewright.engine.errors import CompilerBug, MachineError, MachineWarning
from tilewright.engine.knobs import knobs


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty cache folder."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@dc.dataclass(frozen=True)
class Mode:
    """What a pretended layer chooses from."""

    name: str


@dc.dataclass
class Laboratory:
    """Pretended layers: `costs` are the seconds of a run by problem and mode; building takes one second."""

    costs: dict[str, dict[str, float | Callable[[int], float]]]
    now: float = 0.0
    built: list[tuple[str, str]] = dc.field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def layer(self, problem: str, seconds: float = 1.0) -> Layer:
        """A layer whose rule says the first mode."""
        modes = [Mode(name) for name in self.costs[problem]]

        def build(schedules: Schedules) -> Run:
            chosen = schedules.choose(problem, lambda: modes[0], lambda: modes)
            self.now += 1
            self.built.append((problem, chosen.name))
            return self.run(self.costs[problem][chosen.name])

        return Layer(problem, seconds, build)

    def run(self, cost: float | Callable[[int], float]) -> Run:
        calls = iter(range(1000))

        def once() -> float:
            seconds = cost(next(calls)) if callable(cost) else cost
            self.now += seconds
            return seconds

        return once

    def tune(self, budget: float = 1e6, **seconds: float) -> Kept:
        """Layers of every problem, or of those that are given."""
        found = Tuner(ChoiceStore("stamp"), budget, self.clock)
        return found.tune([self.layer(problem, seconds.get(problem, 1.0)) for problem in seconds or self.costs])

    def chosen(self, schedules: Schedules, problem: str) -> str:
        modes = [Mode(name) for name in self.costs[problem]]
        return schedules.choose(problem, lambda: modes[0], lambda: modes).name


def lucky(seconds: float) -> Callable[[int], float]:
    """Fast at a glance, slow in the final."""
    return lambda call: seconds / 10 if call < tuner.GLANCES else seconds


def test_what_is_clearly_faster_is_kept(folder: pathlib.Path) -> None:
    laboratory = Laboratory({"p": {"rule": 1.0, "slow": 1.5, "fast": 0.8, "fastest": 0.7}, "q": {"rule": 1.0, "slow": 1.1}})
    kept = laboratory.tune()
    assert (laboratory.chosen(kept, "p"), laboratory.chosen(kept, "q")) == ("fastest", "rule")
    assert not kept.open
    assert laboratory.chosen(RULE, "p") == "rule", "without tuning the rule decides"


@pytest.mark.parametrize("other", [1.0, 1.0 - MARGIN, 1.2, lucky(1.01)], ids=["equal", "within the margin", "slower", "lucky at first"])
def test_what_is_not_clearly_faster_is_not_kept(folder: pathlib.Path, other: float | Callable[[int], float]) -> None:
    laboratory = Laboratory({"p": {"rule": 1.0, "other": other}})
    kept = laboratory.tune()
    assert laboratory.chosen(kept, "p") == "rule" and not kept.open
    laboratory.built.clear()
    laboratory.tune()
    assert laboratory.built == [("p", "rule")], "that the rule won is kept, too"


@pytest.mark.parametrize("error", [MachineError, CompilerBug])
def test_what_the_machine_refuses_is_left_out(folder: pathlib.Path, error: type[Exception]) -> None:
    def refused(call: int) -> float:
        raise error("too many registers")

    laboratory = Laboratory({"p": {"rule": 1.0, "refused": refused, "fast": 0.7}})
    with pytest.warns(MachineWarning, match="tuning p leaves Mode.*refused.* out: too many registers"):
        kept = laboratory.tune()
    assert laboratory.chosen(kept, "p") == "fast" and ("p", "refused") in laboratory.built


def test_rounds_are_interleaved(folder: pathlib.Path) -> None:
    """A machine that others slow down until second 42 does so for all: whoever ran alone before would seem to be slow."""
    laboratory = Laboratory({"p": {"rule": 0.0, "other": 0.0}})

    def pace() -> float:
        return 3.0 if laboratory.now < 42 else 1.0

    laboratory.costs["p"] = {"rule": lambda call: pace(), "other": lambda call: pace() * (0.5 if call < tuner.GLANCES else 1.01)}
    assert laboratory.chosen(laboratory.tune(), "p") == "rule" and laboratory.now > 42


def test_the_winner_of_rounds(rng: np.random.Generator) -> None:
    rule, spoilt, better = (np.full(9, 1.0) for _ in range(3))
    spoilt[2] = 0.5
    better[:] = 0.9
    noise = 1 + 0.001 * rng.random((9, 2))
    assert fastest(np.stack([rule, spoilt], 1) * noise) == 0, "one lucky round"
    assert fastest(np.stack([rule, better], 1) * noise) == 1
    unlucky = rule.copy()
    unlucky[:6] = 4.0
    assert fastest(np.stack([unlucky, rule], 1)) == 0, "the rule was disturbed in most rounds, but its best is as good"


@pytest.mark.parametrize("budget", [0.5, 7.0, 25.0, 60.0])
def test_the_budget_is_kept(folder: pathlib.Path, budget: float) -> None:
    modes = {"rule": 0.1, **{f"m{i}": 0.1 + 0.01 * i for i in range(9)}}
    laboratory = Laboratory({f"p{i}": dict(modes) for i in range(5)})
    kept = laboratory.tune(budget)
    one_more = 1 + tuner.GLANCES * 0.2
    assert laboratory.now <= budget + one_more
    for problem in laboratory.costs:
        laboratory.chosen(kept, problem)
    assert bool(kept.open) == (budget < 25)
    for _ in range(10):
        kept = laboratory.tune(25.0)
    for problem in laboratory.costs:
        laboratory.chosen(kept, problem)
    assert not kept.open, "what the time did not suffice for is measured the next time"


def test_time_goes_where_it_is_spent(folder: pathlib.Path) -> None:
    laboratory = Laboratory({name: {"rule": 0.01, "other": 0.02} for name in ("short", "long", "middle")})
    laboratory.tune(4.0, short=1.0, long=8.0, middle=3.0)
    assert laboratory.built[0] == ("long", "rule") and "short" not in dict(laboratory.built)


def test_an_answer_may_raise_another_question(folder: pathlib.Path) -> None:
    """Only who ends up with the direct algorithm asks for its tile."""
    seconds = {"direct tall": 1.0, "direct wide": 0.6, "winograd": 0.8}
    asked = []

    def build(schedules: Schedules) -> Run:
        algorithm = schedules.choose("algorithm", lambda: "winograd", lambda: ["direct", "winograd"])
        tile = schedules.choose("tile", lambda: "tall", lambda: ["tall", "wide"]) if algorithm == "direct" else ""
        choice = f"{algorithm} {tile}".rstrip()
        asked.append(choice)
        return lambda: seconds[choice]

    def outcome() -> str:
        build(Tuner(ChoiceStore("stamp"), 0.0).tune([]))
        return asked[-1]

    Tuner(ChoiceStore("stamp"), 5.0).tune([Layer("layer", 1.0, build)])
    assert outcome() == "winograd" and "direct wide" not in asked
    seconds |= {"direct tall": 0.7}
    choice_store._remembered.clear()
    for file in folder.iterdir():
        file.unlink()
    Tuner(ChoiceStore("stamp"), 5.0).tune([Layer("layer", 1.0, build)])
    assert "direct wide" in asked and outcome() == "direct wide"


def test_answers_only_to_the_same_question() -> None:
    question = Question("p", Mode("a"), (Mode("b"),))
    more, other_rule = Question("p", Mode("a"), (Mode("b"), Mode("c"))), Question("q", Mode("a"), (Mode("b"),))
    assert len({question.key, more.key, other_rule.key}) == 3 and question.key == Question("p", Mode("a"), (Mode("b"),)).key
    assert question.answer("Mode(name='b')") == Mode("b")
    for text in (None, "Mode(name='c')", "", "__import__('os')"):
        with pytest.raises(KeyError):
            question.answer(text)
    kept = Kept({question.key: "Mode(name='b')"})
    assert kept.choose("p", lambda: Mode("a"), lambda: [Mode("a"), Mode("b")]) == Mode("b") and not kept.open
    assert kept.choose("p", lambda: Mode("a"), lambda: [Mode("a")]) == Mode("a") and not kept.open, "nothing to choose from"
    assert kept.choose("p", lambda: Mode("a"), lambda: [Mode("c")]) == Mode("a") and len(kept.open) == 1


# the store


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(choice_store, "_remembered", {})
    monkeypatch.setattr(object_cache, "_opened", {})


def test_kept_for_the_next_process(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ChoiceStore("a").add({"é": "1", "second": "2"}) == {"é": "1", "second": "2"}
    forget(monkeypatch)
    assert ChoiceStore("a").read() == {"é": "1", "second": "2"} and ChoiceStore("b").read() == {}
    assert ChoiceStore("a").add({"second": "later", "third": "3"}) == {"é": "1", "second": "2", "third": "3"}, "the first answer stays"
    forget(monkeypatch)
    assert len(ChoiceStore("a").read()) == 3
    assert len(list(folder.glob("*.o"))) == 1 and not list(folder.glob("*.new"))


@pytest.mark.parametrize("damage", [b"", b"{}", b"garbage" * 99], ids=["empty", "short", "garbage"])
def test_a_damaged_file_is_replaced(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    ChoiceStore("a").add({"first": "1"})
    (path,) = folder.glob("*.o")
    path.write_bytes(damage)
    forget(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ChoiceStore("a").read() == {}
        assert ChoiceStore("a").add({"second": "2"}) == {"second": "2"}
    forget(monkeypatch)
    assert ChoiceStore("a").read() == {"second": "2"}


def test_without_a_folder_the_process_remembers(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    with knobs(cache_dir="off"):
        assert ChoiceStore("a").add({"first": "1"}) == ChoiceStore("a").read() == {"first": "1"}
    (tmp_path / "file").touch()
    with knobs(cache_dir=str(tmp_path / "file" / "cache")), pytest.warns(MachineWarning, match="TILEWRIGHT_CACHE_DIR"):
        assert ChoiceStore("a").read() == {}
        ChoiceStore("a").add({"second": "2"})
        assert ChoiceStore("a").add({"third": "3"}) == {"second": "2", "third": "3"}


WRITER = """
import sys
from tilewright.backends.common.choice_store import ChoiceStore
store = ChoiceStore("stamp")
for i in range(30):
    store.add({f"{sys.argv[1]} {i}": "x", f"both {i}": sys.argv[1]})
print(sorted((k, v) for k, v in ChoiceStore("stamp").read().items() if k.startswith("both")))
"""


def test_processes_that_write_at_once_lose_nothing_and_agree(folder: pathlib.Path) -> None:
    environment = {"PYTHONPATH": str(ROOT / "src"), "TILEWRIGHT_CACHE_DIR": str(folder), "OPENBLAS_NUM_THREADS": "1", "PATH": ""}
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, name], env=environment, stdout=subprocess.PIPE, text=True) for name in "abc"]
    said = [writer.communicate(timeout=120)[0] for writer in writers]
    assert all(writer.returncode == 0 for writer in writers)
    kept = ChoiceStore("stamp").read()
    assert len(kept) == 4 * 30
    assert set(said) == {f"{sorted((k, v) for k, v in kept.items() if k.startswith('both'))}\n"}


def test_a_child_forked_meanwhile_holds_no_lock(folder: pathlib.Path) -> None:
    store = ChoiceStore("a")
    with store._alone():
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        done = threading.Thread(target=store.add, args=({"first": "1"},), daemon=True)
        done.start()
        done.join(20)
        assert not done.is_alive()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
